"""Stories of one stay, in FHIR resources: what a model reads when results come late, are corrected, or change units.

The model reads lactate since the admission, and of the day before; creatinine; the level of consciousness; and whether
the patient has diabetes or had a vasopressor in the last day.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import save_file

from fhir_adapter.hl7v2.synthesise import LabResult, oru_labs
from inference.finalize import finalize_folder
from inference.testing import NOW
from inference.testing_folder import MANIFEST

from .hospital import ADULT, Hospital
from .test_fhir_path import put_patient

FEATURES = """
code_sets:
  lactate:
    - {system: "http://loinc.org", codes: [2524-7, 32693-4]}
  diabetes:
    - {system: "http://hl7.org/fhir/sid/icd-10", prefix: [E10, E11]}
features:
  - name: change
    title: change of lactate
    window: {take: delta, since: admission}
    missing: {default: 0}
    sources: [{code_set: lactate, unit: mmol/L, analyte: lactate, plausible: [0.1, 30]}]
  - name: worst_before
    title: highest lactate of the day before
    window: {take: max, hours: 48, offset: 24}
    missing: {default: 1}
    sources: [{code_set: lactate, unit: mmol/L, analyte: lactate, plausible: [0.1, 30]}]
    transform: [log]
  - {name: no_worst_before, title: without the day before, missing_of: worst_before}
  - name: creatinine
    title: creatinine
    window: {take: last, hours: 24}
    missing: {default: 1}
    sources: [{code: 2160-0, unit: mg/dL, analyte: creatinine, status: [final, amended, corrected]}]
  - name: alertness
    title: level of consciousness
    window: {take: last, hours: 24}
    missing: {default: alert}
    sources: [{code: 67775-7, answers: {alert: [LA9340-6], voice: [LA17108-4]}}]
    one_hot: true
  - {name: diabetes, title: diabetes, conditions: [{code_set: diabetes}]}
  - name: vasopressor
    title: vasopressor
    medications: [{system: "http://www.whocc.no/atc", prefix: [C01CA], types: [MedicationAdministration]}]
    window: {hours: 24}
