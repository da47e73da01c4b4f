"""Results have one owner: what it stores, and how a result's state changes."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, text

from inference import registry
from kernel.errors import Category, Problem
from kernel.migrations.versions import r0003_results
from service.results import StoredResult

from .hospital import Hospital
from .test_dicom_path import CHEST

ROOT = Path(__file__).parents[2]


def newest(hospital: Hospital, **about: str) -> StoredResult:
    with hospital.application.database.read() as connection:
        return hospital.application.results.newest(connection, limit=1, **about)[0]


def test_only_the_owner_touches_the_table() -> None:
    packages = ("kernel", "privacy", "inference", "fhir_adapter", "dicom_node", "federated", "service")
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    imports = re.compile(r"from kernel\.tables import [^\n]*\bresults\b|tables\.results\b")
    users = {path.relative_to(ROOT).as_posix() for path in files if imports.search(path.read_text())}
    assert users == {"service/results/store.py"}


def test_a_score_keeps_its_numbers_its_features_its_latency_and_the_patients_version(hospital: Hospital) -> None:
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    stored = newest(hospital, model="news2")
    (output,) = stored.outputs
    assert (output["name"], output["value"], output["band"]) == ("total", 19.0, "high")
    pulse = next(feature for feature in stored.features if feature["name"] == "pulse")
    assert (pulse["value"], pulse["unit"], pulse["status"]) == ("131", "/min", "used")
    assert pulse["source"] in stored.inputs
    assert stored.latency_ms is not None
    assert stored.latency_ms > 0
    assert stored.subject_version == f"{stored.subject}/_history/1"
    assert (stored.state, stored.reason) == ("preliminary", None)


def test_a_refusal_keeps_its_reason_and_says_which_features_failed_it(hospital: Hospital) -> None:
    hospital.hl7(hospital.vitals(spo2="", pulse="999"))
    hospital.work()
    stored = newest(hospital)
    assert stored.reason is not None
    assert stored.summary == f"AI result not available: {stored.reason}"
    statuses = {feature["name"]: feature["status"] for feature in stored.features}
    assert (statuses["oxygen_saturation"], statuses["pulse"], statuses["systolic"]) == (
        "missing",
        "implausible",
        "used",
    )


def test_a_changed_patient_does_not_change_the_identity_of_a_result(hospital: Hospital) -> None:
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    assert not any(version.startswith("Patient/") and "_history" in version for version in newest(hospital).inputs)


def test_a_late_instance_supersedes_the_earlier_result(hospital: Hospital) -> None:
    hospital.dicom(replace(CHEST, view="AP", instance=2))
    hospital.rest()
    earlier = newest(hospital)
    hospital.dicom(CHEST)  # PA, which the model prefers
    hospital.rest()
    later = newest(hospital)
    with hospital.application.database.read() as connection:
        found = hospital.application.results.one(connection, earlier.id)
    assert found is not None
    assert (found.state, found.superseded_by) == ("superseded", later.id)
    assert later.state == "preliminary"


def test_a_state_changes_only_as_the_table_allows(hospital: Hospital) -> None:
    hospital.hl7(hospital.vitals())
    hospital.work()
    identifier, results = newest(hospital).id, hospital.application.results
    write = hospital.application.database.write
    write(lambda tx: results.change_state(tx, identifier, "withdrawn"))
    assert newest(hospital).state == "withdrawn"
    with pytest.raises(Problem) as refused:
        write(lambda tx: results.change_state(tx, identifier, "amended"))
    assert refused.value.category is Category.CONFLICT
    write(lambda tx: results.change_state(tx, identifier, "entered-in-error"))
    assert newest(hospital).state == "entered-in-error"


def test_an_unknown_result_has_no_state(hospital: Hospital) -> None:
    with pytest.raises(Problem) as refused:
        hospital.application.database.write(
            lambda tx: hospital.application.results.change_state(tx, "0" * 64, "withdrawn")
        )
    assert refused.value.category is Category.NOT_FOUND


def test_the_migration_takes_the_reason_from_the_summary_of_a_refusal() -> None:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE outbox (id TEXT)"))
        connection.execute(text("CREATE TABLE results (id TEXT, kind TEXT, summary TEXT)"))
        connection.execute(text("INSERT INTO results VALUES ('a','declined','AI result not available: missing pulse')"))
        connection.execute(text("INSERT INTO results VALUES ('b','prediction','NEWS2: 7 (high)')"))
        with Operations.context(MigrationContext.configure(connection)):
            r0003_results.upgrade()
        rows = connection.execute(text("SELECT id, reason, state, outputs FROM results ORDER BY id")).all()
    assert rows == [("a", "missing pulse", "preliminary", "[]"), ("b", None, "preliminary", "[]")]


def test_a_shadow_result_supersedes_nothing_that_was_delivered(hospital: Hospital) -> None:
    """The model goes to shadow between two instances of a study: what the clinician has is still the newest."""
    hospital.dicom(replace(CHEST, view="AP", instance=2))
    hospital.rest()
    delivered = newest(hospital)
    at = hospital.clock.now()
    hospital.application.database.write(
        lambda tx: registry.set_status(tx, delivered.model, delivered.version, "shadow", by="test", at=at)
    )
    hospital.dicom(CHEST)  # PA, which the model prefers
    hospital.rest()
    with hospital.application.database.read() as connection:
        stored = hospital.application.results.newest(connection, limit=9, study=delivered.study)
    assert [(one.status, one.state) for one in stored] == [("shadow", "preliminary"), ("active", "preliminary")]
    assert stored[1].superseded_by is None
