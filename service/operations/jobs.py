"""Operations on parked jobs."""

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

    def work(tx: Transaction) -> bool:
        found = context.jobs.replay(tx, job)
        if found:
            context.record(tx, principal, "job-replayed", f"urn:uuid:{job}")
        return found

    if not context.database.write(work):
        raise Problem(Category.NOT_FOUND, "no parked job has this id; it may have been replayed already")
