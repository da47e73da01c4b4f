"""Operations on subscriptions: list them, try one again that is in error, stop one."""

from fhir_adapter.subscriptions import rows
from fhir_adapter.subscriptions.observer import NOTIFY, lock_of
from fhir_adapter.subscriptions.rows import SubscriptionRow
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.jobs import Due
from privacy.principal import Principal
from service.operations.context import OperationContext
from service.operations.reason import checked


def listing(context: OperationContext) -> list[SubscriptionRow]:
    """Return every subscription."""
    with context.database.read() as connection:
        return rows.listing(connection)


def replay(context: OperationContext, principal: Principal, subscription: str) -> None:
    """Send the events that wait at once, also those of a subscription in error.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who acts.
    subscription
        Id of the Subscription.

    Raises
    ------
    Problem
        ``forbidden``; ``not-found`` when nothing is sent for a Subscription with this id.
    """
    context.authorize(principal, "subscription-replay", subscription)
    _change(context, principal, subscription, rows.ACTIVE, "replayed")


def stop(context: OperationContext, principal: Principal, subscription: str, reason: str) -> None:
    """Send nothing more for a subscription; its client may request it again.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who acts.
    subscription
        Id of the Subscription.
    reason
        Why; recorded, no PHI.

    Raises
    ------
    Problem
        ``forbidden``; ``incorrect`` without a fit reason; ``not-found`` as for :func:`replay`.
    """
    context.authorize(principal, "subscription-stop", subscription)
    _change(context, principal, subscription, rows.OFF, "stopped", checked(reason))


def _change(
    context: OperationContext, principal: Principal, subscription: str, state: str, done: str, reason: str = ""
) -> None:
    def work(tx: Transaction) -> bool:
        row = rows.one(tx.connection, subscription)
        if row is None or row.state == rows.OFF:
            return False
        waits_for_handshake = state == rows.ACTIVE and row.state == rows.REQUESTED
        problem = "it was stopped here" if state == rows.OFF else None
        rows.set_state(tx, subscription, row.state if waits_for_handshake else state, problem)
        lock = lock_of(subscription)
        payload = {"subscription": subscription}
        due = Due(context.clock.now(), "earlier")
        context.jobs.enqueue(tx, NOTIFY, payload, lock=lock, queueing_lock=lock, due=due)
        context.record(tx, principal, f"subscription-{done}", f"Subscription/{subscription}", reason)
        return True

    if not context.database.write(work):
        raise Problem(Category.NOT_FOUND, "nothing is sent for a Subscription with this id")