"""
CASE = {
    "subject": {"reference": "Patient/golden"},
    "at": NOW.isoformat(),
    "admitted": -36000,
    "facts": [
        {"code": "2524-7", "value": "4", "unit": "mmol/L", "at": -30000},
        {"code": "32693-4", "value": "2.5", "unit": "mmol/L", "at": -600},
        {"kind": "condition", "system": "http://hl7.org/fhir/sid/icd-10", "code": "E11.9", "at": -9000000},
    ],
}
COLUMNS = 8


def stay_risk(folder: Path, *, imputed_at_most: float = 1) -> Path:
    (folder / "golden").mkdir(parents=True)
    manifest = MANIFEST.replace("pulse-risk", "stay-risk").replace("[8867-4]", "[2524-7, 2160-0, 67775-7]")
    (folder / "model.yaml").write_text(
        manifest.replace("limits: {}", f"limits: {{imputed_at_most: {imputed_at_most}}}")
    )
    (folder / "features.yaml").write_text(FEATURES)
    (folder / "golden" / "stay.json").write_text(json.dumps({"input": CASE}))
    save_file({"weight": np.linspace(0.1, 0.9, COLUMNS), "bias": np.array(-2.0)}, folder / "weights.safetensors")
    finalize_folder(folder, {"Evidence": "None: a test."})
    return folder


@pytest.fixture
def ward(open_hospital: Callable[..., Hospital], tmp_path: Path) -> Hospital:
    hospital = open_hospital(model_dirs=(stay_risk(tmp_path / "stay-risk"),))
    for name in ("news2", "cxr-pneumonia"):
        hospital.set_model(name, "retired")
    hospital.set_model("stay-risk", "active")
    put_patient(hospital)
    return hospital


def put(hospital: Hospital, resource: dict[str, Any]) -> None:
    about = {"subject": {"reference": "Patient/p1"}}
    url = f"{hospital.url}/{resource['resourceType']}/{resource['id']}"
    answer = httpx.put(url, json=about | resource)
    assert answer.status_code in {200, 201}, answer.text


def ago(hospital: Hospital, hours: float) -> str:
    return (hospital.clock.now() - timedelta(hours=hours)).isoformat()


def laboratory(hospital: Hospital, name: str, value: float, unit: str, hours: float, **more: Any) -> None:
    code = more.pop("code", "2524-7")
    quantity = {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
    measured = {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "effectiveDateTime": ago(hospital, hours),
        "valueQuantity": quantity,
    }
    put(hospital, measured | more)


def admit(hospital: Hospital, hours: float, **more: Any) -> None:
    stay = {
        "resourceType": "Encounter",
        "id": "stay",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "period": {"start": ago(hospital, hours)},
    }
    put(hospital, stay | more)


def read(hospital: Hospital) -> dict[str, str | None]:
    """Return what the newest result read of each feature, as people see it."""
    hospital.work()
    row = hospital.results()[-1]
    assert row.kind == "prediction", row.summary
    return {use["name"]: use["value"] for use in json.loads(row.features)}


def number(hospital: Hospital, name: str) -> float:
    return float(read(hospital)[name] or "nan")


def test_a_stay_is_read_from_its_admission_in_the_units_of_every_laboratory(ward: Hospital) -> None:
    laboratory(ward, "clinic", 9, "mmol/L", 300)
    admit(ward, 10)
    laboratory(ward, "ward", 4, "mmol/L", 9)
    laboratory(ward, "icu", 22.27, "mg/dL", 1, code="32693-4")  # 2.5 mmol/L by another code
    laboratory(ward, "now", 4, "mmol/L", 0.5, code="8867-4")
    laboratory(ward, "kidney", 176.8, "umol/L", 0.1, code="2160-0")
    found = read(ward)
    assert float(found["change"] or 0) == pytest.approx(-1.5, abs=0.001)
    assert float(found["creatinine"] or 0) == pytest.approx(2, abs=0.001)
    assert (found["alertness=alert"], found["alertness=voice"]) == ("1", "0")


def test_without_an_admission_a_feature_has_no_value_and_the_result_says_so(ward: Hospital) -> None:
    laboratory(ward, "ward", 4, "mmol/L", 9)
    laboratory(ward, "icu", 2, "mmol/L", 1)
    ward.work()
    (assessment,) = ward.ehr.received("RiskAssessment")
    text = assessment["prediction"][0]["rationale"]
    assert "change of lactate (missing: no admission is known)" in text
    assert "Imputed: 4 of 4 values (100 %)." in text


def test_an_admission_that_is_corrected_makes_another_result_and_a_move_to_another_ward_none(ward: Hospital) -> None:
    admit(ward, 5)
    laboratory(ward, "early", 4, "mmol/L", 9)
    laboratory(ward, "late", 3, "mmol/L", 4)
    laboratory(ward, "last", 2, "mmol/L", 1)
    assert number(ward, "change") == -1
    count = len(ward.results())
    admit(ward, 5, status="onleave")
    laboratory(ward, "last", 2, "mmol/L", 1)
    assert len(ward.results()) == count
    admit(ward, 10)
    laboratory(ward, "kidney", 1, "mg/dL", 0.1, code="2160-0")
    assert number(ward, "change") == -2
    bases = [basis["reference"] for one in ward.ehr.received("RiskAssessment") for basis in one["basis"]]
    stays = {reference.rpartition("/")[2] for reference in bases if "/Encounter/" in reference}
    assert stays == {"1", "3"}  # the versions since which the start stands


def test_a_late_result_of_the_day_before_is_read_when_it_comes(ward: Hospital) -> None:
    laboratory(ward, "kidney", 1, "mg/dL", 1, code="2160-0")
    found = read(ward)
    assert (found["worst_before"], found["no_worst_before"]) == ("1", "1")
    laboratory(ward, "outside", 8, "mmol/L", 30)
    found = read(ward)
    assert (found["worst_before"], found["no_worst_before"]) == ("8", "0")


def test_a_corrected_result_replaces_its_original_in_every_window(ward: Hospital) -> None:
    admit(ward, 40)
    laboratory(ward, "a", 8, "mmol/L", 30)
    laboratory(ward, "b", 3, "mmol/L", 1)
    assert number(ward, "change") == -5
    laboratory(ward, "a", 4, "mmol/L", 30, status="corrected")
    found = read(ward)
    assert (found["change"], found["worst_before"]) == ("-1", "4")
    laboratory(ward, "a", 4, "mmol/L", 30, status="entered-in-error")
    laboratory(ward, "c", 2, "mmol/L", 0.5)
    found = read(ward)
    assert (found["change"], found["worst_before"]) == ("-1", "1")


def test_a_status_that_the_model_does_not_read_waits_for_the_final_one(ward: Hospital) -> None:
    laboratory(ward, "k", 5, "mg/dL", 1, code="2160-0", status="preliminary")
    assert read(ward)["creatinine"] == "1"
    laboratory(ward, "k", 2, "mg/dL", 1, code="2160-0")
    assert read(ward)["creatinine"] == "2"


def test_of_two_times_to_the_minute_the_correction_counts_at_the_beginning_of_the_stay_too(ward: Hospital) -> None:
    admit(ward, 10)
    minute = ward.clock.now().replace(second=0, microsecond=0) - timedelta(hours=9)
    stated = {"effectiveDateTime": minute.isoformat(), "status": "corrected"}
    laboratory(ward, "first", 6, "mmol/L", 9, **stated)
    laboratory(ward, "resent", 9, "mmol/L", 9, effectiveDateTime=(minute + timedelta(seconds=40)).isoformat())
    laboratory(ward, "last", 2, "mmol/L", 1)
    assert number(ward, "change") == -4


def test_conditions_and_doses_are_read_as_they_are_in_force(ward: Hospital) -> None:
    active = {
        "resourceType": "Condition",
        "id": "c",
        "clinicalStatus": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]
        },
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "E11.9"}]},
        "onsetDateTime": "2019",
    }
    dose = {
        "resourceType": "MedicationAdministration",
        "id": "d",
        "status": "completed",
        "medicationCodeableConcept": {"coding": [{"system": "http://www.whocc.no/atc", "code": "C01CA03"}]},
        "effectiveDateTime": ago(ward, 20),
    }
    put(ward, active)
    put(ward, dose)
    laboratory(ward, "a", 8, "mmol/L", 1)
    found = read(ward)
    assert (found["diabetes"], found["vasopressor"]) == ("1", "1")
    (assessment,) = ward.ehr.received("RiskAssessment")
    bases = [basis["reference"].split("/fhir/")[-1] for basis in assessment["basis"]]
    assert {"Condition/c/_history/1", "MedicationAdministration/d/_history/1"} <= set(bases)
    ended = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "resolved"}]}
    put(ward, active | {"clinicalStatus": ended})
    ward.clock.advance(5 * 3600)
    laboratory(ward, "b", 8, "mmol/L", 1)
    found = read(ward)
    assert (found["diabetes"], found["vasopressor"]) == ("0", "0")


def test_an_admission_and_laboratory_results_by_hl7_v2_are_read_alike(ward: Hospital) -> None:
    """A01 states the admission; what was measured before it does not count, whenever it was sent."""
    before = ward.clock.now() - timedelta(hours=2)
    ward.admit()
    for sent, (value, at) in enumerate([("9", before), ("4", ward.clock.now()), ("18.0", None)]):
        ward.clock.advance(3600)
        unit = "mg/dL" if at is None else "mmol/L"
        result = LabResult(code="2524-7", display="lactate", value=value, unit=unit)
        assert ward.hl7(oru_labs(ADULT, [result], f"L{sent}", at or ward.clock.now())) == "AA"
        ward.work()
    found = read(ward)
    assert float(found["change"] or 0) == pytest.approx(2.021 - 4, abs=0.001)
