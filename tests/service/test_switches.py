"""A model can be stopped, shadowed, broken or tampered with, and a person always sees why there is no result."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference import registry
from inference.testing_folder import PULSE_RISK, pulse_risk, write_weights

from .hospital import Hospital

AUSCULTA = Path(sys.executable).with_name("ausculta")


def last_summary(hospital: Hospital) -> str:
    return str(hospital.results()[-1].summary)


def test_a_stopped_model_says_so_from_the_next_result_on(hospital: Hospital) -> None:
    hospital.admit()
    hospital.application.database.write(
        lambda tx: registry.stop(tx, "news2", "wrong units at ward 7", by="test", at=hospital.clock.now())
    )
    hospital.hl7(hospital.vitals())
    hospital.work()
    assert last_summary(hospital) == "AI result not available: the model was stopped: wrong units at ward 7"
    (risk,) = hospital.ehr.received("RiskAssessment")
    assert "wrong units at ward 7" in str(risk)


def test_the_stop_command_takes_less_than_five_seconds_and_is_recorded(hospital: Hospital) -> None:
    hospital.admit()
    environment = {"AUSCULTA_DATA_DIR": str(hospital.application.settings.data_dir), "PATH": "/usr/bin:/bin"}
    began = time.monotonic()
    run = subprocess.run(
        [AUSCULTA, "models", "stop", "--all", "--reason", "maintenance"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.monotonic() - began
    assert run.returncode == 0, run.stderr
    hospital.hl7(hospital.vitals())
    hospital.work()
    assert last_summary(hospital) == "AI result not available: the model was stopped: maintenance"
    assert took < 5
    commands = [event for event in hospital.all("AuditEvent?_count=200") if event["type"]["code"] == "110100"]
    assert commands[0]["subtype"][0]["code"] == "model-stopped"


def test_a_shadow_model_is_stored_and_is_delivered_nowhere(hospital: Hospital) -> None:
    hospital.admit()
    hospital.set_model("news2", "shadow")
    before = hospital.ehr.requests
    hospital.hl7(hospital.vitals())
    hospital.work()
    (row,) = hospital.results()
    assert (row.kind, row.status) == ("prediction", "shadow")
    assert hospital.ehr.requests == before
    assert hospital.engine.deliveries == 0


def test_a_retired_model_is_not_run(hospital: Hospital) -> None:
    hospital.admit()
    hospital.set_model("news2", "retired")
    hospital.hl7(hospital.vitals())
    hospital.work()
    assert hospital.results() == []


@pytest.fixture
def with_a_model_folder(
    open_hospital: Callable[..., Hospital], tmp_path: Path
) -> Callable[[Callable[[Path], object]], Hospital]:
    """A server with an active model of the hospital's own, whose kept files a test may spoil once it is registered."""

    def opened(spoil: Callable[[Path], object]) -> Hospital:
        folder = pulse_risk(tmp_path / PULSE_RISK)
        hospital = open_hospital(model_dirs=(folder,))
        hospital.set_model(PULSE_RISK, "active")
        with hospital.application.database.read() as connection:
            row = registry.get(connection, PULSE_RISK)
        assert row is not None
        spoil(hospital.application.operations.model_files.path(row.digest))
        return hospital

    return opened


def untouched(folder: Path) -> None:
    """Leave the folder as it was registered."""


def with_other_weights(folder: Path) -> None:
    write_weights(folder, slope=-0.5)


def with_another_feature(folder: Path) -> None:
    declared = folder / "features.yaml"
    declared.write_text(declared.read_text().replace("hours: 12", "hours: 24"))


def with_another_card(folder: Path) -> None:
    (folder / "card.md").write_text("a better card")


def result_of(hospital: Hospital, model: str) -> Any:
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    (row,) = [row for row in hospital.results() if row.model == model]
    return row


def test_an_untouched_model_folder_is_served(with_a_model_folder) -> None:
    """The counterpart of the next test: the same server and the same folder, without an alteration."""
    hospital = with_a_model_folder(untouched)
    hospital.set_model("news2", "retired")
    assert result_of(hospital, PULSE_RISK).kind == "prediction"
    assert len(hospital.ehr.received("RiskAssessment")) == 1


@pytest.mark.parametrize(
    ("spoil", "altered"),
    [
        (with_other_weights, "weights.safetensors"),
        (with_another_feature, "features.yaml"),
        (with_another_card, "card.md"),
    ],
)
def test_a_tampered_model_gives_a_reason_that_names_the_altered_file(with_a_model_folder, spoil, altered: str) -> None:
    hospital = with_a_model_folder(spoil)
    hospital.set_model("news2", "retired")
    row = result_of(hospital, PULSE_RISK)
    reason = f"the model {PULSE_RISK} 1.0.0 is refused: {altered} has been altered"
    assert (row.kind, row.summary) == ("failed", f"AI result not available: {reason}")
    (risk,) = hospital.ehr.received("RiskAssessment")
    assert reason in str(risk)


def test_lost_files_of_a_model_give_a_reason_instead_of_silence(with_a_model_folder) -> None:
    row = result_of(with_a_model_folder(shutil.rmtree), PULSE_RISK)
    assert row.kind == "failed"
    assert row.summary.endswith("is refused: SHA256SUMS cannot be read")


def test_one_broken_model_does_not_stop_the_results_of_others(with_a_model_folder) -> None:
    from .test_dicom_path import CHEST

    hospital = with_a_model_folder(shutil.rmtree)
    hospital.dicom(replace(CHEST, PatientName="Invented^Person", PatientBirthDate="19500101"))
    hospital.hl7(hospital.vitals())
    hospital.rest()
    assert {(row.model, row.kind) for row in hospital.results()} == {
        (PULSE_RISK, "failed"),
        ("news2", "prediction"),
        ("cxr-pneumonia", "prediction"),
    }


def test_a_stopped_model_keeps_its_card_and_its_name(hospital: Hospital) -> None:
    """The refusal comes before the folder is opened, and must not be signed by a model without a card."""
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    before = hospital.all("DocumentReference"), hospital.all("Device")
    hospital.application.database.write(
        lambda tx: registry.stop(tx, "news2", "drill", by="test", at=hospital.clock.now())
    )
    hospital.hl7(hospital.vitals(pulse="90"))
    hospital.work()
    assert [row.kind for row in hospital.results()] == ["prediction", "stopped"]
    assert (hospital.all("DocumentReference"), hospital.all("Device")) == before
