"""FHIR in: from Observations that a client writes to a score in the store and at the destinations."""

from datetime import timedelta
from typing import Any

import httpx

from .hospital import AUTHORITY, Hospital

VITALS = {
    "9279-1": (18, "/min"),
    "59408-5": (97, "%"),
    "8867-4": (80, "/min"),
    "8310-5": (37.0, "Cel"),
    "3151-8": (0, "L/min"),
}


def observation(hospital: Hospital, code: str, value: float, unit: str) -> dict[str, Any]:
    return base(hospital, code) | {
        "valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
    }


def base(hospital: Hospital, code: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": (hospital.clock.now() - timedelta(minutes=5)).isoformat(),
    }


def panel(hospital: Hospital) -> dict[str, Any]:
    pressure = {"value": 120, "unit": "mm[Hg]", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}
    systolic = {"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}, "valueQuantity": pressure}
    return base(hospital, "85354-9") | {"component": [systolic]}


def alert(hospital: Hospital) -> dict[str, Any]:
    return base(hospital, "67775-7") | {"valueCodeableConcept": {"text": "Alert"}}


def vitals(hospital: Hospital) -> list[dict[str, Any]]:
    measured = [observation(hospital, code, *value) for code, value in VITALS.items()]
    return [*measured, panel(hospital), alert(hospital)]


def post(hospital: Hospital, resource: dict[str, Any]) -> httpx.Response:
    kind = resource["resourceType"]
    return httpx.post(hospital.url if kind == "Bundle" else f"{hospital.url}/{kind}", json=resource)


def put_patient(hospital: Hospital) -> None:
    patient = {
        "resourceType": "Patient",
        "id": "p1",
        "birthDate": "1950-01-01",
        "identifier": [{"system": AUTHORITY, "value": "FHIR-1"}],
    }
    assert httpx.put(f"{hospital.url}/Patient/p1", json=patient).status_code == 201
    hospital.ehr.put(patient)


def test_a_transaction_of_vitals_is_one_result(hospital: Hospital) -> None:
    put_patient(hospital)
    entries = [{"resource": it, "request": {"method": "POST", "url": "Observation"}} for it in vitals(hospital)]
    answer = post(hospital, {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200
    hospital.work()
    (row,) = hospital.results()
    assert row.summary.endswith("total score: 0 (low)")
    (risk,) = hospital.ehr.received("RiskAssessment")
    assert risk["subject"]["reference"] == "Patient/p1"


def test_observations_one_by_one_end_in_the_score_and_each_gap_on_the_way_is_said(hospital: Hospital) -> None:
    put_patient(hospital)
    for resource in vitals(hospital):
        assert post(hospital, resource).status_code == 201
        hospital.work()
    kinds = [row.kind for row in hospital.results()]
    assert kinds == ["declined"] * 6 + ["prediction"]


def test_observations_of_one_transaction_enqueue_one_job(hospital: Hospital) -> None:
    put_patient(hospital)
    for resource in vitals(hospital):
        post(hospital, resource)
    hospital.work()
    assert len(hospital.results()) == 1


def test_a_correction_makes_a_new_result_and_an_error_entered_takes_its_value_away(hospital: Hospital) -> None:
    put_patient(hospital)
    stored = [post(hospital, resource).json() for resource in vitals(hospital)]
    hospital.work()
    pulse = next(it for it in stored if it["code"]["coding"][0]["code"] == "8867-4")
    corrected = pulse | {"status": "corrected", "valueQuantity": pulse["valueQuantity"] | {"value": 140}}
    assert httpx.put(f"{hospital.url}/Observation/{pulse['id']}", json=corrected).status_code == 200
    hospital.work()
    assert hospital.results()[-1].summary.endswith("total score: 3 (low-medium)")
    gone = pulse | {"status": "entered-in-error"}
    assert httpx.put(f"{hospital.url}/Observation/{pulse['id']}", json=gone).status_code == 200
    hospital.work()
    assert "pulse" in hospital.results()[-1].summary


def test_an_observation_of_an_unknown_patient_is_declined_because_the_age_is_missing(hospital: Hospital) -> None:
    for resource in vitals(hospital):
        post(hospital, resource)
    hospital.work()
    assert "date of birth" in hospital.results()[-1].summary


def test_results_of_this_server_that_return_run_no_model(hospital: Hospital) -> None:
    put_patient(hospital)
    echoed = observation(hospital, "8867-4", 80, "/min")
    echoed["meta"] = {
        "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "AIAST"}]
    }
    assert post(hospital, echoed).status_code == 201
    hospital.work()
    assert hospital.results() == []


def test_invalid_input_is_answered_and_runs_no_model(hospital: Hospital) -> None:
    broken = observation(hospital, "8867-4", 80, "/min") | {"status": "banana"}
    answer = post(hospital, broken)
    assert answer.status_code == 422
    assert answer.json()["resourceType"] == "OperationOutcome"
    hospital.work()
    assert hospital.results() == []


def test_health_and_metrics_tell_without_phi(hospital: Hospital) -> None:
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    ready = httpx.get(f"{hospital.web.url}/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "pass")
    metrics = httpx.get(f"{hospital.web.url}/metrics").text
    assert 'ausculta_results{model="news2",kind="prediction"} 1' in metrics
    for phi in ("4711", "Invented", "1950"):
        assert phi not in metrics
