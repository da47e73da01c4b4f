"""The command line, run as a person would: a process with an environment, its output and its exit code."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, select

from dicom_node.synthesise import chest_x_ray
from inference.testing_folder import PULSE_RISK, pulse_risk
from kernel.tables import index_state, resource_dates, resource_index

from .hospital import Hospital
from .test_dicom_path import CHEST
from .test_held_deliveries import pass_time

AUSCULTA = Path(sys.executable).with_name("ausculta")

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ausculta(tmp_path: Path) -> Command:
    """Run ``ausculta`` on the hospital's data folder."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {"AUSCULTA_DATA_DIR": str(tmp_path / "ausculta"), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
        return subprocess.run(
            [AUSCULTA, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )

    return run


def test_models_list_shows_what_a_hospital_asks_for_first(ausculta: Command) -> None:
    run = ausculta("models", "list")
    assert run.returncode == 0, run.stderr
    for text in ("news2", "cxr-pneumonia", "1.0.0", "active since", "sha256", "owner", "not for clinical use"):
        assert text in run.stdout


def test_models_show_prints_the_card_and_verify_checks_files_and_answers(ausculta: Command) -> None:
    assert "Royal College of Physicians" in ausculta("models", "show", "news2").stdout
    run = ausculta("models", "verify", "news2")
    assert (run.returncode, "as registered" in run.stdout) == (0, True), run.stderr


def test_a_model_folder_is_added_as_shadow_activated_stopped_and_retired(ausculta: Command, hospital: Hospital) -> None:
    hospital.admit()
    assert ausculta("models", "stop", "news2", "--reason", "drill").returncode == 0
    assert "stopped (drill)" in ausculta("models", "list").stdout
    assert ausculta("models", "resume", "news2", "--reason", "drill over").returncode == 0
    hospital.hl7(hospital.vitals())
    hospital.work()
    assert hospital.results()[-1].kind == "prediction"
    assert ausculta("models", "retire", "news2").returncode == 0
    assert "retired" in ausculta("models", "list").stdout


def test_a_folder_is_added_as_long_as_nobody_altered_it(ausculta: Command, tmp_path: Path) -> None:
    folder = pulse_risk(tmp_path / PULSE_RISK)
    altered = tmp_path / "altered"
    shutil.copytree(folder, altered)
    (altered / "card.md").write_text("a better card")

    refused = ausculta("models", "add", str(altered))
    assert refused.returncode == 2
    assert refused.stderr == (
        "ausculta: the model folder altered is refused: card.md has been altered; "
        "what the folder holds now is sealed by: ausculta models verify altered --record\n"
    )
    assert PULSE_RISK not in ausculta("models", "list").stdout

    added = ausculta("models", "add", str(folder))
    assert (added.returncode, f"{PULSE_RISK} 1.0.0 is registered as shadow" in added.stdout) == (0, True), added.stderr
    assert PULSE_RISK in ausculta("models", "list").stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("models", "show", "nonsense"), "nonsense"),
        (("models", "stop"), "--all"),
        (("models", "resume"), "--all"),
        (("results", "ask-again"), "--model"),
        (("results", "ask-again", "nonsense"), "no such result"),
        (("models", "train", "news2", ".", "out"), "news2"),
        (("jobs", "replay", "nonsense"), "nonsense"),
    ],
)
def test_a_mistake_ends_with_one_sentence_and_exit_code_2(
    ausculta: Command, words: tuple[str, ...], named: str
) -> None:
    run = ausculta(*words)
    assert run.returncode == 2
    assert named in run.stderr
    assert "Traceback" not in run.stderr


def test_parked_work_is_listed_with_its_reason_and_replayed(ausculta: Command, hospital: Hospital) -> None:
    hospital.hl7(hospital.vitals())  # the EHR does not know this patient
    pass_time(hospital, 6)
    listed = ausculta("jobs", "parked").stdout
    assert "the FHIR server answered 412" in listed
    with hospital.application.database.read() as connection:
        (delivery,) = hospital.application.outbox.parked(connection)
    assert ausculta("jobs", "replay", delivery.id).returncode == 0
    assert "no results" not in ausculta("jobs", "list").stdout
    with hospital.application.database.read() as connection:
        assert hospital.application.outbox.parked(connection) == []
    events = hospital.all("AuditEvent?_count=200")
    assert "delivery-replayed" in {event["subtype"][0]["code"] for event in events}


def test_the_audit_verifies_is_exported_and_an_alteration_is_found(ausculta: Command, hospital: Hospital) -> None:
    hospital.admit()
    hospital.application.checkpoints.sign()
    whole = ausculta("audit", "verify")
    assert (whole.returncode, "the record is whole" in whole.stdout) == (0, True), whole.stdout
    exported = [json.loads(line) for line in ausculta("audit", "export").stdout.splitlines()]
    assert {event["resourceType"] for event in exported} == {"AuditEvent"}

    from sqlalchemy import text

    hospital.application.database.write(
        lambda tx: tx.execute(text("UPDATE audit_log SET event = replace(event, 'WARDSYS', 'NOBODY') WHERE seq = 0"))
    )
    altered = ausculta("audit", "verify")
    assert altered.returncode == 1
    assert "ALTERED: " in altered.stdout


