"""The rows of subscriptions and of their events.

The number of an event is assigned in the commit of the change, from a counter in the row of its subscription: the
numbers have no gaps, and an event keeps its number through every retry, restart and replay.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from kernel.db import Transaction
from kernel.statements import Statement
from kernel.tables import subscription_events, subscriptions

REQUESTED: Final = "requested"
ACTIVE: Final = "active"
ERROR: Final = "error"
OFF: Final = "off"

KEPT: Final = timedelta(days=30)
"""For so long an event that was accepted can be asked for with ``$events``."""

_ROWS: Final = subscriptions.c
_EVENTS: Final = subscription_events.c
_REVISION: Final = Statement(select(func.max(_ROWS.revision)))
_LOCK: Final = "subscriptions"
_NO_FAILURE: Final[Mapping[str, Any]] = {"failures": 0, "failing_since": None, "next_at": None}


@dataclass(frozen=True, kw_only=True)
class SubscriptionRow:
    """What is stored of one subscription."""

    id: str
    revision: int
    state: str
    #: JSON of the Subscription as it is stored.
    definition: str
    events: int
    sent: int
    sent_at: datetime | None
    failures: int
    failing_since: datetime | None
    next_at: datetime | None
    problem: str | None


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event of a subscription."""

    number: int
    #: Versioned reference.
    reference: str
    patient: str | None
    at: datetime


def revision(connection: Connection) -> int:
    """Return the number of the newest change of what is watched; 0 when nothing was ever watched."""
    return int(_REVISION.run(connection).scalar() or 0)


def watching(connection: Connection) -> list[SubscriptionRow]:
    """Return the subscriptions whose events are recorded: those in error too, so that nothing is missing later."""
    found = select(subscriptions).where(_ROWS.state.in_((REQUESTED, ACTIVE, ERROR))).order_by(_ROWS.id)
    return [_row(row) for row in connection.execute(found)]


def listing(connection: Connection) -> list[SubscriptionRow]:
    """Return every subscription, by id."""
    return [_row(row) for row in connection.execute(select(subscriptions).order_by(_ROWS.id))]


def one(connection: Connection, subscription: str) -> SubscriptionRow | None:
    """Return one subscription; None when there is none.

    Parameters
    ----------
    connection
        A connection that can read.
    subscription
        Its id.
    """
    row = connection.execute(select(subscriptions).where(_ROWS.id == subscription)).first()
    return None if row is None else _row(row)


def register(tx: Transaction, subscription: str, state: str, definition: str) -> None:
    """Store what a Subscription watches from now on; its events keep their numbers.

    Parameters
    ----------
    tx
        The transaction that stores the Subscription.
    subscription
        Its id.
    state
        Its status.
    definition
        Its JSON.
    """
    tx.lock(_LOCK)
    values = {"state": state, "definition": definition, "revision": _next_revision(tx), **_NO_FAILURE, "problem": None}
    changed = tx.execute(update(subscriptions).where(_ROWS.id == subscription), values)
    if changed.rowcount == 0:
        tx.execute(insert(subscriptions), {"id": subscription, "events": 0, "sent": 0, **values})


def redefine(tx: Transaction, subscription: str, definition: str) -> None:
    """Store another version of a Subscription that watches the same in the same state.

    Parameters
    ----------
    tx, subscription, definition
        As for :func:`register`.
    """
    tx.lock(_LOCK)
    values = {"definition": definition, "revision": _next_revision(tx)}
    tx.execute(update(subscriptions).where(_ROWS.id == subscription), values)


def set_state(tx: Transaction, subscription: str, state: str, problem: str | None = None) -> None:
    """Change the state of a subscription; the count of failures begins again at 0.

    Parameters
    ----------
    tx
        The transaction that stores the Subscription with this status.
    subscription
        Its id.
    state
        The new state.
    problem
        Why; no PHI.
    """
    tx.lock(_LOCK)
    values = {"state": state, "revision": _next_revision(tx), "problem": problem}
    values |= _NO_FAILURE
    tx.execute(update(subscriptions).where(_ROWS.id == subscription), values)


def add_events(tx: Transaction, subscription: str, changes: Sequence[tuple[str, str | None, datetime]]) -> Any:
    """Add events to a subscription, and return its row: how many there are now, and until when it is held.

    Parameters
    ----------
    tx
        The transaction of the changes.
    subscription
        Its id.
    changes
        Reference, patient and time of each event, in their order.
    """
    row = tx.execute(_COUNT, {"of_id": subscription, "more": len(changes)}).first()
    if row is None:
        return None
    first = row.events - len(changes) + 1
    tx.execute(
        insert(subscription_events),
        [
            {
                "subscription": subscription,
                "number": first + place,
                "reference": reference,
                "patient": patient,
                "at": at,
            }
            for place, (reference, patient, at) in enumerate(changes)
        ],
    )
    return row


_COUNT: Final = Statement(
    update(subscriptions)
    .where(_ROWS.id == bindparam("of_id"))
    .values(events=_ROWS.events + bindparam("more"))
    .returning(_ROWS.events, _ROWS.next_at)
)


def events(connection: Connection, subscription: str, after: int, *, until: int, count: int) -> list[Event]:
    """Return events of a subscription in their order.

    Parameters
    ----------
    connection
        A connection that can read.
    subscription
        Its id.
    after, until
        Numbers: those greater than the first, up to the second.
    count
        The largest number of events to return.
    """
    these = _EVENTS.subscription == subscription, _EVENTS.number > after, _EVENTS.number <= until
    found = select(subscription_events).where(*these).order_by(_EVENTS.number).limit(count)
    return [
        Event(number=row.number, reference=row.reference, patient=row.patient, at=row.at)
        for row in connection.execute(found)
    ]


def accepted(tx: Transaction, subscription: str, number: int, at: datetime) -> None:
    """Record that the endpoint accepted everything up to an event.

    Parameters
    ----------
    tx
        Any transaction.
    subscription
        Its id.
    number
        Number of the newest event that was sent.
    at
        The current time.
    """
    values = {"sent": number, "sent_at": at, **_NO_FAILURE, "problem": None}
    tx.execute(update(subscriptions).where(_ROWS.id == subscription, _ROWS.sent <= number), values)
    old = _EVENTS.subscription == subscription, _EVENTS.number <= number, _EVENTS.at < at - KEPT
    tx.execute(delete(subscription_events).where(*old))


def failed(tx: Transaction, row: SubscriptionRow, problem: str, *, at: datetime, next_at: datetime) -> None:
    """Record that the endpoint did not accept something.

    Parameters
    ----------
    tx
        Any transaction.
    row
        The subscription, as it was when the request was sent.
    problem
        What the endpoint did; no PHI.
    at
        The current time.
    next_at
        When it is tried again.
    """
    values = {"failures": row.failures + 1, "failing_since": row.failing_since or at, "problem": problem}
    tx.execute(update(subscriptions).where(_ROWS.id == row.id), {**values, "next_at": next_at})


def _next_revision(tx: Transaction) -> int:
    """Return a greater number, and not the one of a transaction that was undone: what it watched may be in memory."""
    return revision(tx.connection) + 1 + secrets.randbelow(1 << 24)


def _row(row: Any) -> SubscriptionRow:
    return SubscriptionRow(**dict(zip(_NAMES, row, strict=True)))


_NAMES: Final = tuple(column.name for column in subscriptions.columns)
