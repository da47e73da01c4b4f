"""The one writer of a process: requests that wait at the same time share one transaction and one fsync.

A thread that waits for its commit writes itself when nobody else does; a thread of the writer does it for an event loop
and for those that came meanwhile.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from kernel.errors import Category, Problem
from kernel.log import get_logger
from kernel.outcome import Outcome
from kernel.pipeline import leave_for_others, pipeline_of, pipelined
from kernel.signals import Signals
from kernel.statements import Statement
from kernel.transaction import AtCommit, Transaction
from kernel.turnstile import Turnstile

LARGEST_GROUP: Final = 256
"""A group of so many requests, or of more, takes no further ones."""

LONGEST_LOCK_MS: Final = 100
"""How long a group of several requests waits for a lock of another process (PostgreSQL)."""

_CANNOT_SAVE: Final = "this server cannot save at present; send it again later"
_NOT_KNOWN: Final = (
    "the connection to the database was lost at the commit: it is not known whether this was saved; look before you"
    " send it again"
)
_RETRYABLE: Final = frozenset({"40001", "40P01", "55P03"})
"""PostgreSQL's serialization_failure, deadlock_detected and lock_not_available: the requests may be run again."""
_TRIES: Final = 5

_log = get_logger(__name__)

Awaited: TypeAlias = "Outcome[Any] | asyncio.Future[Any]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A unit of work that waits for its commit."""

    work: Callable[[Transaction], Any]
    #: Of a thread that waits, or of the event loop that awaits it.
    outcome: Awaited


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ended:
    """A request whose work is done."""

    request: Request
    result: Any = None
    raised: BaseException | None = None


@dataclass(frozen=True, kw_only=True)
class _Group:
    """What the requests of one commit did."""

    ended: list[_Ended] = field(default_factory=list)
    channels: set[str] = field(default_factory=set)
    at_commit: dict[AtCommit, list[Any]] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)


class _Entered:
    """The savepoint of one request, set when it first uses the connection."""

    __slots__ = ("_connection", "is_set")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.is_set = False

    def __call__(self) -> Connection:
        if not self.is_set:
            self.is_set = True
            _SAVEPOINT.send(self._connection)
        return self._connection


