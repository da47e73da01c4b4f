"""What is for training or debugging is stored apart: no model reads it, and nothing about it is delivered."""

import httpx
import pytest

from fhir_adapter.hl7v2.synthesise import adt_a01

from .hospital import ADULT, Hospital
from .test_fhir_path import post, put_patient, vitals
from .test_one_patient import known, put
from .test_order import inbox_states

LABEL = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}]}


def marked(message: bytes, processing_id: str) -> bytes:
    """Return a message with another MSH-11."""
    header, rest = message.split(b"\r", 1)
    fields = header.split(b"|")
    fields[10] = processing_id.encode()
    return b"|".join(fields) + b"\r" + rest


@pytest.mark.parametrize("processing_id", ["T", "D", "t", "T^A"])
def test_a_message_that_is_not_of_production_is_accepted_and_kept_apart(hospital: Hospital, processing_id: str) -> None:
    assert hospital.hl7(marked(adt_a01(ADULT, "A1", hospital.clock.now()), processing_id)) == "AA"
    assert hospital.hl7(marked(hospital.vitals(), processing_id)) == "AA"
    hospital.work()
    assert inbox_states(hospital) == ["not-production"] * 2
    assert [hospital.all(kind) for kind in ("Patient", "Encounter", "Observation")] == [[], [], []]
    assert (hospital.results(), hospital.engine.received(), hospital.parked()) == ([], [], [])
    assert "ausculta_messages_not_production 2" in httpx.get(f"{hospital.web.url}/metrics").text.splitlines()


@pytest.mark.parametrize("processing_id", ["P", "", "X"], ids=["production", "empty", "unknown"])
def test_any_other_message_is_of_production(hospital: Hospital, processing_id: str) -> None:
    hospital.admit()
    assert hospital.hl7(marked(hospital.vitals(), processing_id)) == "AA"
    hospital.work()
    assert len(hospital.results()) == 1


def test_a_training_message_changes_nothing_about_a_patient_of_production(hospital: Hospital) -> None:
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    before = hospital.get("Observation?_count=100")["entry"], len(hospital.results())
    hospital.hl7(marked(hospital.vitals(pulse="60"), "T"))
    hospital.work()
    assert (hospital.get("Observation?_count=100")["entry"], len(hospital.results())) == before


def test_no_model_reads_an_observation_that_is_labelled_as_test_data(hospital: Hospital) -> None:
    put_patient(hospital)
    stored = [post(hospital, resource | {"meta": LABEL}).json() for resource in vitals(hospital)]
    hospital.work()
    assert hospital.results() == []
    for resource in vitals(hospital):
        post(hospital, resource)
    hospital.work()
    (row,) = hospital.results()
    assert set(row.inputs).isdisjoint(f"Observation/{it['id']}/_history/1" for it in stored)


def test_a_value_that_is_labelled_later_is_taken_back(hospital: Hospital) -> None:
    put_patient(hospital)
    stored = [post(hospital, resource).json() for resource in vitals(hospital)]
    hospital.work()
    pulse = next(it for it in stored if it["code"]["coding"][0]["code"] == "8867-4")
    httpx.put(f"{hospital.url}/Observation/{pulse['id']}", json=pulse | {"meta": LABEL})
    hospital.work()
    assert "missing pulse" in hospital.results()[-1].summary


def test_nothing_is_scored_about_a_patient_who_is_labelled_as_test_data(hospital: Hospital) -> None:
    put(hospital, known("p1", ("urn:ausculta:authority:HOSPITAL", "FHIR-1"), meta=LABEL))
    for resource in vitals(hospital):
        post(hospital, resource)
    hospital.work()
    assert (hospital.results(), hospital.engine.received(), hospital.parked()) == ([], [], [])
    put_patient_again = known("p1", ("urn:ausculta:authority:HOSPITAL", "FHIR-1"))
    put(hospital, put_patient_again)
    post(hospital, vitals(hospital)[0])
    hospital.work()
    assert len(hospital.results()) == 1
