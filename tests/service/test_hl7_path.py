"""HL7 in: from an ORU^R01 on a socket to a NEWS2 that the EHR and the interface engine have received."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from fhir_adapter.hl7v2.synthesise import adt_a08
from kernel.errors import Category, Problem
from privacy.verify import verify
from service.flows import hl7_message

from .hospital import ADULT, CHILD, Hospital

AIAST = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "AIAST"}


def labels(resource: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: label[key] for key in ("system", "code")} for label in resource["meta"]["security"]]


def test_the_score_of_vital_signs_is_delivered_to_every_destination(hospital: Hospital) -> None:
    hospital.admit()
    assert hospital.hl7(hospital.vitals()) == "AA"
    hospital.work()

    (row,) = hospital.results()
    assert row.summary.endswith("total score: 19 (high)")
    (risk,) = hospital.ehr.received("RiskAssessment")
    assert risk["identifier"][0] == {"system": "urn:ausculta:result", "value": row.id}
    assert AIAST in labels(risk)
    assert risk["subject"]["reference"] == "Patient/ehr-4711"
    (mirror,) = hospital.ehr.received("Observation")
    assert float(mirror["valueQuantity"]["value"]) == 19
    (message,) = hospital.engine.received()
    assert message.first("PID").get(3) == "4711"
    assert "not reviewed by a person" in message.first("NTE").get(3)
    assert hospital.pacs.arrivals == {}


def test_a_result_links_to_its_versioned_inputs_its_model_and_its_card(hospital: Hospital) -> None:
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()

    (row,) = hospital.results()
    (risk,) = hospital.all(f"RiskAssessment?identifier=urn:ausculta:result|{row.id}")
    (provenance,) = hospital.all(f"Provenance?target=RiskAssessment/{risk['id']}")
    sources = [entity["what"]["reference"] for entity in provenance["entity"] if entity["role"] == "source"]
    assert len(sources) == 7
    for source in sources:
        assert hospital.get(source)["resourceType"] == "Observation"
    device = hospital.get(risk["performer"]["reference"])
    assert {"news2", row.digest} <= set(_texts(device))
    cards = [entity["what"]["reference"] for entity in provenance["entity"] if entity["role"] == "derivation"]
    assert hospital.get(cards[0])["resourceType"] == "DocumentReference"


def _texts(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set().union(*(_texts(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(set(), *(_texts(item) for item in value))
    return {value} if isinstance(value, str) else set()


def test_the_same_message_again_gets_the_same_answer_and_no_second_result(hospital: Hospital) -> None:
    hospital.admit()
    message = hospital.vitals()
    for _ in range(3):
        assert hospital.hl7(message) == "AA"
        hospital.work()
    assert len(hospital.results()) == 1
    assert hospital.ehr.requests == 1
    assert hospital.engine.deliveries == 1


def test_the_same_values_in_a_new_message_are_no_new_inputs(hospital: Hospital) -> None:
    """A replay from an interface engine gets a new MSH-10, and must not become a second alarm."""
    hospital.admit()
    message = hospital.vitals()
    hospital.hl7(message)
    hospital.hl7(message.replace(b"|C1|", b"|C1-again|"))
    hospital.work()
    assert len(hospital.results()) == 1


def test_a_missing_parameter_is_named_and_delivered_as_a_reason(hospital: Hospital) -> None:
    hospital.admit()
    hospital.hl7(hospital.vitals(consciousness="", oxygen_flow=""))
    hospital.work()

    (row,) = hospital.results()
    assert (row.kind, row.summary[:28]) == ("declined", "AI result not available: mis")
    (risk,) = hospital.ehr.received("RiskAssessment")
    assert "prediction" not in risk
    text = str(risk)
    assert "consciousness" in text
    assert "oxygen" in text
    (mirror,) = hospital.ehr.received("Observation")
    assert "dataAbsentReason" in mirror
    assert "valueQuantity" not in mirror
    (message,) = hospital.engine.received()
    assert message.first("OBX").get(11) == "X"
    assert "AI result not available" in message.first("NTE").get(3)


def test_a_child_is_declined(hospital: Hospital) -> None:
    hospital.admit(CHILD)
    hospital.hl7(hospital.vitals(CHILD))
    hospital.work()
    (row,) = hospital.results()
    assert row.summary == "AI result not available: the model is not for patients under 16 years"


def test_a_corrected_date_of_birth_gives_a_result_after_a_refusal(hospital: Hospital) -> None:
    hospital.admit(CHILD)
    hospital.hl7(hospital.vitals(CHILD))
    hospital.work()
    corrected = replace(CHILD, birth_date=ADULT.birth_date)
    assert hospital.hl7(adt_a08(corrected, "A08", hospital.clock.now())) == "AA"
    hospital.work()
    assert [row.kind for row in hospital.results()] == ["declined", "prediction"]


def test_a_message_type_without_a_conversion_is_rejected_and_not_kept(hospital: Hospital) -> None:
    with pytest.raises(Problem, match="AR"):
        hospital.hl7(b"MSH|^~\\&|LAB|H|||20260115||MDM^T02|1|P|2.5\rPID|1\r")
    hospital.work()
    assert hospital.parked() == []


def test_a_message_that_could_never_be_converted_is_refused_before_it_is_acknowledged(hospital: Hospital) -> None:
    for body, named in (
        (b"OBR|1||F|X\r", "PID"),
        (b"PID|1\rOBR|1||F|X\r", "PID-3"),
        (b"PID|1||4711\r", "OBR"),
    ):
        with pytest.raises(Problem, match="AE") as refused:
            hospital.hl7(b"MSH|^~\\&|LAB|H|||20260115||ORU^R01|1|P|2.5\r" + body)
        assert named in refused.value.diagnostics
    hospital.work()
    assert hospital.parked() == []


def test_a_message_whose_conversion_fails_is_kept_parked_and_replayed_by_a_person(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receipt was given: the message may wait for a person, but it may not be lost."""

    def broken(*_: object) -> None:
        raise Problem(Category.INCORRECT, "OBX-5 cannot be expressed")

    hospital.admit()
    with monkeypatch.context() as patched:
        patched.setattr(hl7_message, "convert", broken)
        assert hospital.hl7(hospital.vitals()) == "AA"
        assert hospital.hl7(hospital.vitals(pulse="99")) == "AA"
        hospital.work()
    assert hospital.parked() == ["OBX-5 cannot be expressed"] * 2
    with hospital.application.database.read() as connection:
        parked = hospital.application.jobs.listing(connection, "parked")
        assert b"OBX|1|NM" in hospital.application.inbox.raw(connection, str(parked[0].payload["message"]))
    for job in parked:
        hospital.application.database.write(lambda tx, name=job.id: hospital.application.jobs.replay(tx, name))
    hospital.work()
    assert len(hospital.results()) == 1
    assert hospital.parked() == []


