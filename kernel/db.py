"""One database, one commit: SQLite with a writer thread and group commit, or PostgreSQL.

:meth:`Database.write` returns only when what it wrote is durable. On SQLite all writers share one thread: it takes
every waiting request, runs each inside its own savepoint, and commits them together with one fsync. A request that
raises is rolled back alone. A commit that fails fails every request in it, so that no caller acknowledges data that are
not saved. On PostgreSQL each request is its own transaction and the server groups their commits.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, Executable, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool

from kernel.errors import Category, Problem
from kernel.log import get_logger
from kernel.signals import PostgresSignals, Signals

T = TypeVar("T")

LARGEST_GROUP: Final = 256
"""The largest number of requests that share one commit."""

_CANNOT_SAVE: Final = "this server cannot save at present; send it again later"
_RETRYABLE: Final = frozenset({"40001", "40P01"})
"""PostgreSQL's serialization_failure and deadlock_detected: the transaction may be run again."""
_TRIES: Final = 5

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Transaction:
    """The interface of a unit of work: statements of one transaction, and signals that are sent when it commits."""

    connection: Connection
    channels: set[str] = field(default_factory=set)

    def execute(
        self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """Run one statement inside the transaction.

        Parameters
        ----------
        statement
            A SQLAlchemy Core statement.
        parameters
            Values of its bind parameters; a sequence of mappings runs the statement once for each (``executemany``).
        """
        return self.connection.execute(statement, parameters)

    def wake(self, channel: str) -> None:
        """Wake the threads that wait for ``channel``, once the transaction is durable."""
        self.channels.add(channel)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what the block did, and nothing else of this transaction, when it raises."""
        self.connection.exec_driver_sql("SAVEPOINT inner_savepoint")
        try:
            yield
        except BaseException:
            self.connection.exec_driver_sql("ROLLBACK TO SAVEPOINT inner_savepoint")
            raise
        finally:
            self.connection.exec_driver_sql("RELEASE SAVEPOINT inner_savepoint")

    def lock(self, name: str) -> None:
        """Lock ``name`` against other transactions until this one ends; SQLite has one writer and needs no lock."""
        if self.connection.dialect.name == "postgresql":
            self.connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


@dataclass(frozen=True, kw_only=True)
class _Request(Generic[T]):
    work: Callable[[Transaction], T]
    outcome: "Future[T]"


class Database:
    """Access to the database. Open it with :meth:`open` and close it when the server stops."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.signals: Signals = Signals()
        self._closed = False
        if self.is_sqlite:
            if self.url.database:
                Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
            self._engine = _sqlite_engine(url, query_only=False, pool_size=1)
            self._readers = _sqlite_engine(url, query_only=True, pool_size=16)
            self._queue: queue.SimpleQueue[_Request[Any] | None] = queue.SimpleQueue()
            self._writer = threading.Thread(target=self._write_forever, name="database-writer", daemon=True)
            self._writer.start()
        else:
            self._engine = create_engine(self.url, pool_size=24, max_overflow=8, pool_pre_ping=True)
            self._readers = self._engine
            self.signals = PostgresSignals(self.url)

    @classmethod
    def open(cls, url: str) -> "Database":
        """Connect to ``sqlite:///path`` or ``postgresql+psycopg://…``."""
        return cls(url)

    def migrate(self) -> None:
        """Upgrade the schema to the newest revision (Alembic); safe to call at every start."""
        from kernel.migrations.run import upgrade  # noqa: PLC0415 - Alembic is needed only here

        upgrade(self._engine)

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` in one transaction and return what it returns, after the durable commit.

        Parameters
        ----------
        work
            A short function that uses the database only; on SQLite it runs on the writer thread.

        Raises
        ------
        Problem
            ``unavailable`` when nothing could be saved. An exception that ``work`` raises is passed on. In both cases
            nothing is stored.
        """
        return self._write_grouped(work) if self.is_sqlite else self._write_alone(work)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a connection that sees the newest committed state and cannot write.

        Raises
        ------
        Problem
            ``unavailable`` when the database cannot be reached.
        """
        try:
            connection = self._readers.connect()
        except DBAPIError as failure:
            raise Problem(Category.UNAVAILABLE, "the database is away", diagnostics=str(failure)) from failure
        with connection:
            yield connection

    def others_wait(self) -> bool:
        """Return whether requests wait for the writer, asked inside one; on PostgreSQL none ever does."""
        return self.is_sqlite and not self._queue.empty()

    def close(self) -> None:
        """Finish the requests that wait and disconnect."""
        if self._closed:
            return
        self._closed = True
        self.signals.close()
        if self.is_sqlite:
            self._queue.put(None)
            self._writer.join()
        self._engine.dispose()
        self._readers.dispose()

    def _write_grouped(self, work: Callable[[Transaction], T]) -> T:
        if self._closed:
            raise Problem(Category.UNAVAILABLE, "the server is stopping")
        request = _Request(work=work, outcome=Future())
        self._queue.put(request)
        return request.outcome.result()

    def _write_forever(self) -> None:
        stopping = False
        while not stopping:
            waiting: list[_Request[Any]] = []
            request = self._queue.get()
            while request is not None:
                waiting.append(request)
                if len(waiting) >= LARGEST_GROUP:
                    break
                try:
                    request = self._queue.get_nowait()
                except queue.Empty:
                    break
            stopping = request is None
            if waiting:
                self._commit_group(waiting)

    def _commit_group(self, requests: Sequence[_Request[Any]]) -> None:
        channels: set[str] = set()
        try:
            with self._engine.connect() as connection:
                completed = _run_group(connection, requests, channels)
        except BaseException as failure:  # noqa: BLE001 - the writer thread must complete every request
            _log.error("group_commit_failed", requests=len(requests), failure=failure)
            for request in requests:
                refusal = Problem(Category.UNAVAILABLE, _CANNOT_SAVE, diagnostics=str(failure))
                request.outcome.set_exception(refusal)
            with suppress(Exception):
                self._engine.dispose()  # after a failed fsync the connection must not be used again
            return
        self.signals.send(channels)
        for request, result, raised in completed:
            if raised is None:
                request.outcome.set_result(result)
            else:
                request.outcome.set_exception(raised)

    def _write_alone(self, work: Callable[[Transaction], T]) -> T:
        for tries_left in reversed(range(_TRIES)):
            try:
                with self._engine.begin() as connection:
                    transaction = Transaction(connection=connection)
                    result = work(transaction)
                    for channel in transaction.channels:
                        connection.execute(text("SELECT pg_notify('ausculta', :channel)"), {"channel": channel})
            except OperationalError as failure:
                if getattr(failure.orig, "sqlstate", None) in _RETRYABLE and tries_left:
                    continue
                raise Problem(Category.UNAVAILABLE, _CANNOT_SAVE, diagnostics=str(failure)) from failure
            else:
                self.signals.send(transaction.channels)
                return result
        raise Problem(Category.BUSY, _CANNOT_SAVE)


_Completed = tuple[_Request[Any], Any, BaseException | None]


def _run_group(connection: Connection, requests: Sequence[_Request[Any]], channels: set[str]) -> list[_Completed]:
    """Run each request in a savepoint and commit them all; raises when the whole group failed."""
    driver = connection.connection.dbapi_connection
    assert driver is not None
    completed: list[_Completed] = []
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        for request in requests:
            connection.exec_driver_sql("SAVEPOINT request")
            transaction = Transaction(connection=connection)
            try:
                result = request.work(transaction)
            except BaseException as raised:  # passed on to the caller of this request
                if not driver.in_transaction:  # SQLite rolled back the whole transaction: disk full or I/O error
                    raise
                connection.exec_driver_sql("ROLLBACK TO request")
                completed.append((request, None, _storage_failure(raised)))
            else:
                channels |= transaction.channels
                completed.append((request, result, None))
            connection.exec_driver_sql("RELEASE request")
        connection.exec_driver_sql("COMMIT")
    except BaseException:
        if driver.in_transaction:
            connection.exec_driver_sql("ROLLBACK")
        raise
    return completed


def _storage_failure(raised: BaseException) -> BaseException:
    if isinstance(raised, OperationalError):
        return Problem(Category.UNAVAILABLE, _CANNOT_SAVE, diagnostics=str(raised))
    return raised


def _sqlite_engine(url: str, *, query_only: bool, pool_size: int) -> Engine:
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",  # this module issues BEGIN, SAVEPOINT and COMMIT itself
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": 30},
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
