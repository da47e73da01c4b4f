"""One database, one commit: durable, atomic per request, grouped, and the same on SQLite and PostgreSQL."""

import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event, func, insert, select
from sqlalchemy.exc import IntegrityError

from kernel.db import Database, Transaction
from kernel.errors import Category, Problem
from kernel.tables import metadata, workers
from kernel.testing import FakeClock

NOON = FakeClock().now()


def add(tx: Transaction, name: str) -> None:
    tx.execute(insert(workers), {"id": name, "host": "h", "pid": 1, "process_start": "", "heartbeat_at": NOON})


def count(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(workers)).scalar_one()


def test_a_completed_write_is_visible_to_every_reader(database: Database) -> None:
    assert database.write(lambda tx: (add(tx, "a"), "done")[1]) == "done"
    with database.read() as connection:
        assert connection.execute(select(workers.c.id, workers.c.heartbeat_at)).one() == ("a", NOON)


def test_a_request_that_raises_leaves_nothing_and_its_neighbours_stay(database: Database) -> None:
    def spoilt(tx: Transaction) -> None:
        add(tx, "half")
        raise Problem(Category.INCORRECT, "no")

    gate = threading.Barrier(8)

    def one(number: int) -> str:
        gate.wait()
        try:
            database.write(spoilt if number % 2 else lambda tx: add(tx, f"good-{number}"))
        except Problem as problem:
            return problem.detail
        return "saved"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(one, range(8)))
    assert sorted(outcomes) == ["no"] * 4 + ["saved"] * 4
    assert count(database) == 4


def test_a_part_of_a_transaction_can_be_undone_alone(database: Database) -> None:
    def undone(tx: Transaction) -> None:
        with tx.savepoint():
            add(tx, "second")
            add(tx, "first")

    def work(tx: Transaction) -> None:
        add(tx, "first")
        with pytest.raises(IntegrityError):
            undone(tx)
        add(tx, "third")

    database.write(work)
    with database.read() as connection:
        assert set(connection.execute(select(workers.c.id)).scalars()) == {"first", "third"}


def test_a_violated_constraint_reaches_only_the_one_who_caused_it(database: Database) -> None:
    database.write(lambda tx: add(tx, "same"))
    with pytest.raises(IntegrityError):
        database.write(lambda tx: add(tx, "same"))
    database.write(lambda tx: add(tx, "other"))
    assert count(database) == 2


def test_many_writers_share_commits(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen writers need far fewer commits than requests, and lose none."""
    commits = 0
    whole = sqlite._writer._run

    def counted(requests: Any) -> Any:
        nonlocal commits
        commits += 1
        return whole(requests)

    monkeypatch.setattr(sqlite._writer, "_run", counted)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: sqlite.write(lambda tx: add(tx, str(n))), range(640)))
    assert count(sqlite) == 640
    assert commits < 640 / 2


def test_the_commit_waits_for_fsync(sqlite: Database) -> None:
    with sqlite._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_a_reader_cannot_write(sqlite: Database) -> None:
    with sqlite.read() as connection, pytest.raises(Exception, match="readonly"):
        connection.execute(
            insert(workers), {"id": "x", "host": "h", "pid": 1, "process_start": "", "heartbeat_at": NOON}
        )


def test_a_full_disk_is_a_refusal_and_the_database_recovers(sqlite: Database) -> None:
    with sqlite._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    def much(tx: Transaction) -> None:
        for number in range(2000):
            add(tx, f"{number:>200}")

    with pytest.raises(Problem) as refused:
        sqlite.write(much)
    assert refused.value.category is Category.UNAVAILABLE
    assert "saved" not in refused.value.detail
    sqlite.write(lambda tx: add(tx, "after"))
    assert count(sqlite) == 1


def test_a_waiting_thread_is_woken_by_the_commit_and_not_before(database: Database) -> None:
    generation = database.signals.generation("jobs")

    def work(tx: Transaction) -> None:
        tx.wake("jobs")
        assert database.signals.generation("jobs") == generation

    database.write(work)
    database.signals.wait("jobs", generation, timeout=5)
    assert database.signals.generation("jobs") > generation


@pytest.mark.postgres
def test_a_commit_wakes_other_processes_on_postgresql(new_postgres_url) -> None:
    url = new_postgres_url()
    here, there = Database.open(url), Database.open(url)
    try:
        here.migrate()
        generation = there.signals.generation("jobs")
        for _ in range(50):  # until the listener's own connection stands
            here.write(lambda tx: tx.wake("jobs"))
            there.signals.wait("jobs", generation, timeout=0.2)
            if there.signals.generation("jobs") != generation:
                break
        assert there.signals.generation("jobs") != generation
    finally:
        here.close()
        there.close()


def test_migrations_make_exactly_the_tables_that_are_declared(database: Database) -> None:
    database.migrate()  # a second time changes nothing
    with database._engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    assert differences == []


@pytest.mark.parametrize("statements", [1, 7, 30])
def test_a_process_killed_during_a_migration_leaves_nothing_of_it(tmp_path: Path, statements: int) -> None:
    """The next start finds the schema as it was and brings it to the newest revision."""
    url = f"sqlite:///{tmp_path}/m.db"
    child = os.fork()
    if child == 0:
        database = Database.open(url)
        executed = []

        def count_changes(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            executed.extend([statement] if statement.lstrip().startswith(("CREATE", "ALTER")) else [])
            if len(executed) > statements:
                os.kill(os.getpid(), 9)

        event.listen(database._engine, "before_cursor_execute", count_changes)
        database.migrate()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    again = Database.open(url)
    again.migrate()
    again.write(lambda tx: add(tx, "after"))
    assert count(again) == 1
    again.close()


def test_a_stopped_server_refuses_to_write(tmp_path: Path) -> None:
    opened = Database.open(f"sqlite:///{tmp_path}/x.db")
    opened.migrate()
    opened.close()
    with pytest.raises(Problem, match="stopping"):
        opened.write(lambda tx: add(tx, "late"))


def test_the_file_is_whole_after_a_kill(tmp_path: Path) -> None:
    """A child that is killed without warning leaves every acknowledged row and a database that checks."""
    path = tmp_path / "k.db"
    first = Database.open(f"sqlite:///{path}")
    first.migrate()
    first.close()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        database = Database.open(f"sqlite:///{path}")
        for number in range(10_000):
            database.write(lambda tx, number=number: add(tx, str(number)))
            os.write(write, b".")
        os._exit(0)
    acknowledged = sum(len(os.read(read, 1)) for _ in range(200))
    os.kill(child, 9)
    os.waitpid(child, 0)
    os.set_blocking(read, False)
    acknowledged += len(os.read(read, 100_000) if _has_more(read) else b"")
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM workers").fetchone()[0] >= acknowledged


def _has_more(handle: int) -> bool:
    import select as system

    return bool(system.select([handle], [], [], 0)[0])
