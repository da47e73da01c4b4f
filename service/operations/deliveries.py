"""Operations on deliveries: park, dismiss and replay one or many, and open what the peer said."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kernel import backlog
from kernel.backlog import DeliveryFilter, QueuedDelivery
from kernel.db import Transaction
from kernel.errors import Category, Problem
from privacy import balp
from privacy.principal import Principal
from service.operations.context import OperationContext
from service.operations.reason import checked

MOST_AT_ONCE: Final = 1000
"""Deliveries that one command replays; the others stay parked for the next."""


@dataclass(frozen=True, kw_only=True)
class OpenedDelivery:
    """A delivery, and what its destination said."""

    delivery: QueuedDelivery
    #: The peer's own words at the last failure; may contain PHI.
    answer: str


def open_delivery(context: OperationContext, principal: Principal, delivery: str) -> OpenedDelivery:
    """Return a delivery with the peer's own words; the access is recorded before anything is returned.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who asks.
    delivery
        Its id.

    Raises
    ------
    Problem
        ``forbidden``; ``not-found`` when there is none of that id.
    """
    context.authorize(principal, "delivery-open", delivery)
    with context.database.read() as connection:
        found = backlog.one(connection, delivery)
        if found is None:
            raise Problem(Category.NOT_FOUND, "there is no such delivery")
        opened = OpenedDelivery(delivery=found, answer=context.outbox.answer(connection, delivery))
    event = balp.read(principal, entity=_urn(delivery), patient=found.patient, at=context.clock.now())
    context.database.write(lambda tx: context.audit.record(tx, event))
    return opened


def park(context: OperationContext, principal: Principal, delivery: str, reason: str) -> None:
    """Take a pending delivery out of the queue, so that those behind it go on.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who acts.
    delivery
        Its id.
    reason
        Why; recorded, no PHI.

    Raises
    ------
    Problem
        ``forbidden``; ``incorrect`` without a fit reason; ``not-found`` when no pending delivery has that id.
    """
    context.authorize(principal, "delivery-park", delivery)
    stated = checked(reason)
    if not context.database.write(_recorded(context, principal, context.outbox.park, delivery, "parked", stated)):
        raise Problem(Category.NOT_FOUND, "no pending delivery has this id")


def dismiss(context: OperationContext, principal: Principal, delivery: str, reason: str) -> None:
    """Decide that a pending or parked delivery is never sent.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who acts.
    delivery
        Its id.
    reason
        Why; recorded, no PHI.

    Raises
    ------
    Problem
        ``forbidden``; ``incorrect`` without a fit reason; ``not-found`` when no pending or parked delivery has that id.
    """
    context.authorize(principal, "delivery-dismiss", delivery)
    stated = checked(reason)
    if not context.database.write(_recorded(context, principal, context.outbox.dismiss, delivery, "dismissed", stated)):
        raise Problem(Category.NOT_FOUND, "no pending or parked delivery has this id")


def replay(context: OperationContext, principal: Principal, delivery: str) -> None:
    """Queue a parked delivery again, or try a held one at once.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who acts.
    delivery
        Its id.

    Raises
    ------
    Problem
        ``forbidden``; ``not-found`` when no parked or pending delivery has that id.
    """
    context.authorize(principal, "delivery-replay", delivery)
    if not context.database.write(_recorded(context, principal, context.outbox.replay, delivery, "replayed")):
        raise Problem(Category.NOT_FOUND, "no parked delivery has this id; it may have been replayed already")


def replay_all(context: OperationContext, principal: Principal, wanted: DeliveryFilter) -> int:
    """Queue every parked delivery again that a filter selects, :data:`MOST_AT_ONCE` at most; each is recorded.

    Parameters
    ----------
    context
        What operations use.
    principal
        Who acts.
    wanted
        Destination, category and time; the status is always ``parked``.

    Returns
    -------
    int
        How many.

    Raises
    ------
    Problem
        ``forbidden``.
    """
    context.authorize(principal, "delivery-replay")

    def work(tx: Transaction) -> int:
        found = backlog.listing(tx.connection, dataclasses.replace(wanted, status="parked"), MOST_AT_ONCE)
        return sum(_recorded(context, principal, context.outbox.replay, one.id, "replayed")(tx) for one in found)

    return context.database.write(work)


def _recorded(
    context: OperationContext,
    principal: Principal,
    act: Callable[[Transaction, str], bool],
    delivery: str,
    done: str,
    reason: str = "",
) -> Callable[[Transaction], bool]:
    def work(tx: Transaction) -> bool:
        found = act(tx, delivery)
        if found:
            context.record(tx, principal, f"delivery-{done}", _urn(delivery), reason)
        return found

    return work


def _urn(delivery: str) -> str:
    return f"urn:uuid:{delivery}"
