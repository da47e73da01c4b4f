"""Whether a destination takes anything at all: since when it is paused, and when it last accepted a delivery."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from kernel.db import Transaction
from kernel.errors import Problem
from kernel.tables import destination_states as states


def pauses(connection: Connection, name: str) -> int:
    """Return how often the destination was paused since it last accepted something.

    Parameters
    ----------
    connection
        A connection to read from.
    name
        Name of the destination.
    """
    return int(connection.execute(select(states.c.pauses).where(states.c.name == name)).scalar() or 0)


def pause(tx: Transaction, name: str, until: datetime, problem: Problem, *, at: datetime) -> None:
    """Send nothing to the destination before ``until``.

    Parameters
    ----------
    tx
        The transaction to write in.
    name
        Name of the destination.
    until
        When it is tried again.
    problem
        Why; its category and detail are stored.
    at
        The current time.
    """
    reason = {"problem_category": str(problem.category), "problem_detail": problem.detail}
    _change(tx, name, at, paused_until=until, pauses=pauses(tx.connection, name) + 1, **reason)


def accepted(tx: Transaction, name: str, *, at: datetime) -> None:
    """Record that the destination accepted a delivery, which ends a pause.

    Parameters
    ----------
    tx
        The transaction to write in.
    name
        Name of the destination.
    at
        The current time.
    """
    _change(tx, name, at, paused_until=None, pauses=0, accepted_at=at, problem_category=None, problem_detail=None)


def resume(tx: Transaction, name: str, *, at: datetime) -> None:
    """End a pause, because a person says that the destination can be tried again.

    Parameters
    ----------
    tx
        The transaction to write in.
    name
        Name of the destination.
    at
        The current time.
    """
    _change(tx, name, at, paused_until=None, pauses=0, problem_category=None, problem_detail=None)


def _change(tx: Transaction, name: str, at: datetime, **values: Any) -> None:
    tx.lock(f"destination:{name}")
    row = values | {"changed_at": at}
    if tx.execute(update(states).where(states.c.name == name), row).rowcount == 0:
        tx.execute(insert(states), {"name": name, "pauses": 0} | row)
