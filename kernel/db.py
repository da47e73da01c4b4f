"""One database, one commit: SQLite (a file) or PostgreSQL, with a writer that groups the commits of one process.

:meth:`Database.write` returns only when what it wrote is durable. One thread writes at a time: it takes every waiting
request, runs each inside its own savepoint, and commits them together with one fsync. A request that raises is rolled
back alone. A commit that fails fails every request in it, so that no caller acknowledges data that are not saved. On
PostgreSQL other processes write too: a group that waits long for a lock of theirs is run again, one request at a time.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool

from kernel.errors import Category, Problem
from kernel.group_commit import GroupWriter, Request
from kernel.limited import TookLong, limited
from kernel.one_process import database_file, one_process_of_file, one_process_of_server
from kernel.outcome import Outcome
from kernel.signals import LocalSignals, PostgresSignals, Signals
from kernel.transaction import Transaction
from kernel.turnstile import Turnstile

__all__ = ["Database", "TookLong", "Transaction"]

T = TypeVar("T")

BRIEF_S: Final = 0.005
"""How long an event loop reads from a file at a time, in seconds."""
IDLE_S: Final = 1.0
"""A connection to PostgreSQL that was idle for longer is tried before it is used, in seconds."""


class Database:
    """Access to the database. Open it with :meth:`open` and close it when the server stops."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._closed = False
        self._of_thread = threading.local()
        self.signals: Signals
        turnstile = None
        if self.is_sqlite:
            self.signals = Signals()
            if (file := database_file(self.url)) is not None:  # other processes see it too
                file.parent.mkdir(parents=True, exist_ok=True)
                turnstile = Turnstile(file)
                self.signals = LocalSignals(file.with_name(f"{file.name}-signals").absolute())
            self._engine = _sqlite_engine(url, query_only=False, pool_size=1, most=1)  # the writer keeps one
            self._readers = _sqlite_engine(url, query_only=True, pool_size=16, most=-1)
        else:
            self._engine = _postgresql_engine(self.url, pool_size=2, most=0)
            self._readers = _postgresql_engine(self.url, pool_size=24, most=8)
            self.signals = PostgresSignals(self.url)
        self._writer = GroupWriter(self._engine, self.signals, turnstile)
        #: What each event loop will add when it has begun all requests that it has at hand.
        self._of_loops: dict[asyncio.AbstractEventLoop, list[Request]] = {}

    @classmethod
    def open(cls, url: str) -> "Database":
        """Connect to ``sqlite:///path`` or ``postgresql+psycopg://…``."""
        return cls(url)

    def migrate(self) -> None:
        """Upgrade the schema to the newest revision (Alembic); safe to call at every start, by several processes.

        Raises
        ------
        Problem
            ``conflict`` when the database is of a newer release; ``unavailable`` when its disk is full, or when it
            cannot be reached. Nothing is changed.
        """
        from kernel.migrations.run import upgrade  # noqa: PLC0415 - Alembic is needed only here

        if self.is_sqlite:
            upgrade(self._engine)
            return
        try:
            upgrade(create_engine(self.url, poolclass=NullPool))  # the others commit each statement
        except OperationalError as failure:
            raise Problem(Category.UNAVAILABLE, "the database is away", diagnostics=str(failure)) from failure

    def is_older(self) -> bool:
        """Return whether the database has the schema of an earlier release.

        Raises
        ------
        Problem
            ``conflict`` when it is of a newer release; ``unavailable`` when it cannot be reached.
        """
        from kernel.migrations.run import is_older  # noqa: PLC0415 - as above

        try:
            return is_older(self._readers)
        except OperationalError as failure:
            raise Problem(Category.UNAVAILABLE, "the database is away", diagnostics=str(failure)) from failure

    @contextmanager
    def one_process(self) -> Iterator[None]:
        """Do alone what is in the block: another process that migrates, or enters such a block, waits for its end."""
        if self.is_sqlite:
            with one_process_of_file(database_file(self.url)):
                yield
        else:
            with one_process_of_server(self._readers):
                yield

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` in one transaction and return what it returns, after the durable commit.

        Parameters
        ----------
        work
            A short function that uses the database only; it runs in whichever thread writes, and may run again when the
            group of its neighbours failed.

        Raises
        ------
        Problem
            ``unavailable`` when nothing could be saved. An exception that ``work`` raises is passed on. In both cases
            nothing is stored.
        """
        outcome: Outcome[T] = Outcome()
        self._require_open()
        self._writer.run(Request(work=work, outcome=outcome))
        return outcome.wait()

    async def write_async(self, work: Callable[[Transaction], T]) -> T:
        """Do as :meth:`write` does, awaited on an event loop: no thread waits for the commit.

        Parameters
        ----------
        work
            As for :meth:`write`. When the awaiting task is cancelled, it is done all the same.

        Raises
        ------
        Problem
            As :meth:`write` raises it.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        request = Request(work=work, outcome=outcome)
        self._require_open()
        waiting = self._of_loops.get(loop)
        if waiting is None:
            # The requests that the loop has at hand come first: each commit costs as much as several of them.
            self._of_loops[loop] = [request]
            loop.call_soon(self._add_all_of, loop)
        else:
            waiting.append(request)
        return await outcome

    def read(self) -> AbstractContextManager[Connection]:
        """Open a connection that sees the newest committed state and cannot write.

        Raises
        ------
        Problem
            ``unavailable`` when the database cannot be reached.
        """
        return nullcontext(self._reader_of_thread()) if self.is_sqlite else self._reader_of_pool()

    @contextmanager
    def _reader_of_pool(self) -> Iterator[Connection]:
        try:
            connection = self._readers.connect()
        except DBAPIError as failure:
            raise Problem(Category.UNAVAILABLE, "the database is away", diagnostics=str(failure)) from failure
        with connection:
            yield connection

    def _reader_of_thread(self) -> Connection:
        """Return the thread's own connection to the file; each of its statements sees the newest committed state."""
        connection: Connection | None = getattr(self._of_thread, "reader", None)
        if connection is None or connection.closed:
            connection = self._of_thread.reader = self._readers.connect()
        return connection

    @contextmanager
    def briefly(self) -> Iterator[None]:
        """Stop what this thread reads within the block when it takes long; for an event loop.

        Raises
        ------
        TookLong
            When a statement ran for more than :data:`BRIEF_S`. The caller does the same in a thread.
        """
        with limited(self._reader_of_thread(), BRIEF_S):
            yield

    def others_wait(self) -> bool:
        """Return whether requests wait for the writer, asked inside one."""
        return self._writer.has_waiting()

    def close(self) -> None:
        """Finish the requests that wait and disconnect."""
        if self._closed:
            return
        self._closed = True
        self.signals.close()
        self._writer.close()
        reader: Connection | None = getattr(self._of_thread, "reader", None)
        if reader is not None:  # those of other threads end with them
            reader.close()
        self._engine.dispose()
        self._readers.dispose()

    def _add_all_of(self, loop: asyncio.AbstractEventLoop) -> None:
        requests = self._of_loops.pop(loop)
        try:
            self._require_open()
        except Problem as closed:
            for outcome in (request.outcome for request in requests):
                if isinstance(outcome, asyncio.Future) and not outcome.done():
                    outcome.set_exception(closed)
        else:
            self._writer.add(requests)

    def _require_open(self) -> None:
        if self._closed:
            raise Problem(Category.UNAVAILABLE, "the server is stopping")


@contextmanager
def in_steps(connection: Connection) -> Iterator[None]:
    """Let a long result be fetched in steps within the block: PostgreSQL does so in a transaction only."""
    if connection.dialect.name != "postgresql":
        yield
        return
    connection.exec_driver_sql("BEGIN")
    try:
        yield
    finally:
        connection.exec_driver_sql("ROLLBACK")


def _postgresql_engine(url: URL, *, pool_size: int, most: int) -> Engine:
    """Return an engine whose connections commit each statement; one that was idle is tried before it is used."""
    engine = create_engine(
        url, isolation_level="AUTOCOMMIT", pool_size=pool_size, max_overflow=most, pool_use_lifo=True
    )

    def returned(_driver: Any, record: ConnectionPoolEntry) -> None:
        record.info["returned"] = time.monotonic()

    def taken(driver: Any, record: ConnectionPoolEntry, _taker: Any) -> None:
        if time.monotonic() - record.info.get("returned", math.inf) > IDLE_S:
            try:
                driver.execute("")
            except engine.dialect.loaded_dbapi.Error as failure:
                raise DisconnectionError from failure

    event.listen(engine, "checkin", returned)
    event.listen(engine, "checkout", taken)
    return engine


def _sqlite_engine(url: str, *, query_only: bool, pool_size: int, most: int = 0) -> Engine:
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",  # this module issues BEGIN, SAVEPOINT and COMMIT itself
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=most,
        connect_args={"check_same_thread": False, "timeout": 30, "cached_statements": 512},
    )

    def prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA temp_store=MEMORY")
        if query_only:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    event.listen(engine, "connect", prepare)
    return engine
