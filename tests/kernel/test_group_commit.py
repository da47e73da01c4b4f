"""Requests that share a commit leave what they leave one by one, whatever fails among them."""

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, delete, insert, select, text
from sqlalchemy.exc import IntegrityError

from kernel.db import Database, TookLong, Transaction
from kernel.errors import Category, Problem
from kernel.pipeline import Pipeline
from kernel.statements import Statement, StatementOfMany
from kernel.tables import destination_states, workers
from kernel.testing import FakeClock

NOON = FakeClock().now()
ADD = Statement(insert(workers))
LOG = Statement(insert(destination_states))
NAMES = Statement(select(workers.c.id).order_by(workers.c.id))
DROP = Statement(delete(workers).where(workers.c.id == bindparam("which")))

Work = Callable[[Transaction], Any]


def row(name: str) -> dict[str, Any]:
    return {"id": name, "host": "h", "pid": 1, "process_start": "", "heartbeat_at": NOON}


def write_log(tx: Transaction, items: Sequence[str]) -> None:
    """What is done once before a commit: number the items on from those that are there."""
    size = len(tx.connection.execute(select(destination_states.c.name)).all())
    for place, item in enumerate(items, start=size):
        tx.execute(LOG, {"name": f"{place:03} {item}", "pauses": 0, "changed_at": NOON})


def request(number: int, chosen: random.Random) -> Work:
    """Return a unit of work that may insert, fail, undo a part of itself, and add to the log before it fails."""
    known = ("add", "send", "attempt", "log", "undo", "fail", "read", "lock")
    steps = [chosen.choice(known) for _ in range(chosen.randint(1, 5))]
    name = str(chosen.randint(0, 6))

    def work(tx: Transaction) -> tuple[str, ...]:
        seen: list[str] = []
        for step in steps:
            if step == "add":
                tx.execute(ADD, row(name))
            elif step == "send":
                tx.send(ADD, row(name))
            elif step == "attempt":
                seen.append(attempted(tx, name))
            elif step == "lock":
                tx.lock(name, "one for all")
            elif step == "log":
                tx.before_commit(write_log, [f"{number}"])
            elif step == "undo":
                with pytest.raises(ZeroDivisionError):
                    undone(tx, number)
            elif step == "fail":
                raise Problem(Category.CONFLICT, f"{number} fails")
            else:
                seen += tx.connection.execute(select(workers.c.id).order_by(workers.c.id)).scalars()
        return tuple(seen)

    return work


def attempted(tx: Transaction, name: str) -> str:
    """Add a row in a savepoint, without waiting for it, and say whether it was there."""
    try:
        with tx.savepoint():
            tx.send(ADD, row(name))
    except IntegrityError:
        return "was there"
    return "added"


def undone(tx: Transaction, number: int) -> None:
    with tx.savepoint():
        tx.execute(ADD, row(f"undone {number}"))
        tx.before_commit(write_log, [f"undone {number}"])
        raise ZeroDivisionError


def outcome_of(done: Callable[[], Any]) -> Any:
    try:
        return done()
    except Problem as problem:
        return problem.detail
    except IntegrityError:
        return "not unique"


def left(database: Database) -> tuple[list[str], list[str]]:
    with database.read() as connection:
        ids = connection.execute(select(workers.c.id)).scalars()
        logged = connection.execute(select(destination_states.c.name)).scalars()
        return sorted(ids), sorted(logged)


def together(database: Database, works: Sequence[Work]) -> list[Any]:
    """Have the writer do all of them in one group: they wait while it is busy with another."""
    busy, may_go_on = threading.Event(), threading.Event()

    def block(_: Transaction) -> None:
        busy.set()
        may_go_on.wait(30)

    async def all_at_once() -> list[Any]:
        async def one(work: Work) -> Any:
            try:
                return await database.write_async(work)
            except Problem as problem:
                return problem.detail
            except IntegrityError:
                return "not unique"

        waiting = [asyncio.create_task(one(work)) for work in works]
        await asyncio.sleep(0)  # each has asked
        may_go_on.set()
        return list(await asyncio.gather(*waiting))

    blocking = threading.Thread(target=database.write, args=(block,))
    blocking.start()
    assert busy.wait(30)
    found = asyncio.run(all_at_once())
    blocking.join()
    return found


