"""Whoever receives an ORU^R01 of ours can file it: by patient, visit, order, study and the time of the observation."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from dicom_node.synthesise import ChestXRay, study_uid
from fhir_adapter.hl7v2.message import Message, Segment
from fhir_adapter.hl7v2.testing import StandInEngine

from .hospital import ADULT, AUTHORITY, ILL, Hospital
from .test_fhir_path import post
from .test_fhir_path import vitals as fhir_vitals

PV1 = b"PV1|1|I|WARD4^12^B^GENERAL||||||||||||||||V4711^^^HOSPITAL^VN\r"


def ordered(message: bytes, placer: str, filler: str) -> bytes:
    """Add the visit and the order to a message of vital signs."""
    head, _, rest = message.partition(b"OBR|")
    fields = rest.split(b"|")
    fields[1:3] = [placer.encode(), filler.encode()]
    return head + PV1 + f"ORC|RE|{placer}|{filler}\r".encode() + b"OBR|" + b"|".join(fields)


def segment(message: Message, name: str) -> Segment:
    found = message.first(name)
    assert found is not None, f"{name} is missing"
    return found


def pulse(hospital: Hospital, status: str, placer: str = "P100^CPOE", filler: str = "F200^MONITORS") -> bytes:
    """Write a message of the same order with the pulse alone and its status, OBX-11."""
    alone = hospital.vitals(**(dict.fromkeys(ILL, "") | {"pulse": "131"}))
    return ordered(alone.replace(b"|||||F|||", f"|||||{status}|||".encode()), placer, filler)


def scored(hospital: Hospital) -> Message:
    hospital.admit()
    assert hospital.hl7(ordered(hospital.vitals(), "P100^CPOE", "F200^MONITORS")) == "AA"
    hospital.work()
    (message,) = hospital.engine.received()
    return message


def test_the_message_names_the_patient_and_the_visit(hospital: Hospital) -> None:
    message = scored(hospital)
    assert [one.name for one in message.segments][:5] == ["MSH", "PID", "PV1", "ORC", "OBR"]
    pid, pv1 = segment(message, "PID"), segment(message, "PV1")
    assert (pid.get(5), pid.get(5, 2)) == (ADULT.family, ADULT.given)
    assert pv1.get(2) == "I"
    assert (pv1.get(19), pv1.get(19, 4), pv1.get(19, 5)) == ("V4711", "HOSPITAL", "VN")
    assert "WARD4" in pv1.get(3, 9)


def test_the_message_names_the_order_that_the_result_rests_on(hospital: Hospital) -> None:
    message = scored(hospital)
    (row,) = hospital.results()
    orc, obr = segment(message, "ORC"), segment(message, "OBR")
    assert orc.get(1) == "RE"
    assert [(one.get(2), one.get(2, 2)) for one in (orc, obr)] == [("P100", "CPOE")] * 2
    assert [(one.get(3), one.get(3, 2)) for one in (orc, obr)] == [(row.id, "AUSCULTA")] * 2
    parent = obr.field(29)
    assert (parent.component(1), parent.component(1, 2)) == ("P100", "CPOE")
    assert (parent.component(2), parent.component(2, 2)) == ("F200", "MONITORS")


def test_values_of_several_orders_belong_to_none_of_them(hospital: Hospital) -> None:
    hospital.admit()
    hospital.hl7(ordered(hospital.vitals(pulse=""), "P1^CPOE", "F1^MONITORS"))
    others = dict.fromkeys(ILL, "") | {"pulse": "99"}
    hospital.hl7(ordered(hospital.vitals(**others), "P2^CPOE", "F2^MONITORS"))
    hospital.work()
    message = hospital.engine.received()[-1]
    obr = segment(message, "OBR")
    assert segment(message, "OBX").get(2) == "NM"
    assert (obr.get(2), obr.get(29)) == ("", "")
    assert segment(message, "PV1").get(19) == "V4711"


def test_a_value_that_is_taken_back_leaves_the_others_in_their_order(hospital: Hospital) -> None:
    scored(hospital)
    for status, said in (("C", "P"), ("D", "X")):
        assert hospital.hl7(pulse(hospital, status)) == "AA"
        hospital.work()
        message = hospital.engine.received()[-1]
        orc, obr = segment(message, "ORC"), segment(message, "OBR")
        assert segment(message, "OBX").get(11) == said
        assert (orc.raw(2), obr.raw(2), obr.raw(29)) == ("P100^CPOE", "P100^CPOE", "P100&CPOE^F200&MONITORS")
    (report,) = hospital.all("DiagnosticReport")
    assert len(report["result"]) == len(hospital.all("Observation?status=final,corrected"))


def test_the_order_of_a_value_that_was_taken_back_does_not_count(hospital: Hospital) -> None:
    hospital.admit()
    hospital.hl7(ordered(hospital.vitals(pulse=""), "P1^CPOE", "F1^MONITORS"))
    for status in "FD":
        hospital.hl7(pulse(hospital, status, "P2^CPOE", "F2^MONITORS"))
    hospital.work()
    message = hospital.engine.received()[-1]
    assert segment(message, "OBX").get(11) == "X"
    assert segment(message, "ORC").raw(2) == "P1^CPOE"


def test_the_time_is_that_of_the_observation_and_not_of_the_computing(hospital: Hospital) -> None:
    hospital.admit()
    message = hospital.vitals()
    measured = hospital.clock.now() - timedelta(minutes=1)
    hospital.clock.advance(120)
    computed = hospital.clock.now()
    hospital.hl7(message)
    hospital.work()
    (sent,) = hospital.engine.received()
    obr, obx = segment(sent, "OBR"), segment(sent, "OBX")
    assert obr.get(7) == obx.get(14) == measured.strftime("%Y%m%d%H%M%S+0000")
    assert obr.get(22) == obx.get(19) == computed.strftime("%Y%m%d%H%M%S+0000")


@pytest.mark.parametrize("changes", [{}, {"consciousness": ""}], ids=["a score", "a refusal"])
def test_no_time_lies_after_the_computing_when_the_senders_clock_is_ahead(
    hospital: Hospital, changes: dict[str, str]
) -> None:
    hospital.admit()
    hospital.clock.advance(160)
    message = hospital.vitals(**changes)
    hospital.clock.advance(-160)
    assert hospital.hl7(message) == "AA"
    hospital.work()
    (sent,) = hospital.engine.received()
    computed = hospital.clock.now().strftime("%Y%m%d%H%M%S+0000")
    obr, obx = segment(sent, "OBR"), segment(sent, "OBX")
    assert obx.get(11) == ("X" if changes else "P")
    assert [obr.get(7), obr.get(22), obx.get(14), obx.get(19)] == [computed] * 4


def test_a_study_whose_clock_is_ahead_is_not_later_than_the_computing(hospital: Hospital) -> None:
    image = ChestXRay(PatientID="4711", IssuerOfPatientID="HOSPITAL", StudyTime="235900", rows=64, columns=64)
    hospital.dicom(image)
    hospital.rest()
    (message,) = hospital.engine.received()
    obr = segment(message, "OBR")
    assert obr.get(7) == obr.get(22) == segment(message, "OBX").get(14)


def test_a_refusal_is_filed_as_a_result_would_be(hospital: Hospital) -> None:
    hospital.admit()
    hospital.hl7(ordered(hospital.vitals(consciousness=""), "P100^CPOE", "F200^MONITORS"))
    hospital.work()
    (message,) = hospital.engine.received()
    assert segment(message, "OBX").get(11) == "X"
    assert segment(message, "PV1").get(19) == "V4711"
    assert segment(message, "OBR").get(2) == "P100"


@pytest.mark.parametrize(
    ("received", "sent"),
    [
        ("M1^^^HOSPITAL^MR", "M1^^^HOSPITAL^MR"),
        ("M2^^^CITY^PI", "M2^^^CITY&https://city.example/mrn&URI^PI"),
        ("M3^^^&1.2.3&ISO^MR", "M3^^^&1.2.3&ISO^MR"),
        ("M4^^^EAST&1.2.4&ISO^MR", "M4^^^EAST&1.2.4&ISO^MR"),
        ("M5^^^&1.2.5&ISO^MR", "M5^^^WEST&1.2.5&ISO^MR"),
        ("M6^^^&A5B1F9D2-0000-4000-8000-000000000001&UUID^PT", "M6^^^&a5b1f9d2-0000-4000-8000-000000000001&UUID^PT"),
        ("M7^^^THE CLINIC", "M7^^^THE CLINIC^MR"),
    ],
)
def test_the_number_of_the_patient_goes_out_as_it_came_in(
    open_hospital: Callable[..., Hospital], received: str, sent: str
) -> None:
    systems = {
        "CITY": "https://city.example/mrn",
        "EAST": "urn:oid:1.2.4",
        "WEST": "https://west.example/mrn",
        "1.2.5": "https://west.example/mrn",
    }
    hospital = open_hospital(identifier_systems=systems, ehr_url=None)
    hospital.hl7(hospital.vitals().replace(b"|4711^^^HOSPITAL^MR|", f"|{received}|".encode()))
    hospital.work()
    (message,) = hospital.engine.received()
    assert segment(message, "PID").raw(3) == sent


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ({"text": "Dr. Nur Text"}, "Dr. Nur Text"),
        ({"text": "Ann B Lee", "family": "Lee", "given": ["Ann", "B"]}, "Lee^Ann^B"),
        ({"family": "Lee", "prefix": ["Prof.", "Dr."], "suffix": ["Jr.", "MD"]}, "Lee^^^Jr. MD^Prof. Dr."),
        ({"given": ["Ann"], "text": "Ann"}, "^Ann"),
    ],
    ids=["text alone", "text beside parts", "prefix and suffix", "given name alone"],
)
def test_the_name_goes_out_with_all_that_is_known_of_it(hospital: Hospital, name: dict[str, Any], sent: str) -> None:
    identifier = [{"system": AUTHORITY, "value": "77"}]
    patient = {"resourceType": "Patient", "id": "p1", "birthDate": "1950-01-01", "identifier": identifier}
    assert httpx.put(f"{hospital.url}/Patient/p1", json=patient | {"name": [name]}).status_code == 201
    for resource in fhir_vitals(hospital):
        post(hospital, resource)
    hospital.work()
    assert segment(hospital.engine.received()[-1], "PID").raw(5) == sent


def test_the_number_that_a_fhir_client_gave_goes_out_with_its_uri_and_its_type(hospital: Hospital) -> None:
    kind = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "PI"}]}
    number = {"system": "https://other.example/id", "value": "77", "type": kind}
    patient = {"resourceType": "Patient", "id": "p1", "birthDate": "1950-01-01", "identifier": [number]}
    assert httpx.put(f"{hospital.url}/Patient/p1", json=patient).status_code == 201
    for resource in fhir_vitals(hospital):
        post(hospital, resource)
    hospital.work()
    message = hospital.engine.received()[-1]
    assert segment(message, "PID").raw(3) == "77^^^&https://other.example/id&URI^PI"


def test_the_numbers_of_the_visit_and_of_the_order_go_out_as_they_came_in(hospital: Hospital) -> None:
    hospital.admit()
    raw = ordered(hospital.vitals(), "P100^CPOE^1.2.7^ISO", "F200^MONITORS")
    hospital.hl7(raw.replace(b"|V4711^^^HOSPITAL^VN", b"|V4711^^^&1.2.8&ISO^VN"))
    hospital.work()
    (message,) = hospital.engine.received()
    assert segment(message, "PV1").raw(19) == "V4711^^^&1.2.8&ISO^VN"
    assert segment(message, "ORC").raw(2) == segment(message, "OBR").raw(2) == "P100^^1.2.7^ISO"
    assert segment(message, "OBR").raw(29) == "P100&&1.2.7&ISO^F200&MONITORS"


def test_a_refusal_stands_where_the_score_stood(hospital: Hospital) -> None:
    score = segment(scored(hospital), "OBX")
    assert hospital.hl7(pulse(hospital, "D")) == "AA"
    hospital.work()
    message = hospital.engine.received()[-1]
    (refusal,) = message.all("OBX")
    assert (score.get(11), refusal.get(11), refusal.raw(5)) == ("P", "X", "")
    assert (refusal.raw(3), refusal.raw(4)) == (score.raw(3), score.raw(4))
    assert segment(message, "NTE").field(3).text.startswith("AI result not available: missing ")


def test_an_imaging_result_names_the_accession_and_the_study(hospital: Hospital) -> None:
    hospital.admit()
    image = ChestXRay(PatientID="4711", IssuerOfPatientID="HOSPITAL", AccessionNumber="ACC77")
    hospital.dicom(image)
    hospital.rest()
    (message,) = hospital.engine.received()
    obr = segment(message, "OBR")
    assert obr.get(18) == "ACC77"
    assert obr.get(7) == "20260115114500+0000"
    study = [obx for obx in message.all("OBX") if obx.get(3) == "110180"]
    assert [(obx.get(2), obx.get(3, 3), obx.get(5)) for obx in study] == [("ST", "DCM", study_uid(image))]
    numbers = [obx.get(5) for obx in message.all("OBX") if obx.get(2) == "NM"]
    assert all(len(number) <= len("0.1234") for number in numbers)


def test_the_receiver_and_the_sender_are_named_by_the_settings(open_hospital: Callable[..., Hospital]) -> None:
    engine = StandInEngine()
    named = {
        "receiving_application": "CLOVERLEAF",
        "receiving_facility": "GENERAL",
        "sending_application": "AI",
        "sending_facility": "WEST",
    }
    table = {"name": "engine", "kind": "mllp", "host": "127.0.0.1", "port": engine.port, **named}
    try:
        hospital = open_hospital(interface_engine=None, destination=(table,))
        hospital.admit()
        hospital.hl7(hospital.vitals())
        hospital.work()
        (message,) = engine.received()
    finally:
        engine.close()
    assert [message.header.get(number) for number in (3, 4, 5, 6)] == ["AI", "WEST", "CLOVERLEAF", "GENERAL"]


def test_the_fhir_result_names_the_encounter(hospital: Hospital) -> None:
    scored(hospital)
    (encounter,) = hospital.all("Encounter")
    (row,) = hospital.results()
    for kind in ("RiskAssessment", "Observation"):
        (found,) = hospital.all(f"{kind}?identifier=urn:ausculta:result|{row.id}")
        assert found["encounter"]["reference"] == f"Encounter/{encounter['id']}"
    (sent,) = hospital.ehr.received("RiskAssessment")
    assert sent["encounter"]["identifier"] == {"system": AUTHORITY, "value": "V4711"}


# The time that a result is about


def instants(hospital: Hospital) -> tuple[str, str, str]:
    """Return when the newest result was true: by OBX-14 and by FHIR; and when FHIR says that it was issued."""
    message = hospital.engine.received()[-1]
    row = hospital.results()[-1]
    assert segment(message, "OBR").get(3) == row.id
    assert segment(message, "OBR").get(7) == segment(message, "OBX").get(14)
    (found,) = hospital.all(f"Observation?identifier=urn:ausculta:result|{row.id}")
    fhir, issued = (found[name].replace("-", "").replace(":", "") for name in ("effectiveDateTime", "issued"))
    return segment(message, "OBX").get(14), fhir.replace("T", "")[:14], issued.replace("T", "")[:14]


def text(moment: datetime) -> str:
    return moment.strftime("%Y%m%d%H%M%S")


def test_fhir_and_hl7_state_the_same_time_of_a_result_and_fhir_states_when_it_was_computed(hospital: Hospital) -> None:
    hospital.admit()
    message = hospital.vitals()
    measured = hospital.clock.now() - timedelta(minutes=1)
    hospital.clock.advance(120)
    hospital.hl7(message)
    hospital.work()
    assert instants(hospital) == (f"{text(measured)}+0000", text(measured), text(hospital.clock.now()))
    (risk,) = hospital.all("RiskAssessment")  # R4: occurrence is when the assessment was performed
    assert risk["occurrenceDateTime"] == hospital.clock.now().strftime("%Y-%m-%dT%H:%M:%S.000Z")


@pytest.mark.parametrize("value", [b"SN|8867-4^Heart rate^LN||<^40", b"NM|8867-4^Heart rate^LN||7000"])
def test_a_result_that_a_newer_unusable_value_takes_back_has_the_time_of_that_value(
    hospital: Hospital, value: bytes
) -> None:
    scored(hospital)
    hospital.clock.advance(600)
    newer = pulse(hospital, "F", "P2^CPOE", "F2^MONITORS")
    measured = hospital.clock.now() - timedelta(minutes=1)
    head, _, rest = newer.partition(b"OBX|1|")
    hospital.clock.advance(300)
    hospital.hl7(head + b"OBX|1|" + value + b"|" + rest.split(b"|", 5)[5])
    hospital.work()
    assert "pulse" in hospital.results()[-1].summary
    assert instants(hospital)[:2] == (f"{text(measured)}+0000", text(measured))


def test_a_result_that_is_taken_back_with_its_newest_value_does_not_go_back_in_time(hospital: Hospital) -> None:
    hospital.admit()
    hospital.hl7(hospital.vitals(pulse=""))
    hospital.clock.advance(600)
    given = pulse(hospital, "F")
    measured = hospital.clock.now() - timedelta(minutes=1)
    hospital.hl7(given)
    hospital.work()
    score = instants(hospital)
    assert score[0] == f"{text(measured)}+0000"
    hospital.clock.advance(600)
    hospital.hl7(given.replace(b"|||||F|||", b"|||||D|||").replace(b"|C3|", b"|C4|"))
    hospital.work()
    assert hospital.results()[-1].summary == "AI result not available: missing pulse"
    assert instants(hospital)[:2] == score[:2]


def test_a_score_that_rests_on_less_than_the_one_before_it_does_not_go_back_in_time(hospital: Hospital) -> None:
    """A receiver that shows the result with the newest time must not show the score of the deleted value."""
    scored(hospital)
    hospital.clock.advance(600)
    given = pulse(hospital, "F", "P2^CPOE", "F2^MONITORS").replace(b"|131|", b"|70|")
    hospital.hl7(given)
    hospital.work()
    before = instants(hospital)
    hospital.clock.advance(600)
    hospital.hl7(given.replace(b"|||||F|||", b"|||||D|||").replace(b"|C2|", b"|C9|"))
    hospital.work()
    assert [row.summary.rpartition(": ")[2] for row in hospital.results()] == ["19 (high)", "16 (high)", "19 (high)"]
    assert instants(hospital)[:2] == before[:2]
    assert instants(hospital)[2] > before[2]


def test_a_result_that_an_untimed_value_takes_back_has_the_time_of_the_computing(hospital: Hospital) -> None:
    scored(hospital)
    hospital.clock.advance(600)
    at = text(hospital.clock.now() - timedelta(minutes=1)).encode()
    hospital.hl7(pulse(hospital, "F", "P2^CPOE", "F2^MONITORS").replace(at + b"+0000", at[:8]))
    hospital.work()
    assert hospital.results()[-1].summary == "AI result not available: untimed: pulse"
    now = text(hospital.clock.now())
    assert instants(hospital) == (f"{now}+0000", now, now)


def test_the_report_of_an_image_has_the_time_of_the_study(hospital: Hospital) -> None:
    hospital.admit()
    hospital.dicom(ChestXRay(PatientID="4711", IssuerOfPatientID="HOSPITAL", StudyTime="235900", rows=64, columns=64))
    hospital.rest()
    (report,) = hospital.all("DiagnosticReport")
    assert instants(hospital)[0] == f"{text(hospital.results()[-1].computed_at)}+0000"
    assert report["effectiveDateTime"] == hospital.results()[-1].computed_at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:23] + "Z"
