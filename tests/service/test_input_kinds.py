"""A model is given its declared input, of whatever kind, from what the hospital has sent."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

import inference.runners
from dicom_node.synthesise import ChestXRay
from privacy.principal import Principal
from service.operations.results import ask_all_again
from service.triggers import ASSESS

from .hospital import AUTHORITY, Hospital
from .input_models import FILM, NOTE, RUNNER, TREND, VITALS, EchoRunner, echo_model
from .test_fhir_path import put_patient

PULSE_CODES = {"kind": "codes", "codes": ["8867-4"]}
BY_DOCUMENT = {"kind": "document", "document_types": ["18842-5"]}
CHEST = ChestXRay(PatientID="4711", IssuerOfPatientID="HOSPITAL", PatientBirthDate="19500101", rows=256, columns=256)


@pytest.fixture
def with_model(
    open_hospital: Callable[..., Hospital], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Hospital]:
    """Open a hospital with one active model, named ``echo``, of a trigger and an input."""
    monkeypatch.setattr(inference.runners, "RUNNERS", {**inference.runners.RUNNERS, **RUNNER})

    def opened(trigger: dict[str, Any], declared: dict[str, Any]) -> Hospital:
        hospital = open_hospital(model_dirs=(echo_model(tmp_path / "echo", trigger, declared),))
        for name in ("news2", "cxr-pneumonia"):
            hospital.set_model(name, "retired")
        hospital.set_model("echo", "active")
        return hospital

    return opened


def put(hospital: Hospital, resource: dict[str, Any]) -> None:
    url = f"{hospital.url}/{resource['resourceType']}/{resource['id']}"
    answer = httpx.put(url, json=resource)
    assert answer.status_code in {200, 201}, answer.text


def pulse(hospital: Hospital, name: str, value: float, *, hours_ago: float, **more: Any) -> dict[str, Any]:
    quantity = {"value": value, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": (hospital.clock.now() - timedelta(hours=hours_ago)).isoformat(),
        "valueQuantity": quantity,
    } | more


def letter(hospital: Hospital, name: str, text: str, *, hours_ago: float = 1, **more: Any) -> dict[str, Any]:
    attachment = {"contentType": "text/plain", "data": base64.b64encode(text.encode()).decode()}
    return {
        "resourceType": "DocumentReference",
        "id": name,
        "status": "current",
        "type": {"coding": [{"system": "http://loinc.org", "code": "18842-5"}]},
        "subject": {"reference": "Patient/p1"},
        "date": (hospital.clock.now() - timedelta(hours=hours_ago)).isoformat(),
        "content": [{"attachment": attachment}],
    } | more


def assess(hospital: Hospital, **payload: str) -> None:
    """Enqueue the model for the patient and run it."""
    job = {"model": "echo", "version": "1.0.0", "patient": "Patient/p1"} | payload
    hospital.application.database.write(lambda tx: hospital.application.jobs.enqueue(tx, ASSESS, job))
    hospital.work()


def given(hospital: Hospital) -> list[str]:
    """Return what the model was given, run by run, as its results say."""
    assert hospital.parked() == []
    notes = [hospital.get(f"Observation/{row.id}")["note"][0]["text"] for row in hospital.results()]
    return [note.rpartition("given ")[2] for note in notes]


def inputs(row: Any) -> Sequence[str]:
    return json.loads(row.inputs)


def test_observations_over_fhir_reach_a_series_model_on_its_grid(with_model) -> None:
    hospital = with_model(PULSE_CODES, TREND)
    put_patient(hospital)
    put(hospital, pulse(hospital, "a", 60, hours_ago=3.5))
    put(hospital, pulse(hospital, "b", 70, hours_ago=0.75))
    put(hospital, pulse(hospital, "c", 80, hours_ago=0.25))
    hospital.work()
    assert given(hospital) == ["pulse 60 - - 80"]
    (row,) = hospital.results()
    assert inputs(row) == [f"Observation/{name}/_history/1" for name in ("a", "b", "c")]
    (used,) = json.loads(row.features)
    assert (used["name"], used["value"], used["status"]) == ("pulse", "80", "used")
    (echo,) = [found for found in hospital.all("Observation") if "echo" in str(found["code"])]
    assert {"reference": "Observation/a/_history/1"} in echo["derivedFrom"]


def test_a_series_is_the_same_result_until_its_data_change(with_model) -> None:
    hospital = with_model(PULSE_CODES, TREND)
    put_patient(hospital)
    put(hospital, pulse(hospital, "a", 60, hours_ago=0.75))
    hospital.work()
    hospital.clock.advance(1800)
    assess(hospital)
    assert given(hospital) == ["pulse - - - 60"]
    put(hospital, pulse(hospital, "late", 50, hours_ago=2.5))
    hospital.work()
    put(hospital, pulse(hospital, "late", 55, hours_ago=2.5, status="corrected"))
    hospital.work()
    put(hospital, pulse(hospital, "late", 55, hours_ago=2.5, status="entered-in-error"))
    hospital.work()
    assert given(hospital)[1:] == ["pulse - 50 60 -", "pulse - 55 60 -", "pulse - - 60 -"]
    assert len({row.id for row in hospital.results()}) == 4


def test_a_series_without_any_value_is_declined_and_says_what_became_of_the_features(with_model) -> None:
    hospital = with_model(PULSE_CODES, TREND)
    put(hospital, pulse(hospital, "old", 60, hours_ago=5))
    hospital.work()
    put(hospital, pulse(hospital, "wild", 900, hours_ago=1.5))
    hospital.work()
    reason = "no usable value of pulse within 4 hours"
    assert [row.reason for row in hospital.results()] == [reason, reason]
    states = [[use["status"] for use in json.loads(row.features)] for row in hospital.results()]
    assert states == [["missing"], ["implausible"]]
    assert [inputs(row) for row in hospital.results()] == [[], ["Observation/wild/_history/1"]]


def test_more_values_than_are_read_are_a_refusal_that_says_so(with_model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.flows.inputs.observed.MOST_OBSERVATIONS", 2)
    hospital = with_model(PULSE_CODES, TREND)
    for name, hours_ago in (("a", 3.5), ("b", 2.5), ("c", 0.5), ("older", 5)):
        put(hospital, pulse(hospital, name, 60, hours_ago=hours_ago))
    hospital.work()
    reason = "more than 2 values of pulse are stored in the time that the model reads"
    assert [row.reason for row in hospital.results()] == [reason]


def test_a_document_over_fhir_reaches_a_text_model(with_model) -> None:
    hospital = with_model(BY_DOCUMENT, NOTE)
    put_patient(hospital)
    put(hospital, letter(hospital, "d", "No fever."))
    assess(hospital)
    assert given(hospital) == ["text: No fever."]
    (row,) = hospital.results()
    assert inputs(row) == ["DocumentReference/d/_history/1"]
    (echo,) = [found for found in hospital.all("Observation") if "echo" in str(found["code"])]
    assert echo["derivedFrom"] == [{"reference": "DocumentReference/d/_history/1"}]


def test_the_document_of_the_job_is_read_in_its_current_version_and_else_the_newest(with_model) -> None:
    hospital = with_model(BY_DOCUMENT, NOTE)
    put_patient(hospital)
    put(hospital, letter(hospital, "old", "First.", hours_ago=3))
    put(hospital, letter(hospital, "old", "Corrected.", hours_ago=3))
    put(hospital, letter(hospital, "new", "Second.", hours_ago=1))
    assess(hospital, document="DocumentReference/old")
    assess(hospital)
    assess(hospital)
    assert given(hospital) == ["text: Corrected.", "text: Second."]


def test_each_document_that_failed_is_asked_for_again(with_model, monkeypatch: pytest.MonkeyPatch) -> None:
    hospital = with_model(BY_DOCUMENT, NOTE)
    put_patient(hospital)

    def broken(*_args: object) -> Any:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(EchoRunner, "predict", broken)
        put(hospital, letter(hospital, "old", "First.", hours_ago=3))
        put(hospital, letter(hospital, "new", "Second.", hours_ago=1))
        hospital.work()
    assert [row.kind for row in hospital.results()] == ["failed", "failed"]
    person = Principal(client="test", client_address="", user="somebody")
    assert ask_all_again(hospital.application.operations, person, "echo") == 2
    hospital.work()
    answered = [inputs(row) for row in hospital.results() if row.kind == "prediction"]
    assert sorted(answered) == [["DocumentReference/new/_history/1"], ["DocumentReference/old/_history/1"]]
    assert [row.state for row in hospital.results() if row.kind == "failed"] == ["superseded", "superseded"]


def test_the_result_of_one_letter_is_overtaken_by_its_own_correction_only(with_model) -> None:
    hospital = with_model(BY_DOCUMENT, NOTE)
    put_patient(hospital)

    def is_overtaken(place: int) -> bool:
        results, identifier = hospital.application.results, hospital.results()[place].id
        with hospital.application.database.read() as connection:
            return results.has_newer(connection, identifier, "engine", "delivered")

    put(hospital, letter(hospital, "a", "First.", hours_ago=3))
    put(hospital, letter(hospital, "b", "Second.", hours_ago=1))
    hospital.work()
    assert not is_overtaken(0)
    put(hospital, letter(hospital, "a", "First, corrected.", hours_ago=3))
    hospital.work()
    assert (is_overtaken(0), is_overtaken(1)) == (True, False)


def test_a_report_is_a_document_too(with_model) -> None:
    hospital = with_model(BY_DOCUMENT, NOTE)
    put_patient(hospital)
    report = letter(hospital, "r", "") | {"resourceType": "DiagnosticReport", "status": "final", "conclusion": "Clear."}
    report["code"] = report.pop("type")
    put(hospital, {name: value for name, value in report.items() if name not in {"content", "date"}})
    assess(hospital)
    assert given(hospital) == ["text: Clear."]
    assert inputs(hospital.results()[0]) == ["DiagnosticReport/r/_history/1"]


def test_a_document_that_cannot_be_read_is_declined_with_the_reason(with_model) -> None:
    hospital = with_model(BY_DOCUMENT, NOTE)
    assess(hospital)
    elsewhere = [{"attachment": {"contentType": "text/plain", "url": "Binary/1"}}]
    put(hospital, letter(hospital, "d", "", content=elsewhere))
    assess(hospital, document="DocumentReference/d")
    put(hospital, letter(hospital, "d", "No fever.", status="entered-in-error"))
    assess(hospital, document="DocumentReference/d")
    assert [row.reason for row in hospital.results()] == [
        "no document of type 18842-5 is stored",
        "the document is only referred to by a URL",
        "the document was superseded, entered in error or asserted by AI",
    ]
    assert inputs(hospital.results()[1]) == ["DocumentReference/d/_history/1"]


def study_model(with_model: Callable[..., Hospital], *parts: dict[str, Any]) -> Hospital:
    hospital = with_model({"kind": "study"}, {"name": "all", "kind": "study", "parts": list(parts)})
    identifier = [{"system": AUTHORITY, "value": "4711"}]
    hospital.ehr.put({"resourceType": "Patient", "id": "ehr-4711", "identifier": identifier})
    hospital.admit()
    return hospital


def test_a_study_of_an_image_and_facts_is_one_input(with_model) -> None:
    hospital = study_model(with_model, FILM, VITALS)
    assert hospital.hl7(hospital.vitals(pulse="104")) == "AA"
    hospital.work()
    hospital.dicom(CHEST)
    hospital.rest()
    assert given(hospital) == ["film = image 256x256 | vitals = facts 8867-4 104"]
    (row,) = hospital.results()
    kinds = {source.partition("/")[0].partition(":")[0] for source in inputs(row)}
    assert kinds == {"urn", "Observation"}
    assert row.image is not None
    (report,) = hospital.ehr.received("DiagnosticReport")
    assert report["subject"]["reference"] == "Patient/ehr-4711"


def test_a_study_with_a_series_and_a_text_reads_all_of_them(with_model) -> None:
    hospital = study_model(with_model, FILM, TREND, NOTE)
    hospital.hl7(hospital.vitals(pulse="104"))
    hospital.work()
    (patient,) = hospital.all("Patient")
    subject = {"reference": f"Patient/{patient['id']}"}
    put(hospital, letter(hospital, "d", "No fever.", subject=subject))
    hospital.dicom(CHEST)
    hospital.rest()
    assert given(hospital) == ["film = image 256x256 | trend = pulse - - - 104 | note = text: No fever."]
    (used,) = json.loads(hospital.results()[0].features)
    assert (used["name"], used["status"]) == ("pulse", "used")


def test_a_missing_part_is_named(with_model) -> None:
    hospital = study_model(with_model, FILM, VITALS, NOTE)
    hospital.dicom(replace(CHEST, view="LL"))
    hospital.rest()
    (row,) = hospital.results()
    assert row.kind == "declined"
    assert row.reason.split("; ") == [
        "missing film: the study holds no image with view PA",
        "missing vitals: nothing that the model reads is stored",
        "missing note: no document of type 18842-5 is stored",
    ]


def test_a_study_read_again_with_later_facts_is_another_result_that_replaces_the_first(with_model) -> None:
    hospital = study_model(with_model, FILM, VITALS)
    hospital.hl7(hospital.vitals(pulse="104"))
    hospital.work()
    hospital.dicom(CHEST)
    hospital.rest()
    hospital.hl7(hospital.vitals(pulse="64"))
    hospital.work()
    hospital.dicom(replace(CHEST, view="LL", instance=2))
    hospital.rest()
    first, second = hospital.results()
    assert (first.superseded_by, second.state) == (second.id, "preliminary")
    assert given(hospital) == [
        "film = image 256x256 | vitals = facts 8867-4 104",
        "film = image 256x256 | vitals = facts 8867-4 104, 8867-4 64",
    ]


def test_an_image_model_that_a_code_triggers_says_that_it_was_given_no_study(with_model) -> None:
    hospital = with_model(PULSE_CODES, {"name": "all", "kind": "study", "parts": [FILM, VITALS]})
    put(hospital, pulse(hospital, "a", 60, hours_ago=1))
    hospital.work()
    (row,) = hospital.results()
    assert row.reason == "missing film: the model reads an input of kind image, and no imaging study was given"
