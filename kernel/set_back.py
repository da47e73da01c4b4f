"""When the clock is set back, what waits for a time waits as long as it was to wait, and not until the old time.

A row that was changed after now was changed before the clock was set back. What was left of its wait then is not known,
so its whole wait begins again: it is held twice as long at most.
"""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Column, ColumnElement, Table, select, update

from kernel.db import Transaction
from kernel.tables import destination_states, jobs, outbox

_UNNOTICED: Final = timedelta(seconds=1)
"""Clocks of processes that share a database differ by this much without having been set back."""

_WAITING: Final[tuple[tuple[Table, Column[datetime], ColumnElement[bool]], ...]] = (
    (jobs, jobs.c.scheduled_at, jobs.c.status == "waiting"),
    (outbox, outbox.c.next_at, outbox.c.status == "pending"),
    (destination_states, destination_states.c.paused_until, destination_states.c.paused_until.is_not(None)),
)
"""Table, column of the time that a row waits for, and which rows wait."""


def realign(tx: Transaction, now: datetime) -> int:
    """Move the times that were counted from a clock that has been set back; return how many rows waited for one.

    Parameters
    ----------
    tx
        Any transaction.
    now
        The current time.
    """
    moved = 0
    for table, due, waits in _WAITING:
        (key,) = table.primary_key.columns
        ahead = select(key.label("key"), due.label("due"), table.c.changed_at.label("changed"))
        for row in tx.execute(ahead.where(waits, table.c.changed_at > now + _UNNOTICED)).all():
            wait = timedelta(0) if row.due is None else max(timedelta(0), row.due - row.changed)
            tx.execute(update(table).where(key == row.key), {due.name: now + wait, "changed_at": now})
            moved += 1
    return moved