def test_files_are_sent_to_every_listener(ausculta: Command, hospital: Hospital, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "oru.hl7").write_bytes(hospital.vitals().replace(b"\r", b"\n"))
    (files / "chest.dcm").write_bytes(chest_x_ray(CHEST))
    (files / "patient.json").write_text('{"resourceType": "Patient"}')
    run = ausculta("send", "hl7", str(files / "oru.hl7"), "--port", str(hospital.listeners.mllp_port))
    assert "AA" in run.stdout, run.stderr
    run = ausculta("send", "dicom", str(files / "chest.dcm"), "--port", str(hospital.listeners.dicom_port))
    assert "0x0000" in run.stdout, run.stderr
    run = ausculta("send", "fhir", str(files / "patient.json"), "--url", hospital.url)
    assert "201" in run.stdout, run.stderr


def test_the_ehr_is_checked(ausculta: Command, hospital: Hospital) -> None:
    run = ausculta("ehr", "check", hospital.ehr.url)
    assert (run.returncode, "4.0.1" in run.stdout) == (0, True), run.stderr
    assert ausculta("ehr", "check", "http://127.0.0.1:9/fhir").returncode == 2


def test_migrate_can_be_run_at_any_time(ausculta: Command) -> None:
    for _ in range(2):
        assert ausculta("migrate").returncode == 0


def test_hospitals_train_together_and_the_result_is_a_shadow_with_a_ledger(ausculta: Command, shared: Path) -> None:
    pytest.importorskip("flwr", reason="the extra federated is not installed")
    run = ausculta("federated", "simulate", str(shared / "data" / "uci-heart"), "--rounds", "3")
    assert run.returncode == 0, run.stderr
    for text in ("cleveland", "own model", "registered as shadow", "not meaningful"):
        assert text in run.stdout.lower()
    assert "heart-disease-federated" in ausculta("models", "list").stdout
    assert "the record is whole" in ausculta("audit", "verify").stdout
    again = ausculta("federated", "simulate", str(shared / "data" / "uci-heart"), "--rounds", "1", "--seed", "2")
    assert again.returncode == 0, again.stderr


def test_a_command_that_comes_first_after_an_upgrade_makes_the_search_index_again(
    ausculta: Command, hospital: Hospital
) -> None:
    """As a migration leaves it, the index is empty: whatever looks a resource up would find none."""
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    database = hospital.application.database

    def index() -> tuple[list[str], set[tuple[Any, ...]]]:
        with database.read() as connection:
            marks = list(connection.execute(select(index_state.c.fingerprint)).scalars())
            return marks, {tuple(row) for row in connection.execute(select(resource_index))}

    before = index()
    assert before[1]
    for table in (index_state, resource_index, resource_dates):
        database.write(lambda tx, table=table: tx.execute(delete(table)))
    assert ausculta("models", "list").returncode == 0
    assert index() == before


def demanding_a_name(folder: Path, **more: Any) -> Path:
    """Write a package whose profile demands a name of each Patient."""
    name = {"id": "Patient.name", "path": "Patient.name", "min": 1, "max": "*", "type": [{"code": "HumanName"}]}
    root = {"id": "Patient", "path": "Patient", "min": 0, "max": "*"}
    definition = {
        "resourceType": "StructureDefinition",
        "url": "http://example.org/StructureDefinition/named",
        "type": "Patient",
        "derivation": "constraint",
    }
    folder.mkdir()
    content = definition | (more or {"snapshot": {"element": [root, name]}})
    (folder / "StructureDefinition-named.json").write_text(json.dumps(content))
    return folder


def test_a_site_adds_profiles_and_the_running_server_knows_them_at_once(
    ausculta: Command, hospital: Hospital, tmp_path: Path
) -> None:
    def errors() -> list[str]:
        url = f"{hospital.url}/Patient/$validate?profile=http://example.org/StructureDefinition/named"
        found = httpx.post(url, json={"resourceType": "Patient", "active": True}, trust_env=False).json()["issue"]
        return [it["expression"][0] for it in found if it["severity"] == "error"]

    assert errors() == ["Patient"]  # the profile is not known
    run = ausculta("profiles", "add", str(demanding_a_name(tmp_path / "site")))
    assert (run.returncode, run.stdout) == (0, "1 profiles are known from site\n"), run.stderr
    assert errors() == ["Patient.name"]
    assert "http://example.org/StructureDefinition/named" in ausculta("profiles", "list").stdout


def test_a_package_without_snapshots_is_refused(ausculta: Command, tmp_path: Path) -> None:
    run = ausculta("profiles", "add", str(demanding_a_name(tmp_path / "site", differential={"element": []})))
    assert run.returncode == 2
    assert run.stderr == (
        "ausculta: a profile of the package has only a differential; a package with snapshots is needed\n"
    )
    assert not (tmp_path / "ausculta" / "profiles").exists()