@pytest.mark.parametrize("seed", range(20))
def test_a_group_leaves_what_its_requests_leave_one_by_one(seed: int, database: Database, tmp_path: Path) -> None:
    works = [request(number, random.Random(f"{seed} {number}")) for number in range(16)]
    alone = Database.open(f"sqlite:///{tmp_path}/alone.db")
    alone.migrate()
    try:
        expected = [outcome_of(lambda work=work: alone.write(work)) for work in works]
        assert together(database, works) == expected
        assert left(database) == left(alone)
    finally:
        alone.close()


def test_a_statement_that_was_sent_and_fails_fails_its_own_request_alone(database: Database) -> None:
    """The failure may come to light at a statement of a later request, which does not meet it."""

    def fails_late(tx: Transaction) -> None:
        tx.send(ADD, row("taken"))

    def reads(tx: Transaction) -> list[str]:
        try:
            return [it.id for it in tx.execute(NAMES)]
        except Exception:  # noqa: BLE001 - a request may handle what its own statements raise
            return ["met another's failure"]

    database.write(lambda tx: tx.send(ADD, row("taken")))
    found = together(
        database, [lambda tx: tx.send(ADD, row("a")), fails_late, reads, lambda tx: tx.send(ADD, row("b"))]
    )
    assert found == [None, "not unique", ["a", "taken"], None]
    assert left(database)[0] == ["a", "b", "taken"]


def test_the_last_statement_that_was_sent_may_fail(database: Database) -> None:
    found = together(database, [lambda tx: tx.send(ADD, row("x")), lambda tx: tx.send(ADD, row("x"))])
    assert found == [None, "not unique"]
    assert left(database)[0] == ["x"]


def test_many_failing_groups_leave_the_connection_usable(database: Database) -> None:
    """What a pipeline prepared before it failed is prepared again, or still there."""
    for number in range(8):
        name = f"{number}"
        assert together(database, [lambda tx, n=name: tx.send(ADD, row(n))] * 2) == [None, "not unique"]
    assert left(database)[0] == [f"{number}" for number in range(8)]


def test_how_many_rows_were_changed_is_known_after_statements_that_were_sent(database: Database) -> None:
    def work(tx: Transaction) -> tuple[int, int]:
        tx.send(ADD, row("a"))
        gone = tx.execute(DROP, {"which": "a"}).rowcount
        return gone, tx.execute(DROP, {"which": "a"}).rowcount

    assert database.write(work) == (1, 0)


