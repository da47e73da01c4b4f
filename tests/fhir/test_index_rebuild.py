"""The search index is made again by one process, whole, wherever a database is prepared for use."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import delete, insert, select, update

from fhir_adapter.store.search import rebuild
from fhir_adapter.store.search.index import DATE_COLUMNS, VALUE_COLUMNS, date_rows, rows, value_rows
from fhir_adapter.store.search.rebuild import fingerprint, rebuild_index
from fhir_adapter.store.upgrade import prepare_database
from fhir_adapter.store.validate import Validator
from fhir_adapter.store.versions import CURRENT
from fhir_adapter.store.write import StoreWriter, Target
from kernel.db import Database, Transaction
from kernel.errors import Category, Problem
from kernel.tables import index_state, resource_dates, resource_heads, resource_index, resource_versions
from kernel.testing import FakeClock, SequenceIds
from privacy.audit import AuditLog
from privacy.keys import KeyRing
from privacy.principal import Principal

from .examples import observation

REPOSITORY = Path(__file__).parents[2]
NOON = FakeClock().now()
RESOURCES = 1100
"""More than are indexed in two commits."""

CONTENTS = {
    key: orjson.dumps({**observation(), "resourceType": "Observation", "id": f"o{key}"})
    for key in range(1, RESOURCES + 1)
}
STALE = {"param": 1, "value": "of an earlier release", "key": 1, "system": ""}


def stock(tx: Transaction) -> None:
    """Store resources without their index, as a migration leaves them."""
    head = {"type": "Observation", "version": 1, "deleted": False, "last_updated": NOON}
    version = {"version": 1, "last_updated": NOON, "method": "POST", "patient": None}
    tx.execute(insert(resource_heads), [{**head, "id": f"o{key}"} for key in CONTENTS])
    tx.execute(insert(resource_versions), [{**version, "key": key, "content": it} for key, it in CONTENTS.items()])
    outdate(tx)


def outdate(tx: Transaction) -> None:
    """Leave the index of an earlier release."""
    tx.execute(delete(index_state))
    tx.execute(insert(index_state), {"fingerprint": "earlier"})
    tx.execute(delete(resource_index).where(resource_index.c.value == STALE["value"]))
    tx.execute(insert(resource_index), STALE)


def sorted_rows(found: Any) -> list[list[tuple[str, Any]]]:
    return sorted(sorted(row.items()) for row in found)


def assert_whole(database: Database) -> None:
    """Compare the index with the newest versions, read one by one."""
    with database.read() as connection:
        current = connection.execute(CURRENT.where(resource_heads.c.deleted.is_(False))).all()
        values, dates = (
            [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in (resource_index, resource_dates)
        )
        marks = connection.execute(select(index_state.c.fingerprint)).scalars().all()
    made = [(row.key, rows(orjson.loads(row.content))) for row in current]
    assert marks == [fingerprint()]
    made_values = (dict(zip(VALUE_COLUMNS, row, strict=True)) for row in value_rows(made))
    made_dates = (dict(zip(DATE_COLUMNS, row, strict=True)) for row in date_rows(made))
    assert sorted_rows(values) == sorted_rows(made_values)
    assert sorted_rows(dates) == sorted_rows(made_dates)


@pytest.fixture
def stocked(database: Database) -> Database:
    database.write(stock)
    return database


@pytest.fixture
def servers(stocked: Database) -> Iterator[list[Database]]:
    """Four servers on one database."""
    opened = [Database.open(stocked.url.render_as_string(hide_password=False)) for _ in range(4)]
    yield opened
    for database in opened:
        database.close()


def test_of_servers_that_start_at_once_one_makes_the_index_again(stocked: Database, servers: list[Database]) -> None:
    gate = threading.Barrier(len(servers))

    def start(database: Database) -> int:
        gate.wait()
        database.migrate()
        return rebuild_index(database)

    with ThreadPoolExecutor(len(servers)) as pool:
        for _ in range(4):
            assert sorted(pool.map(start, servers)) == [0, 0, 0, RESOURCES]
            assert_whole(stocked)
            stocked.write(outdate)


def test_an_index_that_is_up_to_date_is_left_alone(stocked: Database) -> None:
    assert rebuild_index(stocked) == RESOURCES
    assert rebuild_index(stocked) == 0


def test_a_process_killed_meanwhile_leaves_the_work_to_the_next(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    database = Database.open(url)
    database.migrate()
    database.write(stock)
    database.close()
    child = os.fork()
    if child == 0:
        try:
            rebuild._PROGRESS_EVERY = 1  # type: ignore[misc]
            rebuild._log = Interleaved(lambda: os.kill(os.getpid(), 9))
            rebuild_index(Database.open(url))
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    again = Database.open(url)
    assert rebuild_index(again) == RESOURCES
    assert_whole(again)
    again.close()


class Interleaved:
    """A log that does something at its first line, which is written after the first commit of rows."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._waiting = [work]

    def info(self, *_: object, **__: object) -> None:
        while self._waiting:
            self._waiting.pop()()


