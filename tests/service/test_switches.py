"""A model can be stopped, shadowed, broken or tampered with, and every time a person sees why there is no result."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from inference import registry
from inference.folder import bundled_folder, open_folder

from .hospital import Hospital

AUSCULTA = Path(sys.executable).with_name("ausculta")


def told(hospital: Hospital) -> str:
    return str(hospital.results()[-1].summary)


def test_a_stopped_model_says_so_from_the_next_result_on(hospital: Hospital) -> None:
    hospital.admit()
    hospital.application.database.write(
        lambda tx: registry.stop(tx, "news2", "wrong units at ward 7", by="test", at=hospital.clock.now())
    )
    hospital.hl7(hospital.vitals())
    hospital.work()
    assert told(hospital) == "AI result not available: the model was stopped: wrong units at ward 7"
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
    assert told(hospital) == "AI result not available: the model was stopped: maintenance"
    assert took < 5
    commands = [event for event in hospital.all("AuditEvent?_count=200") if event["type"]["code"] == "110100"]
    assert commands[0]["subtype"][0]["code"] == "model-stopped"


def test_a_shadow_model_is_stored_and_leaves_the_house_nowhere(hospital: Hospital) -> None:
    hospital.admit()
    hospital.set_model("news2", "shadow")
    before = hospital.ehr.requests
    hospital.hl7(hospital.vitals())
    hospital.work()
    (row,) = hospital.results()
    assert (row.kind, row.status) == ("prediction", "shadow")
    assert hospital.ehr.requests == before
    assert hospital.engine.deliveries == 0


def test_a_retired_model_is_not_asked(hospital: Hospital) -> None:
    hospital.admit()
    hospital.set_model("news2", "retired")
    hospital.hl7(hospital.vitals())
    hospital.work()
    assert hospital.results() == []


@pytest.fixture
def with_a_copy_of_news2(
    open_hospital: Callable[..., Hospital], tmp_path: Path
) -> Callable[[Callable[[Path], None]], Hospital]:
    """A hospital whose active NEWS2 lies in a folder that a test may spoil after it was registered."""

    def opened(spoil: Callable[[Path], None]) -> Hospital:
        hospital = open_hospital()
        folder = tmp_path / "news2"
        shutil.copytree(bundled_folder("news2"), folder, ignore=shutil.ignore_patterns("__pycache__"))
        declared = open_folder(bundled_folder("news2"))

        def point_there(tx) -> None:
            from sqlalchemy import update

            from kernel.tables import models

            tx.execute(update(models).where(models.c.name == "news2").values(folder=str(folder)))

        hospital.application.database.write(point_there)
        assert declared.digest
        spoil(folder)
        return hospital

    return opened


def test_a_tampered_model_gives_a_reason_instead_of_a_result(with_a_copy_of_news2) -> None:
    def spoil(folder: Path) -> None:
        yaml = folder / "features.yaml"
        yaml.write_text(yaml.read_text().replace("12", "24"))

    hospital = with_a_copy_of_news2(spoil)
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    (row,) = hospital.results()
    assert row.kind == "failed"
    assert row.summary.startswith("AI result not available: ")
    assert len(hospital.ehr.received("RiskAssessment")) == 1


def test_a_lost_model_folder_gives_a_reason_instead_of_silence(with_a_copy_of_news2) -> None:
    hospital = with_a_copy_of_news2(shutil.rmtree)
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    (row,) = hospital.results()
    assert row.kind == "failed"


def test_one_broken_model_does_not_keep_the_others_from_speaking(with_a_copy_of_news2) -> None:
    from .test_dicom_path import CHEST

    hospital = with_a_copy_of_news2(shutil.rmtree)
    hospital.dicom(CHEST)
    hospital.hl7(hospital.vitals())
    hospital.rest()
    assert {(row.model, row.kind) for row in hospital.results()} == {
        ("news2", "failed"),
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