def test_every_access_and_disclosure_is_in_a_log_that_verifies(hospital: Hospital) -> None:
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    (risk,) = hospital.all("RiskAssessment")
    hospital.get(f"RiskAssessment/{risk['id']}")

    events = hospital.all("AuditEvent?_count=200")
    codes = {event["subtype"][0]["code"] for event in events}
    assert {"disclose", "create", "read", "search-type"} <= codes
    disclosed = [event for event in events if event["type"]["code"] == "110106"]
    assert {agent["who"]["identifier"]["value"] for event in disclosed for agent in event["agent"]} >= {"ehr", "engine"}
    hospital.application.checkpoints.sign()
    with hospital.application.database.read() as connection:
        report = verify(connection, hospital.application.keys, hospital.application.checkpoints.file)
    assert report.problems == ()


@pytest.mark.postgres
def test_the_same_path_on_postgresql(new_postgres_url, open_hospital: Callable[..., Hospital]) -> None:
    hospital = open_hospital(database_url=new_postgres_url())
    hospital.admit()
    message = hospital.vitals()
    senders = [threading.Thread(target=hospital.hl7, args=(message,)) for _ in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    hospital.work()
    assert len(hospital.results()) == 1
    assert len(hospital.ehr.received("RiskAssessment")) == 1
    assert hospital.engine.deliveries == 1


def test_a_patient_changed_during_a_conversion_is_not_overwritten(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field that a message leaves empty keeps its content, also the content of a moment ago."""
    hospital.admit()
    (patient,) = hospital.all("Patient")
    whole = hl7_message.convert

    def while_the_ehr_writes(*words: Any) -> Any:
        monkeypatch.setattr(hl7_message, "convert", whole)
        done = whole(*words)
        phone = patient | {"telecom": [{"system": "phone", "value": "555-0100"}]}
        assert httpx.put(f"{hospital.url}/Patient/{patient['id']}", json=phone).status_code == 200
        return done

    monkeypatch.setattr(hl7_message, "convert", while_the_ehr_writes)
    hospital.hl7(adt_a08(replace(ADULT, given="Renamed"), "A08", hospital.clock.now()))
    hospital.work()
    hospital.clock.advance(1)
    hospital.work()
    (now,) = hospital.all("Patient")
    assert now["telecom"][0]["value"] == "555-0100"
    assert now["name"][0]["given"] == ["Renamed"]
