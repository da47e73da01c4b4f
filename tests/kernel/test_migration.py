"""A database of the first release is migrated without loss."""

import gzip
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from dicom_node.testing import StandInPacs
from fhir_adapter.hl7v2.testing import StandInEngine
from fhir_adapter.testing import LoopbackServer, StandInEhr
from kernel.db import Database
from kernel.tables import models, outbox
from kernel.testing import FakeClock
from privacy.keys import KeyRing
from privacy.verify import verify
from service.api import http_application
from service.application import Application, build
from service.results import Results
from service.settings import DicomPeer, HostPort, load

FIRST_RELEASE = Path(__file__).parent / "fixtures" / "spine"

RENAMED = {
    ("outbox", "about"): "subject",
    ("results", "at"): "computed_at",
    ("audit_head", "one"): "id",
    ("workers", "born"): "process_start",
    ("associations", "door"): "listener",
}
"""Table and column of the first release -> today's column; every other column keeps its name."""

MADE_AGAIN = {"resource_index"}
"""Tables whose rows are made again from the others, at the next start."""

JOINED = {
    "resource_versions": (
        "(SELECT type, id, v.version, v.last_updated, method, content"
        " FROM resource_versions AS v JOIN resource_heads USING (key))"
    )
}
"""Table -> what holds its former columns today."""