@pytest.mark.postgres
def test_statements_of_a_group_are_sent_without_waiting(
    new_postgres_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten requests that only send wait once: for their commit."""
    database = Database.open(new_postgres_url())
    database.migrate()
    waits: list[int] = []
    whole = Pipeline.sync
    monkeypatch.setattr(Pipeline, "sync", lambda self: (waits.append(1), whole(self))[1])
    try:
        together(database, [lambda tx, n=n: tx.send(ADD, row(f"{n}")) for n in range(10)])
    finally:
        database.close()
    assert len(waits) == 2  # the group before it, which blocked the writer, and this one


def test_what_is_done_before_a_commit_is_done_once_for_the_group(database: Database) -> None:
    calls: list[list[str]] = []

    def once(_: Transaction, items: Sequence[str]) -> None:
        calls.append(list(items))

    def add(number: int) -> Work:
        return lambda tx: tx.before_commit(once, [f"{number}a", f"{number}b"])

    together(database, [add(number) for number in range(3)])
    assert calls == [["0a", "0b", "1a", "1b", "2a", "2b"]]


def test_when_what_is_done_before_a_commit_fails_nothing_of_the_group_is_stored(database: Database) -> None:
    def refuse(_: Transaction, _items: Sequence[str]) -> None:
        raise Problem(Category.FAULT, "the log was altered")

    def audited(tx: Transaction) -> None:
        tx.execute(ADD, row("audited"))
        tx.before_commit(refuse, ["x"])

    outcomes = together(database, [audited, lambda tx: tx.execute(ADD, row("neighbour")) and None])
    assert outcomes == ["the log was altered"] * 2
    assert left(database) == ([], [])


def test_what_a_cancelled_task_asked_for_is_done_and_its_neighbours_are_answered(database: Database) -> None:
    async def ask() -> None:
        cancelled = asyncio.create_task(database.write_async(lambda tx: tx.execute(ADD, row("cancelled")) and None))
        await asyncio.sleep(0)
        cancelled.cancel()
        await database.write_async(lambda tx: tx.execute(ADD, row("neighbour")) and None)

    asyncio.run(ask())
    assert left(database)[0] == ["cancelled", "neighbour"]


def test_what_an_event_loop_has_at_hand_shares_one_commit(database: Database) -> None:
    def counted(tx: Transaction) -> int:
        tx.execute(ADD, row(str(len(tx.shared))))
        tx.shared[str(len(tx.shared))] = None  # one mapping for the requests of a commit
        return len(tx.shared)

    async def ask() -> list[int]:
        return await asyncio.gather(*[database.write_async(counted) for _ in range(16)])

    assert asyncio.run(ask()) == list(range(1, 17))


def test_what_waits_on_an_event_loop_when_the_database_is_closed_is_refused(sqlite: Database) -> None:
    async def ask() -> None:
        asked = asyncio.create_task(sqlite.write_async(lambda tx: tx.execute(ADD, row("late")) and None))
        await asyncio.sleep(0)
        sqlite.close()
        with pytest.raises(Problem, match="stopping"):
            await asked

    asyncio.run(ask())


def test_a_group_wakes_the_event_loop_once(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[object] = []
    whole = asyncio.BaseEventLoop.call_soon_threadsafe

    def counted(self: Any, callback: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(callback, "__module__", "") == "kernel.group_commit":
            woken.append(callback)
        return whole(self, callback, *args, **kwargs)

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", counted)
    together(sqlite, [lambda tx, n=n: tx.execute(ADD, row(str(n))) and None for n in range(20)])
    assert len(woken) == 1


@pytest.mark.postgres
def test_a_group_that_waits_for_another_process_is_run_one_by_one(new_postgres_url: Callable[[], str]) -> None:
    """One request waits for a lock that another process holds; those beside it do not wait for it to end."""
    url = new_postgres_url()
    here, there = Database.open(url), Database.open(url)
    here.migrate()
    locked, may_end = threading.Event(), threading.Event()

    def hold(tx: Transaction) -> None:
        tx.lock("patient")
        locked.set()
        may_end.wait(30)

    def first(tx: Transaction) -> None:
        tx.execute(ADD, row("first"))

    def waits(tx: Transaction) -> None:
        may_end.set()  # it is asked for again, alone, after the lock was not given in time
        tx.lock("patient")
        tx.execute(ADD, row("waited"))

    holder = threading.Thread(target=there.write, args=(hold,))
    holder.start()
    try:
        assert locked.wait(30)
        assert together(here, [first, waits, lambda tx: tx.execute(ADD, row("last")) and None]) == [None] * 3
        assert left(here)[0] == ["first", "last", "waited"]
    finally:
        may_end.set()
        holder.join()
        here.close()
        there.close()


def test_a_read_that_takes_long_is_stopped_on_an_event_loop_and_not_elsewhere(sqlite: Database) -> None:
    slow = text(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT max(i) FROM n"
    )
    with pytest.raises(TookLong), sqlite.briefly(), sqlite.read() as connection:
        connection.execute(slow)
    with sqlite.briefly(), sqlite.read() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    with sqlite.read() as connection:
        assert connection.execute(slow).scalar_one() == 3_000_000


@pytest.mark.parametrize("number", [0, 1, 2, 3, 511, 512, 513, 1300])
def test_a_statement_about_many_finds_each_of_them_once(sqlite: Database, number: int) -> None:
    wanted = [str(place) for place in range(number)]
    sqlite.write(lambda tx: [tx.execute(ADD, row(str(place))) for place in range(1400)] and None)
    about = StatementOfMany(lambda ids: select(workers.c.id).where(workers.c.id.in_(ids)))
    with sqlite.read() as connection:
        assert sorted(it.id for it in about.run(connection, wanted)) == sorted(wanted)


def test_a_request_that_only_adds_to_the_commit_needs_no_savepoint(sqlite: Database) -> None:
    ran: list[str] = []
    sqlite.write(lambda tx: tx.connection.connection.dbapi_connection.set_trace_callback(ran.append))  # type: ignore[union-attr]
    ran.clear()
    logs: list[Work] = [lambda tx: tx.before_commit(write_log, ["read"])] * 3
    together(sqlite, [*logs, lambda tx: tx.execute(ADD, row("a"))])
    assert [it for it in ran if "SAVEPOINT" in it] == ["SAVEPOINT request", "RELEASE SAVEPOINT request"]
    assert left(sqlite) == (["a"], ["000 read", "001 read", "002 read"])


def test_what_a_commit_has_read_once_is_read_again_after_an_undone_request(database: Database) -> None:
    def read(tx: Transaction) -> int:
        if "size" not in tx.shared:
            tx.shared["size"] = len(tx.execute(NAMES).all())
        return int(tx.shared["size"])

    def add(tx: Transaction) -> int:
        tx.execute(ADD, row("a"))
        tx.shared.clear()
        return read(tx)

    def fail(tx: Transaction) -> None:
        tx.execute(DROP, {"which": "a"})
        tx.shared.clear()
        read(tx)
        raise Problem(Category.CONFLICT, "undone")

    def fail_within(tx: Transaction) -> int:
        with pytest.raises(Problem), tx.savepoint():
            fail(tx)
        return read(tx)

    assert together(database, [read, add, read, fail, read, fail_within]) == [0, 1, 1, "undone", 1, 1]
    assert database.write(read) == 1


def test_nothing_is_done_before_a_commit_for_what_was_undone(database: Database) -> None:
    asked: list[Sequence[str]] = []

    def undo(tx: Transaction) -> None:
        with contextlib.suppress(ZeroDivisionError), tx.savepoint():
            tx.before_commit(lambda _, items: asked.append(items), ["undone"])
            raise ZeroDivisionError

    database.write(undo)
    assert asked == []


def test_a_thread_writes_itself_when_nobody_else_does(database: Database) -> None:
    assert database.write(lambda _: threading.current_thread()) is threading.current_thread()


def test_what_comes_while_a_thread_writes_is_left_to_the_writers_thread(database: Database) -> None:
    first_writes, rest_waits = threading.Event(), threading.Event()
    order: list[str] = []

    def first(tx: Transaction) -> None:
        first_writes.set()
        assert rest_waits.wait(10)
        tx.execute(ADD, row("first"))

    def note(name: str) -> threading.Thread:
        order.append(name)
        return threading.current_thread()

    with ThreadPoolExecutor(4) as pool:
        running = pool.submit(database.write, first)
        assert first_writes.wait(10)
        waiting = [pool.submit(database.write, lambda _, name=name: note(name)) for name in ("a", "b", "c")]
        writer = database._writer
        while writer._queue.qsize() + writer._is_next < 3:
            assert not running.done()
        rest_waits.set()
        running.result(10)
        assert {one.result(10).name for one in waiting} == {"database-writer"}
    assert sorted(order) == ["a", "b", "c"]


def test_threads_and_an_event_loop_that_write_at_once_all_end(database: Database) -> None:
    async def awaited(first: int) -> None:
        for number in range(first, first + 20):
            await database.write_async(lambda tx, number=number: tx.execute(ADD, row(f"{number:04}")))

    def waited(first: int) -> None:
        for number in range(first, first + 20):
            database.write(lambda tx, number=number: tx.execute(ADD, row(f"{number:04}")))

    with ThreadPoolExecutor(5) as pool:
        loops = pool.submit(asyncio.run, awaited(0))
        threads = [pool.submit(waited, 100 * number) for number in range(1, 5)]
        for one in (loops, *threads):
            one.result(30)
    with database.read() as connection:
        assert len(NAMES.run(connection).all()) == 100
