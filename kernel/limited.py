"""Reads that are stopped when they take long."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

_STEPS_BETWEEN_LOOKS: Final = 1000
"""Steps of SQLite's virtual machine between two looks at the clocks."""
_LONGEST: Final = 4
"""So many times as much may pass as is computed: on a busy machine a thread waits for its turn."""
_LIMITED: Final = "limited"


class TookLong(Exception):
    """What was read took longer than it may."""


@contextmanager
def limited(connection: Connection, seconds: float) -> Iterator[None]:
    """Stop the statements of a block together after some time; within another such block its time counts alone.

    Parameters
    ----------
    connection
        Of the statements.
    seconds
        Of the thread's processor time for the whole block, or four times as much of time that passes; on PostgreSQL
        the time that each statement takes there.

    Raises
    ------
    TookLong
        When a statement was stopped.
    """
    if _LIMITED in connection.info:
        yield
        return
    connection.info[_LIMITED] = seconds
    try:
        with (_by_steps if connection.dialect.name == "sqlite" else _by_server)(connection, seconds):
            yield
    finally:
        del connection.info[_LIMITED]


def require_seconds(connection: Connection, seconds: float) -> None:
    """Return when work of some length may be done here; a block for less time ends at once.

    Parameters
    ----------
    connection
        Of the block.
    seconds
        What the work may take.

    Raises
    ------
    TookLong
        When the block that reads by this connection is limited to less.
    """
    if connection.info.get(_LIMITED, seconds) < seconds:
        raise TookLong


@contextmanager
def _by_steps(connection: Connection, seconds: float) -> Iterator[None]:
    driver: Any = connection.connection.dbapi_connection
    computed, passed = time.thread_time() + seconds, time.monotonic() + seconds * _LONGEST
    stopped = False

    def is_late() -> bool:
        nonlocal stopped
        stopped = time.thread_time() > computed or time.monotonic() > passed
        return stopped

    driver.set_progress_handler(is_late, _STEPS_BETWEEN_LOOKS)
    try:
        yield
    except DBAPIError as failure:
        if stopped:
            raise TookLong from failure
        raise
    finally:
        driver.set_progress_handler(None, 0)


@contextmanager
def _by_server(connection: Connection, seconds: float) -> Iterator[None]:
    # Within a transaction the setting ends with it, or with the savepoint that is undone.
    set_to = text("SELECT set_config('statement_timeout', :milliseconds, false)")
    connection.execute(set_to, {"milliseconds": str(int(seconds * 1000))})
    try:
        yield
    except DBAPIError as failure:
        if getattr(failure.orig, "sqlstate", None) == "57014":
            raise TookLong from failure
        raise
    finally:
        with suppress(DBAPIError):  # in a transaction that failed nothing can be set
            connection.execute(set_to, {"milliseconds": "0"})