class GroupWriter:
    """Writes for a process, in one thread at a time.

    Parameters
    ----------
    engine
        Gives connections on which this class begins and ends the transactions itself.
    signals
        Sent after each commit.
    turnstile
        Passed before each commit, where the database itself lets a writer wait too long.
    """

    def __init__(self, engine: Engine, signals: Signals, turnstile: Turnstile | None = None) -> None:
        self._engine = engine
        self._signals = signals
        self._turnstile = turnstile
        self._turn = nullcontext if turnstile is None else turnstile.turn
        self._is_postgresql = engine.dialect.name == "postgresql"
        self._kept: Connection | None = None
        leave_for_others(engine)
        self._writing = threading.Lock()
        self._is_next = False
        """Whether the writer's thread has requests and waits for the one that writes."""
        self._queue: queue.SimpleQueue[Sequence[Request] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_forever, name="database-writer", daemon=True)
        self._thread.start()

    def add(self, requests: Sequence[Request]) -> None:
        """Have requests done by the writer's thread; their outcomes are set after the commit."""
        self._queue.put(requests)

    def run(self, request: Request) -> None:
        """Have a request done for the calling thread, which waits: by that thread itself when nobody else writes.

        That saves two hand-overs between threads, each of which waits for the interpreter and for a processor.
        """
        if self.has_waiting() or not self._writing.acquire(blocking=False):
            self._queue.put([request])
            return
        try:
            if self._write([request]):
                self._queue.put(None)
        finally:
            self._writing.release()

    def has_waiting(self) -> bool:
        """Return whether requests wait for the next commit."""
        return self._is_next or not self._queue.empty()

    def close(self) -> None:
        """Finish the requests that wait, and end the thread."""
        self._queue.put(None)
        self._thread.join()
        if self._turnstile is not None:
            self._turnstile.close()

    def _write_forever(self) -> None:
        try:
            self._write_until_closed()
        finally:
            with self._writing:
                self._let_go()

    def _write_until_closed(self) -> None:
        stopping = False
        while not stopping:
            first = self._queue.get()
            if first is None:
                return
            self._is_next = True  # so that no thread goes before it
            with self._writing:
                self._is_next = False
                stopping = self._write([*first])

    def _write(self, requests: list[Request]) -> bool:
        """Commit requests and those that wait; return whether the writer is to end."""
        stopping = False
        try:
            with self._turn():
                stopping = self._take_waiting(requests)
                group = self._run(requests)
        except BaseException as failure:  # noqa: BLE001 - every request must be completed
            self._failed(requests, failure)
        else:
            self._finish(group)
        return stopping

    def _take_waiting(self, requests: list[Request]) -> bool:
        """Add what waits, and what came while the turn was awaited; return whether the writer is to end."""
        while len(requests) < LARGEST_GROUP:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                return False
            if more is None:
                return True
            requests += more
        return False

    def _failed(self, requests: Sequence[Request], failure: BaseException) -> None:
        """Refuse the requests of a group, or run each by itself when another process was in the way."""
        if len(requests) > 1 and _is_retryable(failure):
            for request in requests:
                try:
                    group = self._run([request])
                except BaseException as raised:  # noqa: BLE001 - as above
                    self._failed([request], raised)
                else:
                    self._finish(group)
            return
        _log.error("group_commit_failed", requests=len(requests), failure=failure)
        refusal = failure if isinstance(failure, Problem) else _cannot_save(failure)
        _complete([_Ended(request=request, raised=refusal) for request in requests])
        with suppress(Exception):
            self._engine.dispose()  # after a failed fsync the connection must not be used again

    def _finish(self, group: _Group) -> None:
        self._signals.send(group.channels)
        _complete(group.ended)

    def _run(self, requests: Sequence[Request]) -> _Group:
        """Run the requests in one transaction and commit it; a single one is tried again when another process wins."""
        for tries_left in reversed(range(_TRIES if self._is_postgresql and len(requests) == 1 else 1)):
            try:
                if not self._is_postgresql:
                    return _run_group(self._connection(), requests)
                with self._engine.connect() as connection:
                    return _run_connected(connection, requests)
            except Exception as failure:
                self._let_go()
                if not tries_left or not _is_retryable(failure):
                    raise
        raise AssertionError

    def _connection(self) -> Connection:
        """Return the connection to the file, which this thread keeps: taking it for each group costs a tenth of it."""
        if self._kept is None:
            self._kept = self._engine.connect()
        return self._kept

    def _let_go(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            with suppress(Exception):
                kept.close()


def _run_connected(connection: Connection, requests: Sequence[Request]) -> _Group:
    try:
        return _run_pipelined(connection, requests)
    except BaseException:
        if _is_closed(connection):  # else its end would fail too, and that failure be raised instead
            connection.invalidate()
        raise


def _run_pipelined(connection: Connection, requests: Sequence[Request]) -> _Group:
    """Run the group in a pipeline; when a statement fails there, run it again and wait for each statement.

    Nothing of the first run is left then: neither what it stored nor what its requests returned or raised, for one may
    have met the failure of another.
    """
    with pipelined(connection) as pipeline:
        try:
            group = _run_group(connection, requests)
        except Exception as failure:
            if pipeline.failure is not None and _is_retryable(pipeline.failure):
                raise pipeline.failure from failure
            if not pipeline.undone or not _can_go_on(connection):
                raise
        else:
            return group
    return _run_group(connection, requests)


def _run_group(connection: Connection, requests: Sequence[Request]) -> _Group:
    """Run each request in a savepoint and commit them all; raises when the whole group failed."""
    group = _Group()
    is_postgresql = connection.dialect.name == "postgresql"
    (_BEGIN if is_postgresql else _BEGIN_IMMEDIATE).send(connection)
    try:
        if is_postgresql and len(requests) > 1:
            _LOCK_TIMEOUT.send(connection)
        for request in requests:
            group.ended.append(_run_one(connection, request, group))
        if group.at_commit:
            last = Transaction(enter=lambda: connection, shared=group.shared)
            for work, items in group.at_commit.items():
                if items:  # none is left when what added them was undone
                    work(last, items)
        if is_postgresql and group.channels:
            _NOTIFY.send(connection, {"channels": sorted(group.channels)})
        if (pipeline := pipeline_of(connection)) is not None:
            pipeline.is_ending = True
        try:
            _COMMIT.run(connection)
            _check_pipeline(connection)
        except Exception as failure:
            if is_postgresql and _is_closed(connection):
                raise Problem(Category.INTERRUPTED, _NOT_KNOWN, diagnostics=str(failure)) from failure
            raise
    except BaseException:
        _roll_back(connection)
        raise
    return group


def _run_one(connection: Connection, request: Request, group: _Group) -> _Ended:
    entered = _Entered(connection)
    transaction = Transaction(enter=entered, shared=group.shared)
    try:
        result = request.work(transaction)
    except BaseException as raised:
        _check_pipeline(connection)
        # SQLite rolls the whole transaction back when the disk is full or fails; PostgreSQL has another try.
        if not _in_transaction(connection) or _is_retryable(raised):
            raise
        if entered.is_set:
            _BACK_TO_SAVEPOINT.send(connection)
        group.shared.clear()
        ended = _Ended(request=request, raised=_cannot_save(raised) if isinstance(raised, OperationalError) else raised)
    else:
        _check_pipeline(connection)
        group.channels.update(transaction.channels)
        for work, items in transaction.at_commit.items():
            group.at_commit.setdefault(work, []).extend(items)
        ended = _Ended(request=request, result=result)
    if entered.is_set:
        _RELEASE_SAVEPOINT.send(connection)
    return ended


def _check_pipeline(connection: Connection) -> None:
    """Raise the failure of a statement in the pipeline, whatever became of it where it was raised."""
    pipeline = pipeline_of(connection)
    if pipeline is not None and pipeline.failure is not None:
        raise pipeline.failure


def _roll_back(connection: Connection) -> None:
    if (pipeline := pipeline_of(connection)) is not None:
        with suppress(Exception):  # it is known already
            pipeline.leave()
        pipeline.forget_prepared()
    if _in_transaction(connection):
        driver: Any = connection.connection.dbapi_connection
        driver.execute("ROLLBACK")


def _is_closed(connection: Connection) -> bool:
    driver: Any = connection.connection.dbapi_connection
    return bool(driver.closed)


def _can_go_on(connection: Connection) -> bool:
    """Return whether a connection to PostgreSQL is open and has no transaction."""
    driver: Any = connection.connection.dbapi_connection
    return not driver.closed and driver.info.transaction_status == 0


def _in_transaction(connection: Connection) -> bool:
    """Ask the driver whether a transaction is open: SQLAlchemy does not know of ours."""
    driver: Any = connection.connection.dbapi_connection
    if connection.dialect.name == "sqlite":
        return bool(driver.in_transaction)
    if pipeline_of(connection) is not None and not driver.closed and driver.info.pipeline_status != 0:
        return True  # in a pipeline the driver does not know
    return not driver.closed and driver.info.transaction_status != 0


def _complete(ended: Iterable[_Ended]) -> None:
    """Set the outcomes: those of threads here, those of an event loop with one wake-up of the loop."""
    awaited: dict[asyncio.AbstractEventLoop, list[_Ended]] = {}
    for one in ended:
        outcome = one.request.outcome
        if isinstance(outcome, asyncio.Future):
            awaited.setdefault(outcome.get_loop(), []).append(one)
        else:
            _set(outcome, one)
    for loop, ones in awaited.items():
        with suppress(RuntimeError):  # the loop is closed: nobody awaits them
            loop.call_soon_threadsafe(_set_all, ones)


def _set_all(ended: Sequence[_Ended]) -> None:
    for one in ended:
        outcome = one.request.outcome
        if isinstance(outcome, asyncio.Future) and not outcome.done():  # the awaiting task may have been cancelled
            _set(outcome, one)


def _set(outcome: Awaited, ended: _Ended) -> None:
    if ended.raised is None:
        outcome.set_result(ended.result)
    else:
        outcome.set_exception(ended.raised)


def _cannot_save(failure: BaseException) -> Problem:
    return Problem(Category.UNAVAILABLE, _CANNOT_SAVE, diagnostics=str(failure))


def _is_retryable(failure: BaseException) -> bool:
    of_driver = failure.orig if isinstance(failure, DBAPIError) else failure
    return getattr(of_driver, "sqlstate", None) in _RETRYABLE


_BEGIN: Final = Statement(text("BEGIN"))
_BEGIN_IMMEDIATE: Final = Statement(text("BEGIN IMMEDIATE"))
_SAVEPOINT: Final = Statement(text("SAVEPOINT request"))
_BACK_TO_SAVEPOINT: Final = Statement(text("ROLLBACK TO SAVEPOINT request"))
_RELEASE_SAVEPOINT: Final = Statement(text("RELEASE SAVEPOINT request"))
_COMMIT: Final = Statement(text("COMMIT"))
_LOCK_TIMEOUT: Final = Statement(text(f"SET LOCAL lock_timeout = {LONGEST_LOCK_MS}"))
_NOTIFY: Final = Statement(
    text("SELECT pg_notify('ausculta', name) FROM unnest(CAST(:channels AS text[])) AS woken(name)")
)
