"""The same store on SQLite and on PostgreSQL: one contract."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhir_adapter.facts import patient_facts
from fhir_adapter.rest import writes
from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.steps import Call
from fhir_adapter.store.document import encode
from fhir_adapter.store.history import Past, of_resource, of_type
from fhir_adapter.store.problems import Gone, PreconditionFailed
from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.parse import parse
from fhir_adapter.store.store import Store
from fhir_adapter.store.validate import Validator
from fhir_adapter.store.versions import StoredVersion
from fhir_adapter.store.write import StoreWriter, Target
from kernel.clock import RandomIds
from kernel.db import Database, Transaction
from kernel.errors import Category, Problem
from kernel.testing import FakeClock
from privacy.audit import AuditLog
from privacy.authorize import LoopbackAuthorizer
from privacy.keys import KeyRing
from privacy.principal import Principal

from .examples import entry, observation, patient

CALL = Call(principal=Principal(client="test", client_address="127.0.0.1"), base="http://us.example.org/fhir")


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def audit(clock: FakeClock, tmp_path: Path) -> AuditLog:
    return AuditLog(KeyRing.open_or_create(tmp_path / "keys.json"), clock, RandomIds())


@pytest.fixture
def writer(audit: AuditLog, clock: FakeClock) -> StoreWriter:
    return StoreWriter(Validator(), audit, (), clock, RandomIds())


@pytest.fixture
def backend(database: Database, store: Store, writer: StoreWriter, audit: AuditLog, clock: FakeClock) -> Backend:
    return Backend(database, store, writer, audit, LoopbackAuthorizer(), clock)


def put(
    database: Database, writer: StoreWriter, resource: dict[str, Any], if_match: str | None = None
) -> StoredVersion:
    prepared = writer.prepare_update(
        Target(type=resource["resourceType"], id=resource["id"]), encode(resource), if_match
    )
    (done,) = database.write(lambda tx: writer.apply(tx, prepared, CALL.principal))
    return done.version


def found(database: Database, kind: str, query: str) -> list[str]:
    with database.read() as connection:
        return [version.id for version in find(connection, parse(kind, query)).found]


def test_versions_are_kept_and_the_newest_is_read(database: Database, store: Store, writer: StoreWriter) -> None:
    put(database, writer, patient())
    put(database, writer, patient(gender="male"))
    with database.read() as connection:
        assert store.read(connection, "Patient", "p1").version == 2
        assert b'"female"' in store.vread(connection, "Patient", "p1", 1).content
        assert [it.version for it in store.history(connection, "Patient", "p1")] == [2, 1]


def test_a_replayed_message_makes_no_new_version(database: Database, writer: StoreWriter) -> None:
    first, again = put(database, writer, patient()), put(database, writer, patient())
    assert (first.created, first.changed) == (True, True)
    assert (again.created, again.changed, again.reference) == (False, False, first.reference)


def test_a_wrong_version_changes_nothing(database: Database, writer: StoreWriter) -> None:
    put(database, writer, patient())
    with pytest.raises(PreconditionFailed):
        put(database, writer, patient(gender="male"), if_match='W/"7"')
    with pytest.raises(PreconditionFailed):
        put(database, writer, patient("new"), if_match='W/"1"')


def test_a_deleted_resource_is_neither_read_nor_found(database: Database, store: Store, writer: StoreWriter) -> None:
    put(database, writer, patient())
    prepared = writer.prepare_delete(Target(type="Patient", id="p1"))
    (done,) = database.write(lambda tx: writer.apply(tx, prepared, CALL.principal))
    gone = done.version
    assert (gone.deleted, gone.version, gone.patient) == (True, 2, "Patient/p1")
    assert found(database, "Patient", "") == []
    with database.read() as connection:
        with pytest.raises(Gone):
            store.read(connection, "Patient", "p1")
        with pytest.raises(Problem) as refusal:
            store.read(connection, "Patient", "other")
    assert refusal.value.category is Category.NOT_FOUND


def test_search_sorts_and_pages_alike(database: Database, writer: StoreWriter, clock: FakeClock) -> None:
    for place in range(5):
        clock.advance(1)
        put(database, writer, observation(id=f"o{place}", effectiveDateTime=f"2026-01-1{9 - place}T00:00:00Z"))
    assert found(database, "Observation", "patient=p1&code=8867-4&_sort=-date") == ["o0", "o1", "o2", "o3", "o4"]
    assert found(database, "Observation", "date=ge2026-01-17&_sort=date") == ["o2", "o1", "o0"]
    with database.read() as connection:
        first = find(connection, parse("Observation", "_count=2"))
        assert first.cursor is not None
        second = find(connection, parse("Observation", f"_count=2&_cursor={first.cursor.text()}"))
    assert [it.id for it in (*first.found, *second.found)] == ["o4", "o3", "o2", "o1"]


def test_facts_are_read_alike(database: Database, store: Store, writer: StoreWriter, clock: FakeClock) -> None:
    put(database, writer, observation(id="a"))
    with database.read() as connection:
        since = clock.now().replace(hour=0)
        (fact,) = patient_facts(connection, store, "Patient/p1", ["http://loinc.org|8867-4"], since)
    assert fact.source == "Observation/a/_history/1"


def test_conditional_creates_at_once_make_one(backend: Backend, database: Database) -> None:
    body = orjson.dumps(patient())

    def create(_: int) -> int:
        return backend.complete(writes.create(backend, CALL, "Patient", body, if_none_exist="identifier=MRN-p1")).status

    with ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(create, range(64))) == [200] * 63 + [201]
    assert len(found(database, "Patient", "")) == 1


def test_conditional_updates_at_once_make_one(backend: Backend, database: Database) -> None:
    body = orjson.dumps({key: value for key, value in patient().items() if key != "id"})
    target = Target(type="Patient", query="identifier=MRN-p1")

    def update(_: int) -> int:
        return backend.complete(writes.update(backend, CALL, target, body)).status

    with ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(update, range(64))) == [200] * 63 + [201]
    assert len(found(database, "Patient", "")) == 1


def test_concurrent_updates_are_all_stored(backend: Backend, database: Database, store: Store) -> None:
    def update(place: int) -> int:
        body = orjson.dumps(patient(birthDate=f"19{place + 10}"))
        return backend.complete(writes.update(backend, CALL, Target(type="Patient", id="p1"), body)).status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(update, range(16))) == [200] * 15 + [201]
    with database.read() as connection:
        assert [it.version for it in store.history(connection, "Patient", "p1")] == list(range(16, 0, -1))


def test_a_transaction_that_fails_late_leaves_nothing(writer: StoreWriter, database: Database) -> None:
    entries = [entry("PUT", "Patient/p1", patient()), entry("PUT", "Patient/p2", patient("p2"), ifMatch='W/"3"')]
    bundle = writer.prepare_bundle(encode({"resourceType": "Bundle", "type": "transaction", "entry": entries}))
    with pytest.raises(PreconditionFailed):
        database.write(lambda tx: writer.apply(tx, bundle.changes, CALL.principal))
    assert found(database, "Patient", "") == []


def test_a_patch_and_a_conditional_delete_are_part_of_the_commit(
    database: Database, store: Store, writer: StoreWriter
) -> None:
    put(database, writer, patient())
    target = Target(type="Patient", query="identifier=MRN-p1")
    patched = writer.prepare_patch(target, lambda content: {**content, "gender": "male"})
    deleted = writer.prepare_delete(target)
    (done,) = database.write(lambda tx: writer.apply(tx, patched, CALL.principal))
    assert (done.version.version, done.patched) == (2, True)
    (done,) = database.write(lambda tx: writer.apply(tx, deleted, CALL.principal))
    assert (done.version.version, done.version.deleted) == (3, True)
    (nothing,) = database.write(lambda tx: writer.apply(tx, deleted, CALL.principal))
    assert nothing.searched == "Patient?identifier=MRN-p1"
    with database.read() as connection:
        assert b'"male"' in store.vread(connection, "Patient", "p1", 2).content


def test_patches_at_once_are_all_made(backend: Backend, database: Database, store: Store) -> None:
    whole = orjson.dumps(patient(name=[{"text": "x"}]))
    backend.complete(writes.update(backend, CALL, Target(type="Patient", id="p1"), whole))

    def patch(place: int) -> int:
        body = orjson.dumps([{"op": "add", "path": "/name/-", "value": {"text": str(place)}}])
        target = Target(type="Patient", id="p1")
        return backend.complete(writes.patch(backend, CALL, target, body, "application/json-patch+json")).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(patch, range(16))) == {200}
    with database.read() as connection:
        names = orjson.loads(store.read(connection, "Patient", "p1").content)["name"]
    assert sorted(name["text"] for name in names) == sorted(["x", *map(str, range(16))])


def test_the_history_of_a_type_is_read_alike(database: Database, writer: StoreWriter, clock: FakeClock) -> None:
    put(database, writer, patient())
    since = clock.now()
    clock.advance(60)
    put(database, writer, observation(id="o"))
    put(database, writer, patient(gender="male"))
    with database.read() as connection:
        whole = of_type(connection, "", Past(count=2))
        rest = of_type(connection, "", Past(count=2, before=whole.onward))
        late = of_type(connection, "Patient", Past(count=9, since=clock.now()))
        then = of_type(connection, "Patient", Past(count=9, at=(since, since + timedelta(seconds=1))))
        own = of_resource(connection, "Patient", "p1", Past(count=1, before=10**17))
    references = [it.reference for it in (*whole.found, *rest.found)]
    assert references == ["Patient/p1/_history/2", "Observation/o/_history/1", "Patient/p1/_history/1"]
    assert rest.onward is None
    assert [it.version for it in (*late.found, *then.found, *own.found)] == [2, 1, 2]


def test_resources_created_after_an_undone_request_have_numbers_of_their_own(
    database: Database, writer: StoreWriter
) -> None:
    def create(name: str) -> None:
        prepared = writer.prepare_create("Patient", encode(patient(identifier=[{"system": "urn:x", "value": name}])))

        def work(tx: Transaction) -> None:
            if name == "undone":
                with contextlib.suppress(ZeroDivisionError), tx.savepoint():
                    writer.apply(tx, prepared, CALL.principal)
                    raise ZeroDivisionError
            else:
                writer.apply(tx, prepared, CALL.principal)

        database.write(work)

    with ThreadPoolExecutor(8) as many:
        list(many.map(create, [*map(str, range(70)), "undone", *map(str, range(70, 100)), "undone"]))
    for name in ("0", "69", "70", "99"):
        assert len(found(database, "Patient", f"identifier=urn:x|{name}")) == 1
    assert found(database, "Patient", "identifier=urn:x|undone") == []
    assert len(found(database, "Patient", "_count=1000")) == 100
