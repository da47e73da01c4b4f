"""What one process at a time does with a database: it changes the schema, or makes the search index again.

The others wait. The lock ends with the process that holds it, however that ends. Beside a file of SQLite it is a file;
on PostgreSQL it is an advisory lock of a transaction, which a connection pooler does not separate from its work.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import URL

from kernel.log import get_logger

SUFFIX: Final = ".lock"
"""Of the lock file, after the name of the database's file."""

_KEY: Final = 4_711_2575
"""PostgreSQL's advisory lock, within one database; earlier releases hold the same one while they migrate."""

_NO_LIMITS: Final = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
"""Settings of a role that would end the wait for the lock, or the lock itself."""

_log = get_logger(__name__)


def database_file(url: URL) -> Path | None:
    """Return the file of a database of SQLite; None when it is in memory."""
    name = url.database or ":memory:"
    return None if name == ":memory:" or name.startswith("file:") else Path(name)


@contextmanager
def one_process_of_file(database: Path | None) -> Iterator[None]:
    """Wait until no other process holds the lock of this file, and hold it within the block.

    Parameters
    ----------
    database
        The file of the database; its folder exists. None for a database in memory, which no other process sees.
    """
    if database is None:
        yield
        return
    handle = os.open(f"{database}{SUFFIX}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("waiting_for_another_process")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def one_process_of_server(engine: Engine) -> Iterator[Connection]:
    """Wait until no other process holds the lock of this database on PostgreSQL, and hold it within the block.

    Parameters
    ----------
    engine
        Gives the connection whose transaction holds the lock. What is done in that transaction is committed with it.
    """
    with engine.connect().execution_options(isolation_level="READ COMMITTED") as connection, connection.begin():
        for name in _NO_LIMITS:
            connection.execute(text(f"SET LOCAL {name} = 0"))
        if not connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _KEY}).scalar_one():
            _log.info("waiting_for_another_process")
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _KEY})
        yield connection
