"""The deliveries of one subject to one destination belong together: the first states it, the others add to it.

None of the others is sent while one before it is parked, dismissed or superseded: what it adds to is not there.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, select, update

from kernel.db import Transaction
from kernel.tables import outbox

NOT_SENT: Final = "not sent: it belongs to a delivery that was not accepted"
"""Why a delivery is parked that was not refused itself."""


def park_rest(tx: Transaction, identifier: str, category: str | None, *, at: datetime) -> None:
    """Park the pending deliveries that belong to a parked one.

    Parameters
    ----------
    tx
        The transaction to write in.
    identifier
        ``id`` of the delivery that was parked.
    category
        Category of its problem, so that one selection finds all of them.
    at
        The current time.
    """
    values = {"status": "parked", "problem_category": category, "problem_detail": NOT_SENT}
    _change(tx, _after(tx, identifier), {"pending"}, values | {"changed_at": at})


def end_rest(tx: Transaction, identifier: str, status: str, *, at: datetime) -> None:
    """Give the deliveries that belong to one that is not sent its final status.

    Parameters
    ----------
    tx
        The transaction to write in.
    identifier
        ``id`` of the delivery that is not sent.
    status
        ``dismissed`` or ``superseded``.
    at
        The current time.
    """
    _change(tx, _after(tx, identifier), {"pending", "parked"}, {"status": status, "changed_at": at})


def replay_rest(tx: Transaction, identifier: str, *, at: datetime) -> None:
    """Queue what belongs to a replayed delivery: what is parked before it, and what was parked because of it.

    Parameters
    ----------
    tx
        The transaction to write in.
    identifier
        ``id`` of the delivery that is replayed.
    at
        The current time.
    """
    again = {"status": "pending", "refusals": 0, "next_at": outbox.c.created_at, "changed_at": at}
    _change(tx, _before(tx, identifier), {"parked"}, again)
    _change(tx, [*_after(tx, identifier), outbox.c.problem_detail == NOT_SENT], {"parked"}, again)


def _after(tx: Transaction, identifier: str) -> list[ColumnElement[bool]]:
    seq, same = _place(tx, identifier)
    return [*same, outbox.c.seq > seq]


def _before(tx: Transaction, identifier: str) -> list[ColumnElement[bool]]:
    seq, same = _place(tx, identifier)
    return [*same, outbox.c.seq < seq]


def _place(tx: Transaction, identifier: str) -> tuple[int, list[ColumnElement[bool]]]:
    columns = outbox.c.seq, outbox.c.destination, outbox.c.subject
    row = tx.execute(select(*columns).where(outbox.c.id == identifier)).one()
    return int(row.seq), [outbox.c.destination == row.destination, outbox.c.subject == row.subject]


def _change(
    tx: Transaction, which: Collection[ColumnElement[bool]], status_before: Collection[str], values: dict[str, Any]
) -> None:
    tx.execute(update(outbox).where(*which, outbox.c.status.in_(status_before)).values(**values))
