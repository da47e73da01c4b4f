"""One person is one Patient, by identifier, whichever listener was first: stories over HL7, FHIR and DICOM."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from dicom_node.synthesise import ChestXRay
from fhir_adapter.hl7v2.synthesise import adt_a01
from kernel.errors import Category, Problem

from .hospital import ADULT, AUTHORITY, Hospital
from .test_order import inbox_states

CITY = "https://city.example/mrn"
HOSPITAL_SYSTEM = "https://hospital.example/mrn"
TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
IMAGE = ChestXRay(
    PatientID="4711",
    IssuerOfPatientID="HOSPITAL",
    PatientName="Invented^Person",
    PatientBirthDate="19500101",
    rows=256,
    columns=256,
)


@pytest.fixture
def hospital(open_hospital: Callable[..., Hospital]) -> Hospital:
    return open_hospital(identifier_systems={"CITY": CITY})


def known(name: str, *identifiers: tuple[str, str], **more: Any) -> dict[str, Any]:
    stated = [{"system": system, "value": value} for system, value in identifiers]
    return {"resourceType": "Patient", "id": name, "birthDate": "1950-01-01", "identifier": stated, **more}


def put(hospital: Hospital, patient: dict[str, Any]) -> None:
    assert httpx.put(f"{hospital.url}/Patient/{patient['id']}", json=patient).status_code in (200, 201)


def at_ehr(hospital: Hospital, *identifiers: tuple[str, str]) -> None:
    hospital.ehr.put(known("chart", *identifiers))


def vitals(hospital: Hospital, pid_3: str) -> None:
    """Send vital signs about the patient whom PID-3 names."""
    raw = hospital.vitals().replace(b"|4711^^^HOSPITAL^MR|", f"|{pid_3}|".encode())
    assert pid_3.encode() in raw
    assert hospital.hl7(raw) == "AA"
    hospital.work()


def only_patient(hospital: Hospital) -> str:
    (found,) = hospital.all("Patient")
    return f"Patient/{found['id']}"


def subjects(hospital: Hospital) -> set[str]:
    return {it["subject"]["reference"] for it in hospital.all("Observation?_count=100")}


# Who comes first


def test_a_patient_from_fhir_gets_the_vital_signs_of_hl7(hospital: Hospital) -> None:
    at_ehr(hospital, (AUTHORITY, "4711"))
    put(hospital, known("abc", (AUTHORITY, "4711")))
    vitals(hospital, "4711^^^HOSPITAL^MR")
    assert only_patient(hospital) == "Patient/abc"
    assert subjects(hospital) == {"Patient/abc"}
    (risk,) = hospital.ehr.received("RiskAssessment")
    assert risk["subject"]["reference"] == "Patient/chart"
    assert hospital.parked() == []


def test_a_conditional_create_finds_the_patient_of_hl7(hospital: Hospital) -> None:
    vitals(hospital, "4711^^^HOSPITAL^MR")
    first = only_patient(hospital)
    patient = {key: value for key, value in known("x", (AUTHORITY, "4711")).items() if key != "id"}
    headers = {"If-None-Exist": f"identifier={AUTHORITY}|4711"}
    answer = httpx.post(f"{hospital.url}/Patient", json=patient, headers=headers)
    assert answer.status_code == 200
    assert only_patient(hospital) == first


def test_a_study_before_and_after_belongs_to_the_patient_of_fhir(hospital: Hospital) -> None:
    at_ehr(hospital, (AUTHORITY, "4711"))
    put(hospital, known("abc", (AUTHORITY, "4711")))
    hospital.dicom(IMAGE)
    hospital.rest()
    vitals(hospital, "4711^^^HOSPITAL^MR")
    assert only_patient(hospital) == "Patient/abc"
    assert {row.subject for row in hospital.results()} == {"Patient/abc"}


def test_a_study_first_and_a_message_second_is_one_patient(hospital: Hospital) -> None:
    at_ehr(hospital, (AUTHORITY, "4711"))
    hospital.dicom(IMAGE)
    hospital.rest()
    first = only_patient(hospital)
    vitals(hospital, "999^^^CITY^PI~4711^^^HOSPITAL^MR")
    assert only_patient(hospital) == first
    hospital.dicom(replace(IMAGE, PatientID="999", IssuerOfPatientID="CITY"))
    hospital.rest()
    assert only_patient(hospital) == first
    assert {row.subject for row in hospital.results()} == {first}


# Which identifier


@pytest.mark.parametrize("numbered", ["4711", "4711^^^HOSPITAL^MR"], ids=["without authority", "with authority"])
def test_a_number_without_authority_is_the_number_of_the_default_authority(
    open_hospital: Callable[..., Hospital], numbered: str
) -> None:
    hospital = open_hospital(identifier_systems={"HOSPITAL": HOSPITAL_SYSTEM})
    put(hospital, known("abc", (HOSPITAL_SYSTEM, "4711")))
    vitals(hospital, numbered)
    hospital.dicom(replace(IMAGE, IssuerOfPatientID="" if "^" not in numbered else "HOSPITAL"))
    hospital.rest()
    assert only_patient(hospital) == "Patient/abc"


def test_repetitions_are_ranked_and_not_taken_by_their_place(hospital: Hospital) -> None:
    vitals(hospital, "MRN^^^CITY^PI")
    first = only_patient(hospital)
    vitals(hospital, "X^^^X^XX~MRN^^^CITY^PI")
    vitals(hospital, "Y^^^X^XX~MRN^^^CITY^PI")
    assert only_patient(hospital) == first
    at_ehr(hospital, (CITY, "MRN"))
    vitals(hospital, "Z^^^X^XX~MRN^^^CITY^PI")
    hospital.clock.advance(3600)
    hospital.work()
    assert hospital.ehr.received("RiskAssessment")


def test_the_site_ranks_an_authority_first(open_hospital: Callable[..., Hospital]) -> None:
    hospital = open_hospital(identifier_systems={"CITY": CITY}, identifier_rank=("CITY^PI", "MR"))
    at_ehr(hospital, (CITY, "9"))
    vitals(hospital, "4711^^^HOSPITAL^MR~9^^^CITY^PI")
    (risk,) = hospital.ehr.received("RiskAssessment")
    assert risk["subject"]["reference"] == "Patient/chart"


def test_a_number_that_a_family_may_share_joins_nobody(hospital: Hospital) -> None:
    vitals(hospital, "1^^^CITY^MR~INS^^^PAYER^HC")
    vitals(hospital, "2^^^CITY^MR~INS^^^PAYER^HC")
    assert len(hospital.all("Patient")) == 2


def test_a_message_that_has_only_the_number_of_a_family_is_given_to_nobody(hospital: Hospital) -> None:
    vitals(hospital, "1^^^CITY^MR~INS^^^PAYER^HC")
    vitals(hospital, "2^^^CITY^MR~INS^^^PAYER^HC")
    before = len(hospital.all("Observation?_count=200"))
    vitals(hospital, "INS^^^PAYER^HC")
    assert len(hospital.all("Observation?_count=200")) == before
    (reason,) = [reason for reason in hospital.parked() if "share the only identifier" in reason]
    assert "of no ranked type" in reason


# What contradicts itself


def test_identifiers_of_two_patients_are_parked_and_not_guessed(hospital: Hospital) -> None:
    put(hospital, known("ada", (CITY, "1")))
    put(hospital, known("bob", (AUTHORITY, "2")))
    vitals(hospital, "1^^^CITY^MR~2^^^HOSPITAL^PI")
    assert hospital.all("Observation") == []
    (reason,) = hospital.parked()
    assert "name different Patients" in reason
    assert inbox_states(hospital) == ["parked"]
    put(hospital, known("ada", (CITY, "1"), (AUTHORITY, "2")))
    put(hospital, known("bob", (AUTHORITY, "3")))
    with hospital.application.database.read() as connection:
        (job,) = hospital.application.jobs.listing(connection, "parked")
    hospital.application.database.write(lambda tx: hospital.application.jobs.replay(tx, job.id))
    hospital.work()
    assert subjects(hospital) == {"Patient/ada"}


def test_a_message_whose_identifiers_contradict_each_other_is_counted_and_shown(hospital: Hospital) -> None:
    put(hospital, known("ada", (CITY, "1")))
    put(hospital, known("bob", (AUTHORITY, "2")))
    vitals(hospital, "1^^^CITY^MR~2^^^HOSPITAL^PI")
    state = httpx.get(f"{hospital.web.url}/health/ready").json()
    assert (state["status"], state["jobs"]["parked"], state["messages"]) == ("warn", 1, {"parked": 1})
    assert "ausculta_messages_parked 1" in httpx.get(f"{hospital.web.url}/metrics").text.splitlines()
    assert "name different Patients" in httpx.get(f"{hospital.web.url}/console/queue").text


def test_another_number_of_the_same_authority_is_parked(hospital: Hospital) -> None:
    put(hospital, known("ada", (CITY, "1"), (AUTHORITY, "7")))
    vitals(hospital, "2^^^CITY^MR~7^^^HOSPITAL^PI")
    (reason,) = hospital.parked()
    assert "another number of the same authority" in reason
    assert len(hospital.all("Patient")) == 1


def test_an_old_number_names_nobody(hospital: Hospital) -> None:
    patient = known("ada", (CITY, "1"))
    patient["identifier"].append({"system": CITY, "value": "2", "use": "old"})
    put(hospital, patient)
    vitals(hospital, "2^^^CITY^MR")
    assert len(hospital.all("Patient")) == 2


# A second Patient with the same identifier


def test_of_two_patients_with_one_identifier_the_first_is_taken_and_that_is_seen(hospital: Hospital) -> None:
    vitals(hospital, "1^^^CITY^MR")
    first = only_patient(hospital)
    hospital.clock.advance(60)
    put(hospital, known("0-later", (CITY, "1")))
    vitals(hospital, "1^^^CITY^MR")
    assert subjects(hospital) == {first}
    assert inbox_states(hospital) == ["done", "ambiguous"]
    assert "ausculta_messages_ambiguous 1" in httpx.get(f"{hospital.web.url}/metrics").text.splitlines()
    out_of_use = hospital.get(first) | {"active": False}
    put(hospital, out_of_use)
    vitals(hospital, "1^^^CITY^MR")
    assert subjects(hospital) == {first, "Patient/0-later"}
    assert inbox_states(hospital)[-1] == "done"


# Replays and races


def test_the_same_message_again_gives_the_same_resources(hospital: Hospital) -> None:
    raw = adt_a01(ADULT, "A1", hospital.clock.now())
    put(hospital, known("abc", (AUTHORITY, "4711")))
    for control_id in (b"A1", b"A2"):
        assert hospital.hl7(raw.replace(b"|A1|", b"|" + control_id + b"|")) == "AA"
        hospital.work()
    assert only_patient(hospital) == "Patient/abc"
    assert len(hospital.all("Encounter")) == 1
    assert len(hospital.all("Patient/abc/_history")) == 2


def test_a_patient_who_is_stored_while_a_message_is_converted_is_found(hospital: Hospital) -> None:
    assert hospital.hl7(hospital.vitals()) == "AA"
    application = hospital.application
    with application.database.read() as connection:
        (job,) = application.jobs.listing(connection, "waiting")
    commit = application.hl7_messages.convert(job)
    put(hospital, known("abc", (AUTHORITY, "4711")))
    with pytest.raises(Problem) as raised:
        application.database.write(commit)
    assert raised.value.category is Category.BUSY
    hospital.work()
    assert only_patient(hospital) == "Patient/abc"


def test_two_first_messages_at_once_make_one_patient(hospital: Hospital) -> None:
    raw = hospital.vitals()
    other = raw.replace(b"|WARDSYS|", b"|LAB|", 1).replace(b"|4711^^^HOSPITAL^MR|", b"|1^^^CITY^MR~4711^^^HOSPITAL^MR|")
    assert (hospital.hl7(raw), hospital.hl7(other)) == ("AA", "AA")
    application = hospital.application
    with application.database.read() as connection:
        jobs = application.jobs.listing(connection, "waiting")
    first, second = (application.hl7_messages.convert(job) for job in jobs)
    application.database.write(first)
    with pytest.raises(Problem) as raised:
        application.database.write(second)
    assert raised.value.category is Category.BUSY
    hospital.work()
    assert {value["value"] for value in hospital.get(only_patient(hospital))["identifier"]} == {"1", "4711"}
