"""Operations on parked work: jobs and deliveries that wait for a person."""

from collections.abc import Callable

from kernel.db import Transaction
from kernel.errors import Category, Problem
from privacy.principal import Principal
from service.operations.context import OperationContext


def replay_job(context: OperationContext, principal: Principal, job: str) -> None:
    """Make a parked job due again.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who acts.
    job
        Its id.

    Raises
    ------
    Problem
        ``forbidden``; ``not-found`` when no parked job has that id.
    """
    context.authorize(principal, "job-replay", job)
    if not context.database.write(_replaying(context, principal, job, job=True)):
        raise Problem(Category.NOT_FOUND, "no parked job has this id; it may have been replayed already")


def replay_delivery(context: OperationContext, principal: Principal, delivery: str) -> None:
    """Queue a parked delivery again.

    Parameters, and what is raised, as for :func:`replay_job`; ``delivery`` is the id of the delivery.
    """
    context.authorize(principal, "delivery-replay", delivery)
    if not context.database.write(_replaying(context, principal, delivery, job=False)):
        raise Problem(Category.NOT_FOUND, "no parked delivery has this id; it may have been replayed already")


def _replaying(
    context: OperationContext, principal: Principal, identifier: str, *, job: bool
) -> Callable[[Transaction], bool]:
    replay = context.jobs.replay if job else context.outbox.replay
    command = "job-replayed" if job else "delivery-replayed"

    def work(tx: Transaction) -> bool:
        found = replay(tx, identifier)
        if found:
            context.record(tx, principal, command, f"urn:uuid:{identifier}")
        return found

    return work