Rows = dict[str, list[tuple[Any, ...]]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of the first release."""
    folder = tmp_path / "ausculta"
    shutil.copytree(FIRST_RELEASE, folder)
    packed = folder / "ausculta.db.gz"
    (folder / "ausculta.db").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    (folder / "keys.json").chmod(0o600)
    return folder


def columns_of(file: Path) -> dict[str, list[str]]:
    """Name the columns of every table."""
    with closing(sqlite3.connect(file)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            table: [quoted(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")]
            for table in tables
            if table not in {"alembic_version", *MADE_AGAIN} and not table.startswith("sqlite_")
        }


def quoted(name: str) -> str:
    return f'"{name}"'


def rows_of(file: Path, columns: dict[str, list[str]], joined: dict[str, str] | None = None) -> Rows:
    """Read those columns of every row, without the code under test."""
    with closing(sqlite3.connect(file)) as connection:
        return {
            table: sorted(connection.execute(f"SELECT {', '.join(names)} FROM {source}").fetchall(), key=repr)
            for table, names in columns.items()
            for source in [(joined or {}).get(table, table)]
        }


@pytest.fixture
def migrated(data: Path) -> Iterator[Database]:
    opened = Database.open(f"sqlite:///{data / 'ausculta.db'}")
    opened.migrate()
    yield opened
    opened.close()


def test_the_database_of_the_first_release_holds_every_kind_of_work(data: Path) -> None:
    """The preconditions of the other tests."""
    file = data / "ausculta.db"
    with closing(sqlite3.connect(file)) as connection:

        def states(statement: str) -> set[tuple[Any, ...]]:
            return set(connection.execute(statement))

        assert states("SELECT version_num FROM alembic_version") == {("0001",)}
        assert states("SELECT destination, status FROM outbox") >= {
            ("ehr", "delivered"),
            ("ehr", "parked"),
            ("ehr", "pending"),
            ("engine", "delivered"),
            ("pacs", "delivered"),
        }
        assert states("SELECT step, status FROM jobs") >= {("assess", "parked"), ("deliver", "waiting")}
        assert states("SELECT model FROM results") == {("news2",), ("cxr-pneumonia",)}
        assert states("SELECT name FROM models WHERE stopped") == {("cxr-pneumonia",)}
        assert states("SELECT count(*) FROM associations") == {(1,)}
        assert states("SELECT size FROM audit_checkpoints") == states("SELECT count(*) FROM audit_log")
        assert states("SELECT state FROM inbox") == {("done",), ("received",)}


def test_every_row_keeps_its_content_under_the_new_names(data: Path) -> None:
    file = data / "ausculta.db"
    columns = columns_of(file)
    before = rows_of(file, columns)
    database = Database.open(f"sqlite:///{file}")
    database.migrate()
    database.close()

    names = {
        table: [quoted(RENAMED.get((table, column.strip('"')), column.strip('"'))) for column in old]
        for table, old in columns.items()
    }
    after = rows_of(file, names, JOINED)
    assert {table: len(rows) for table, rows in after.items()} == {table: len(rows) for table, rows in before.items()}
    for table, rows in before.items():
        assert after[table] == rows, table


def test_earlier_results_keep_their_pictures_and_name_no_artefact(migrated: Database) -> None:
    with migrated.read() as connection:
        rows = Results().newest(connection, limit=100)
    assert {(row.artefacts, row.software_version) for row in rows} == {((), None)}
    assert all(row.image and row.heat_map for row in rows if row.model == "cxr-pneumonia" and row.kind == "prediction")
    assert any(row.heat_map for row in rows)


def test_the_audit_log_is_still_whole(migrated: Database, data: Path) -> None:
    keys = KeyRing.open_or_create(data / "keys.json")
    with migrated.read() as connection:
        report = verify(connection, keys, data / "audit-checkpoints.jsonl")
    assert (report.ok, list(report.problems)) == (True, [])
    assert report.size > 0


@pytest.fixture
def around(tmp_path: Path) -> Iterator[tuple[StandInEhr, StandInEngine, StandInPacs]]:
    """The three systems that results go to."""
    systems = StandInEhr(tmp_path / "ehr"), StandInEngine(), StandInPacs().start()
    yield systems
    for system in systems:
        system.close()


@pytest.fixture
def application(data: Path, around: tuple[StandInEhr, StandInEngine, StandInPacs]) -> Iterator[Application]:
    """The current server on the data of the first release, ten minutes after it ended."""
    ehr, engine, pacs = around
    clock = FakeClock()
    clock.advance(600)
    settings = load(
        {},
        None,
        data_dir=data,
        mllp_port=0,
        dicom_port=0,
        ehr_url=ehr.url,
        interface_engine=HostPort(host="127.0.0.1", port=engine.port),
        pacs=DicomPeer(ae_title="PACS", host="127.0.0.1", port=pacs.peer.port),
        device="cpu",
    )
    built = build(settings, clock=clock)
    built.worker.register()
    yield built
    built.close()


def test_every_version_of_every_resource_can_be_read(application: Application, data: Path) -> None:
    with closing(sqlite3.connect(data / "ausculta.db")) as connection:
        versions = connection.execute(
            "SELECT type, id, v.version, content FROM resource_versions AS v JOIN resource_heads USING (key)"
        ).fetchall()
    web = LoopbackServer(http_application(application))
    try:
        with httpx.Client(base_url=f"{web.url}/fhir") as client:
            for kind, identifier, version, content in versions:
                answer = client.get(f"{kind}/{identifier}/_history/{version}")
                expected = (410, None) if content is None else (200, content)
                assert (answer.status_code, answer.content if content else None) == expected, f"{kind}/{identifier}"
    finally:
        web.close()


def test_pending_deliveries_are_sent_and_parked_ones_wait(
    application: Application, around: tuple[StandInEhr, StandInEngine, StandInPacs]
) -> None:
    ehr, engine, _pacs = around
    identifier = [{"system": "urn:ausculta:authority:HOSPITAL", "value": "4711"}]
    ehr.put({"resourceType": "Patient", "id": "ehr-4711", "identifier": identifier})
    with application.database.read() as connection:
        pending = application.outbox.pending(connection, "ehr")
        parked = application.outbox.parked(connection)
    assert (len(pending), len(parked)) == (2, 1)

    while application.worker.run_one():
        pass

    with application.database.read() as connection:
        states = {row.id: row.status for row in connection.execute(select(outbox.c.id, outbox.c.status))}
        stopped = connection.execute(
            select(models.c.name, models.c.version, models.c.status).where(models.c.stopped).order_by(models.c.version)
        ).all()
        (job,) = application.jobs.listing(connection, "parked")
    assert {states[delivery.id] for delivery in pending} == {"delivered"}
    assert {states[delivery.id] for delivery in parked} == {"parked"}
    assert (job.step, job.payload["version"]) == ("assess", "0.9.0")
    # the stop holds for the new version too, which comes as shadow; what a person has stopped is not retired
    assert [tuple(row) for row in stopped] == [
        ("cxr-pneumonia", "1.0.0", "active"),
        ("cxr-pneumonia", "1.1.0", "shadow"),
    ]
    # the two that were pending, and the message that was accepted but not yet converted
    assert len(ehr.received("RiskAssessment")) == 3
    # that message, and the study with the late instance, whose model is stopped
    assert len(engine.received()) == 2