def test_what_another_process_writes_meanwhile_is_indexed_as_it_is(
    stocked: Database, servers: list[Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was started before the upgrade may still be there when a command makes the index again."""
    keys = KeyRing.open_or_create(tmp_path / "keys.json")
    clock, ids = FakeClock(), SequenceIds()
    writer = StoreWriter(Validator(), AuditLog(keys, clock, ids), (), clock, ids)
    changed = {"code": {"coding": [{"system": "http://loinc.org", "code": "9279-1"}]}}
    principal = Principal(client="test", client_address="", user="test")

    def write_on() -> None:
        for changes in (
            *(
                writer.prepare_update(
                    Target(type="Observation", id=name), orjson.dumps({**observation(**changed), "id": name})
                )
                for name in ("o5", "o1000")
            ),
            *(writer.prepare_delete(Target(type="Observation", id=name)) for name in ("o6", "o1001")),
            writer.prepare_create("Observation", orjson.dumps(observation(**changed))),
        ):
            servers[1].write(lambda tx, changes=changes: writer.apply(tx, changes, principal))

    monkeypatch.setattr(rebuild, "_PROGRESS_EVERY", 1)
    monkeypatch.setattr(rebuild, "_log", Interleaved(write_on))
    rebuild_index(servers[0])
    assert_whole(stocked)


def test_a_process_that_lost_its_lock_stops_and_leaves_no_mark(
    stocked: Database, servers: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server of PostgreSQL may end the connection that holds the lock; another process then begins."""
    monkeypatch.setattr(rebuild, "_PROGRESS_EVERY", 1)
    begin = partial(rebuild._empty, mark="of another process")
    monkeypatch.setattr(rebuild, "_log", Interleaved(lambda: servers[1].write(begin)))
    with pytest.raises(Problem, match="another process") as refused:
        rebuild_index(servers[0])
    assert refused.value.category is Category.UNAVAILABLE
    with stocked.read() as connection:
        assert connection.execute(select(index_state.c.fingerprint)).scalars().all() == ["of another process"]
    assert rebuild_index(servers[2]) == RESOURCES
    assert_whole(stocked)


def test_a_prepared_database_has_its_schema_and_its_index(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/a.db")
    prepare_database(database)
    database.write(lambda tx: tx.execute(update(index_state).values(fingerprint="earlier")))
    prepare_database(database)
    with database.read() as connection:
        assert connection.execute(select(index_state.c.fingerprint)).scalars().all() == [fingerprint()]
    database.close()


def test_nothing_else_migrates_a_database_without_making_its_index() -> None:
    packages = ("kernel", "privacy", "inference", "fhir_adapter", "dicom_node", "federated", "service", "benchmarks")
    calls = {
        path.relative_to(REPOSITORY).as_posix()
        for package in packages
        for path in (REPOSITORY / package).rglob("*.py")
        if ".migrate()" in path.read_text()
    }
    assert calls == {"fhir_adapter/store/upgrade.py"}
