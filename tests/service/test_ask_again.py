"""A failure that has passed is not the last word: a person asks again, and the answer takes its place."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_adapter.hl7v2.synthesise import SyntheticPatient
from privacy.principal import Principal
from service.operations.results import ask_all_again

from .hospital import ADULT, Hospital
from .test_dicom_path import CHEST

SCORE, IMAGE = "score.ScoreRunner", "torch_image.ImageClassifierRunner"
PERSON = Principal(client="test", client_address="", user="somebody")
AUSCULTA = Path(sys.executable).with_name("ausculta")


@pytest.fixture
def ausculta(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``ausculta`` on the hospital's data folder."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {"AUSCULTA_DATA_DIR": str(tmp_path / "ausculta"), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
        return subprocess.run(
            [AUSCULTA, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )

    return run


def fail(runner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every model of a runner fail until :meth:`pytest.MonkeyPatch.undo`."""

    def broken(*_args: object, **_options: object) -> Any:
        raise MemoryError

    monkeypatch.setattr(f"inference.runners.{runner}.predict", broken)


@pytest.fixture
def failed(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    """A hospital where NEWS2 has run out of memory for one patient; it has enough now."""
    fail(SCORE, monkeypatch)
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    monkeypatch.undo()
    assert [row.kind for row in hospital.results()] == ["failed"]
    return hospital


def ask(hospital: Hospital, result: str) -> int:
    """Press the button on the page of a result."""
    page = httpx.get(f"{hospital.web.url}/console/results/{result}").text
    address = f"/console/results/{result}/ask-again"
    assert address in page
    return httpx.post(f"{hospital.web.url}{address}", data={}, headers={"Origin": hospital.web.url}).status_code


def test_a_failure_that_has_passed_is_replaced(failed: Hospital, ausculta) -> None:
    (failure,) = failed.results()
    assert ask(failed, failure.id) == 303
    failed.work()
    before, after = failed.results()
    assert (before.state, before.superseded_by) == ("superseded", after.id)
    assert (after.kind, json.loads(after.outputs)[0]["value"]) == ("prediction", 19.0)
    assert {risk["status"] for risk in failed.ehr.received("RiskAssessment")} == {"cancelled", "preliminary"}
    codes = {event["subtype"][0]["code"] for event in failed.all("AuditEvent?_count=200")}
    assert "result-asked-again" in codes
    again = ausculta("results", "ask-again", failure.id)
    assert (again.returncode, "superseded already" in again.stderr) == (2, True)
    assert "the model has answered" in ausculta("results", "ask-again", after.id).stderr


def test_a_failure_is_asked_for_again_by_command(failed: Hospital, ausculta) -> None:
    (failure,) = failed.results()
    asked = ausculta("results", "ask-again", failure.id)
    assert (asked.returncode, asked.stdout) == (0, "waiting to be run again: 1\n"), asked.stderr
    with failed.application.database.read() as connection:
        (job,) = failed.application.jobs.listing(connection)
    assert (job.step, job.payload["again"]) == ("assess", failure.id)


def test_a_failure_that_has_not_passed_is_said_once(failed: Hospital, monkeypatch) -> None:
    fail(SCORE, monkeypatch)
    (failure,) = failed.results()
    assert ask(failed, failure.id) == 303
    failed.work()
    assert [(row.kind, row.state) for row in failed.results()] == [("failed", "preliminary")]


def test_all_patients_are_asked_for_again_after_a_stop(hospital: Hospital, ausculta) -> None:
    other = SyntheticPatient(**vars(ADULT) | {"mrn": "92"})
    assert ausculta("models", "stop", "news2", "--reason", "drill").returncode == 0
    for patient in (ADULT, other):
        hospital.admit(patient)
        hospital.hl7(hospital.vitals(patient))
    hospital.work()
    assert {row.kind for row in hospital.results()} == {"stopped"}
    assert ausculta("models", "resume", "news2", "--reason", "drill over").returncode == 0
    assert ask_all_again(hospital.application.operations, PERSON, "news2") == 2
    hospital.work()
    answered = {row.subject for row in hospital.results() if (row.kind, row.state) == ("prediction", "preliminary")}
    assert len(answered) == 2
    assert ausculta("results", "ask-again", "--model", "news2").stdout == "waiting to be run again: 0\n"


def test_a_study_is_asked_for_again(hospital: Hospital, monkeypatch) -> None:
    fail(IMAGE, monkeypatch)
    hospital.dicom(CHEST)
    hospital.rest()
    monkeypatch.undo()
    (failure,) = hospital.results()
    assert failure.kind == "failed"
    assert ask(hospital, failure.id) == 303
    hospital.work()
    before, after = hospital.results()
    assert (before.state, before.superseded_by, after.kind) == ("superseded", after.id, "prediction")
