"""A patient without an identifier is known to this server only: nothing about them is sent under our own id."""

from collections.abc import Callable

import httpx
import pytest

from dicom_node.synthesise import ChestXRay
from fhir_adapter.patient_identity import IDENTIFIER_TYPES
from fhir_adapter.results import identified
from kernel.errors import Problem
from service.settings import HostPort

from .hospital import Hospital
from .scripted import ScriptedEhr, ScriptedEngine
from .test_fhir_path import post, vitals

NOBODY = {"resourceType": "Patient", "id": "p1", "birthDate": "1950-01-01"}


@pytest.fixture
def hospital(open_hospital: Callable[..., Hospital], ehr: ScriptedEhr, engine: ScriptedEngine) -> Hospital:
    address = HostPort(host="127.0.0.1", port=engine.port)
    return open_hospital(ehr_url=ehr.url, interface_engine=address, pacs=None)


def put(hospital: Hospital, patient: dict) -> None:  # type: ignore[type-arg]
    assert httpx.put(f"{hospital.url}/Patient/{patient['id']}", json=patient).status_code in (200, 201)


def score(hospital: Hospital) -> None:
    put(hospital, NOBODY)
    for resource in vitals(hospital):
        post(hospital, resource)
    hospital.work()


def test_nothing_is_sent_and_a_person_sees_why(hospital: Hospital, ehr: ScriptedEhr, engine: ScriptedEngine) -> None:
    score(hospital)
    (row,) = hospital.results()
    assert (row.kind, row.subject) == ("prediction", "Patient/p1")
    assert (ehr.requests, engine.arrived) == ([], [])
    parked = hospital.parked()
    assert len(parked) == 2
    assert all("the patient has no identifier" in reason for reason in parked)
    ready = httpx.get(f"{hospital.web.url}/health/ready").json()
    assert (ready["status"], ready["deliveries"]["ehr"]["parked"], ready["deliveries"]["engine"]["parked"]) == (
        "warn",
        1,
        1,
    )


def test_a_study_without_a_patient_number_is_reported_beside_its_images_and_nowhere_under_its_own_uid(
    open_hospital: Callable[..., Hospital], ehr: ScriptedEhr, engine: ScriptedEngine
) -> None:
    hospital = open_hospital(ehr_url=ehr.url, interface_engine=HostPort(host="127.0.0.1", port=engine.port))
    hospital.dicom(ChestXRay(PatientID="", rows=64, columns=64))
    hospital.rest()
    assert len(hospital.results()) == 1
    assert "SR" in {hospital.pacs.dataset(uid).Modality for uid in hospital.pacs.arrivals}
    assert (ehr.requests, engine.arrived) == ([], [])
    parked = hospital.parked()
    assert len(parked) == 2
    assert all("the patient has no identifier" in reason for reason in parked)


@pytest.mark.parametrize(("kind", "sent_kind"), [("PI", "PI"), (None, "MR")])
def test_a_replay_sends_it_under_the_identifier_that_the_patient_has_by_then(
    hospital: Hospital, ehr: ScriptedEhr, engine: ScriptedEngine, kind: str | None, sent_kind: str
) -> None:
    score(hospital)
    number: dict[str, object] = {"system": "urn:ausculta:authority:CITY", "value": "A|7"}
    if kind:
        number["type"] = {"coding": [{"system": IDENTIFIER_TYPES, "code": kind}]}
    put(hospital, NOBODY | {"identifier": [number]})
    hospital.work()
    for destination in ("ehr", "engine"):
        form = {"destination": destination}
        origin = {"Origin": hospital.web.url}
        assert httpx.post(f"{hospital.web.url}/console/deliveries/replay", data=form, headers=origin).is_redirect
    hospital.work()
    assert hospital.parked() == []
    (sent,) = ehr.accepted
    assert '"reference":"Patient?identifier=urn:ausculta:authority:CITY|A%5C%7C7"' in sent
    assert "Patient/p1" not in sent
    (message,) = engine.accepted
    assert f"\rPID|1||A\\F\\7^^^CITY^{sent_kind}|".encode() in message


def test_what_an_earlier_release_rendered_under_our_own_id_is_not_sent_either() -> None:
    rendered = b'{"subject":{"reference":"Patient/p1"},"focus":{"reference":"https://us.example/fhir/Observation/1"}}'
    with pytest.raises(Problem, match="has no identifier"):
        identified(rendered, lambda: None)
    sent = identified(rendered, lambda: ("urn:a", "7"))
    assert sent == rendered.replace(b"Patient/p1", b"Patient?identifier=urn:a|7")
