"""``ausculta models verify FOLDER --on BUNDLE``: everything that a feature can be is read of the Bundle."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import app

from ..inference import tiny_models as tiny  # noqa: TID252 - the models of the tests of the runners
from .test_new_model_folder import BUNDLE, fill_in

FEATURES = """\
features:
  - name: metformin
    title: metformin
    medications: [{system: "http://www.whocc.no/atc", codes: [A10BA02], types: [MedicationRequest]}]
  - name: rise
    title: pulse since admission
    window: {take: last, since: admission}
    missing: nan
    sources: [{code: 8867-4, unit: /min, plausible: [20, 250]}]
"""
ATC = {"coding": [{"system": "http://www.whocc.no/atc", "code": "A10BA02"}]}
ORDER = {
    "resourceType": "MedicationRequest",
    "id": "m",
    "status": "active",
    "intent": "order",
    "subject": {"reference": "Patient/p"},
    "authoredOn": "2026-01-14T09:00:00Z",
}
STAY = {
    "resourceType": "Encounter",
    "id": "e",
    "status": "in-progress",
    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
    "subject": {"reference": "Patient/p"},
    "period": {"start": "2026-01-14T08:00:00Z"},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "features.yaml").write_text(FEATURES)
    (tmp_path / "model.ubj").write_bytes(tiny.xgboost_bytes(names=["metformin", "rise"]))
    said("new", "mine", "--from", "model.ubj", "--features", "features.yaml")
    fill_in(tmp_path / "mine")
    assert "as sealed" in said("verify", "mine", "--record")
    return tmp_path


def said(*words: str) -> str:
    result = CliRunner().invoke(app, ["models", *words])
    return result.output if result.exception is None or not result.exception.args else str(result.exception)


def read_of(here: Path, *resources: dict[str, Any]) -> str:
    entries = [*BUNDLE["entry"], *({"resource": it, "fullUrl": f"urn:uuid:{it['id']}"} for it in resources)]
    (here / "bundle.json").write_text(json.dumps({**BUNDLE, "entry": entries}))
    return said("verify", "mine", "--on", "bundle.json")


def test_a_bundle_without_them_has_no_order_and_no_admission(here: Path) -> None:
    shown = read_of(here)
    assert "read metformin = 1 " not in shown
    assert "pulse since admission (missing: no admission is known)" in shown


@pytest.mark.parametrize("reference", ["Medication/tablets", "urn:uuid:tablets"])
def test_an_order_of_a_medication_in_the_bundle_and_the_admission_are_read(here: Path, reference: str) -> None:
    tablets = {"resourceType": "Medication", "id": "tablets", "code": ATC}
    shown = read_of(here, STAY, ORDER | {"medicationReference": {"reference": reference}}, tablets)
    assert "read metformin = 1 from MedicationRequest/m" in shown
    assert "read rise = 100 /min from Observation/8867-4" in shown


def test_what_was_recorded_after_the_last_value_is_known_too(here: Path) -> None:
    order = ORDER | {"medicationCodeableConcept": ATC, "authoredOn": "2026-01-15T11:30:00Z"}
    assert "read metformin = 1 from MedicationRequest/m" in read_of(here, STAY, order)
