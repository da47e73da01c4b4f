"""Events are numbered in the commit of the change, without gaps, by any number of processes, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from fhir_adapter.store.document import encode
from fhir_adapter.store.problems import Invalid
from fhir_adapter.store.validate import Validator
from fhir_adapter.store.write import StoreWriter, Target
from fhir_adapter.subscriptions import rows
from fhir_adapter.subscriptions.endpoints import Endpoints
from fhir_adapter.subscriptions.observer import SUBSCRIPTION, Subscriptions
from fhir_adapter.subscriptions.secrets import opened, sealer
from kernel.clock import RandomIds
from kernel.db import Database
from kernel.jobs import Jobs
from kernel.tables import jobs
from kernel.testing import FakeClock, PlainCipher
from privacy.audit import AuditLog
from privacy.keys import KeyRing
from privacy.principal import SERVER


class Process:
    """What one process writes with."""

    def __init__(self, url: str, folder: Path) -> None:
        clock, ids = FakeClock(), RandomIds()
        keys = KeyRing.open_or_create(folder / "keys.json")
        self.database = Database.open(url)
        self.cipher = keys.cipher()
        self.subscriptions = Subscriptions(
            Jobs(clock, ids, PlainCipher()), Endpoints(allowed=("app.example",)), clock, "http://us.example/fhir"
        )
        self.writer = StoreWriter(
            Validator(),
            AuditLog(keys, clock, ids),
            (self.subscriptions,),
            clock,
            ids,
            stored_as={SUBSCRIPTION: sealer(self.cipher)},
        )

    def create(self, resource: dict[str, Any]) -> str:
        prepared = self.writer.prepare_create(resource["resourceType"], encode(resource))
        (written,) = self.database.write(lambda tx: self.writer.apply(tx, prepared, SERVER))
        return written.version.reference

    def events(self, subscription: str) -> list[rows.Event]:
        with self.database.read() as connection:
            return rows.events(connection, subscription, 0, until=10**9, count=10_000)


@pytest.fixture
def process(database: Database, tmp_path: Path) -> Process:
    return Process(database.url.render_as_string(hide_password=False), tmp_path)


def subscription(criteria: str = "Observation?status=final", **channel: Any) -> dict[str, Any]:
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": criteria,
        "channel": {"type": "rest-hook", "endpoint": "https://app.example/hook", **channel},
    }


def observation(status: str = "final") -> dict[str, Any]:
    return {"resourceType": "Observation", "status": status, "code": {"text": "pulse"}}


def id_of(reference: str) -> str:
    return reference.split("/")[1]


def test_two_processes_number_the_events_of_each_subscription_without_gaps(process: Process, tmp_path: Path) -> None:
    other = Process(process.database.url.render_as_string(hide_password=False), tmp_path)
    try:
        watched = [id_of(process.create(subscription())) for _ in range(3)]
        with ThreadPoolExecutor(16) as pool:
            made = list(pool.map(lambda n: (process, other)[n % 2].create(observation()), range(80)))
        for one in watched:
            found = process.events(one)
            assert [event.number for event in found] == list(range(1, 81))
            assert sorted(event.reference for event in found) == sorted(made)
    finally:
        other.database.close()
        process.database.close()


def test_a_subscription_that_another_process_makes_or_ends_holds_at_once(process: Process, tmp_path: Path) -> None:
    other = Process(process.database.url.render_as_string(hide_password=False), tmp_path)
    try:
        process.create(observation())
        made = id_of(other.create(subscription()))
        process.create(observation())
        assert len(process.events(made)) == 1
        gone = other.writer.prepare_delete(Target(type="Subscription", id=made))
        other.database.write(lambda tx: other.writer.apply(tx, gone, SERVER))
        process.create(observation())
        assert len(process.events(made)) == 1
    finally:
        other.database.close()
        process.database.close()


def test_a_change_that_is_undone_leaves_no_number_and_no_job(process: Process) -> None:
    watched = id_of(process.create(subscription()))
    prepared = process.writer.prepare_create("Observation", encode(observation()))

    def fails(tx: Any) -> None:
        process.writer.apply(tx, prepared, SERVER)
        raise LookupError

    with pytest.raises(LookupError):
        process.database.write(fails)
    process.create(observation())
    assert [event.number for event in process.events(watched)] == [1]
    with process.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(jobs)).scalar() == 1
    process.database.close()


def test_a_refused_subscription_watches_nothing(process: Process) -> None:
    with pytest.raises(Invalid):
        process.create(subscription("Observation?subject.name=x"))
    process.create(observation())
    with process.database.read() as connection:
        assert rows.listing(connection) == []
    process.database.close()


def test_events_are_of_resources_that_match_alone(process: Process) -> None:
    watched = id_of(process.create(subscription()))
    process.create(observation("preliminary"))
    last = process.create(observation())
    (event,) = process.events(watched)
    assert event.reference == last
    process.database.close()


def test_the_headers_in_the_database_are_sealed(process: Process) -> None:
    watched = id_of(process.create(subscription(header=["Authorization: Bearer secret-of-the-app"])))
    with process.database.read() as connection:
        row = rows.one(connection, watched)
    assert row is not None
    assert "secret-of-the-app" not in row.definition
    import orjson

    assert opened(process.cipher, orjson.loads(row.definition)) == (("Authorization", "Bearer secret-of-the-app"),)
    process.database.close()
