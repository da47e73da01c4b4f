"""What one sender may store never stops the messages of another: it is refused at the gate, or it is harmless."""

import json
from typing import Any

import httpx
import pytest

from fhir_adapter.hl7v2.synthesise import adt_a08

from .hospital import ADULT, Hospital

EXTENSION = "http://hospital.example/fhir/StructureDefinition/score"


def stored_patient(hospital: Hospital) -> dict[str, Any]:
    (patient,) = hospital.all("Patient")
    return patient


def put(hospital: Hospital, kind: str, resource_id: str, content: str) -> httpx.Response:
    body = content.encode("utf-8", "surrogatepass")
    return httpx.put(
        f"{hospital.url}/{kind}/{resource_id}", content=body, headers={"Content-Type": "application/fhir+json"}
    )


def patient_with(hospital: Hospital, members: str) -> httpx.Response:
    """Store the patient's own resource with more JSON; its identifier is the one of the messages."""
    known = stored_patient(hospital)
    identifier = json.dumps(known["identifier"])
    base = f'{{"resourceType":"Patient","id":"{known["id"]}","identifier":{identifier}'
    if '"birthDate"' not in members:
        base += ',"birthDate":"1950-01-01"'
    return put(hospital, "Patient", known["id"], f"{base},{members}}}")


def decimal(number: str) -> str:
    return f'"extension":[{{"url":"{EXTENSION}","valueDecimal":{number}}}]'


def messages_still_pass(hospital: Hospital) -> None:
    before = len(hospital.results())
    assert hospital.hl7(adt_a08(ADULT, "A08-after", hospital.clock.now())) == "AA"
    assert hospital.hl7(hospital.vitals()) == "AA"
    hospital.work()
    assert hospital.parked() == []
    assert len(hospital.results()) == before + 1


@pytest.mark.parametrize("number", ["1e-70", "1E+70", "1.50e-7", "0.00000001", "1e-100", "-0.0e5", "1e245"])
def test_a_number_with_an_exponent_keeps_its_characters_through_later_messages(hospital: Hospital, number: str) -> None:
    hospital.admit()
    assert patient_with(hospital, decimal(number)).status_code == 200
    messages_still_pass(hospital)
    raw = httpx.get(f"{hospital.url}/Patient/{stored_patient(hospital)['id']}").text
    assert f'"valueDecimal":{number}' in raw.replace(" ", "")


@pytest.mark.parametrize(
    "number", ["1e-400000000", "1e400", "1e-301", "1E+301", "0e999999999", "1" * 65, "0." + "1" * 100]
)
def test_a_number_beyond_the_bounds_is_refused_with_its_path(hospital: Hospital, number: str) -> None:
    hospital.admit()
    answer = patient_with(hospital, decimal(number))
    assert answer.status_code == 422, answer.text
    (issue,) = answer.json()["issue"]
    assert issue["expression"] == ["Patient.extension[0].valueDecimal"]
    messages_still_pass(hospital)


def test_a_number_in_a_transaction_is_refused_with_its_path(hospital: Hospital) -> None:
    observation = '{"resourceType":"Observation","valueQuantity":{"value":1e-400000000}}'
    content = f'{{"resourceType":"Bundle","type":"transaction","entry":[{{"resource":{observation}}}]}}'
    answer = httpx.post(hospital.url, content=content, headers={"Content-Type": "application/fhir+json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["issue"][0]["expression"] == ["Bundle.entry[0].resource.valueQuantity.value"]


DEEP = '"extension":[{"url":"urn:x",' * 28 + '"valueBoolean":true' + "}]" * 28


@pytest.mark.parametrize(
    "members",
    [
        pytest.param('"birthDate":"0000-01-01"', id="year 0"),
        pytest.param('"birthDate":"0001-01-01"', id="year 1"),
        pytest.param('"birthDate":"9999-12-31"', id="last day"),
        pytest.param('"birthDate":"2026-02-30"', id="no such day"),
        pytest.param('"birthDate":"1950-13-01"', id="no such month"),
        pytest.param('"deceasedDateTime":"9999-12-31T24:00:00Z"', id="hour 24"),
        pytest.param('"deceasedDateTime":"0001-01-01T00:00:00+14:00"', id="before the calendar"),
        pytest.param('"deceasedDateTime":"9999-12-31T23:59:59-14:00"', id="after the calendar"),
        pytest.param('"deceasedDateTime":"2026-01-01T00:00:00+14:59"', id="offset 14:59"),
        pytest.param('"deceasedDateTime":"2026-01-01T00:00:00+99:99"', id="offset 99:99"),
        pytest.param('"multipleBirthInteger":99999999999999999999', id="huge integer"),
        pytest.param('"multipleBirthInteger":9223372036854775808', id="past 64 bits"),
        pytest.param('"name":[{"family":"\\u0000"}]', id="NUL"),
        pytest.param('"name":[{"family":"\\ud800"}]', id="lone surrogate, escaped"),
        pytest.param('"name":[{"family":"\ud800"}]', id="lone surrogate"),
        pytest.param('"name":[{"family":"\\ufffe\\uffff\\u007f\\u0085\\u2028"}]', id="noncharacters"),
        pytest.param(f'"name":[{{"family":"{"x" * 900_000}"}}]', id="900,000 characters"),
        pytest.param(DEEP, id="nested"),
        pytest.param('"gender":"unknown"', id="unknown sex"),
        pytest.param('"identifier":[{"value":"x","period":{"start":"0001","end":"9999"}}]', id="two identifiers"),
        pytest.param('"name":[{"family":" "}]', id="a blank name"),
        pytest.param('"name":[{"given":[null],"_given":[{"extension":[{"url":"urn:x","valueCode":"x"}]}]}]', id="null"),
        pytest.param('"_birthDate":{"extension":[{"url":"urn:x","valueDateTime":"1950"}]}', id="birth time"),
        pytest.param('"generalPractitioner":[{"reference":"Practitioner/nobody"}]', id="a broken link"),
        pytest.param('"managingOrganization":{"reference":"Organization?identifier=x"}', id="a conditional link"),
        pytest.param('"managingOrganization":{"reference":"urn:uuid:c757873d-ec9a-4326-a141-556f43239520"}', id="urn"),
    ],
)
def test_whatever_is_stored_with_a_patient_later_messages_pass(hospital: Hospital, members: str) -> None:
    hospital.admit()
    answer = patient_with(hospital, members)
    assert answer.status_code in {200, 400, 409, 422}, answer.text
    messages_still_pass(hospital)


@pytest.mark.parametrize(
    "time",
    [
        '"effectiveDateTime":"0000-01-01"',
        '"effectiveDateTime":"0001-01-01T00:00:00+14:00"',
        '"effectiveDateTime":"9999-12-31T23:59:59-14:00"',
        '"effectiveDateTime":"9999-12-31T24:00:00Z"',
        '"effectiveDateTime":"9999"',
        '"effectiveDateTime":"9999-12"',
        '"effectiveDateTime":"9999-12-31"',
        '"effectiveDateTime":"2026-01-01T00:00:00+14:59"',
        '"effectiveDateTime":"2026-01-01T00:00:60Z"',
        '"effectivePeriod":{"start":"9999-12-31T23:59:59.999999999-12:00"}',
        '"effectiveDateTime":"2026-01-01T00:00:00Z","issued":"0001-01-01T00:00:00+14:00"',
        '"effectiveDateTime":"2026-01-01T00:00:00Z","issued":"9999-12-31T23:59:59-14:00"',
    ],
)
def test_whatever_is_stored_as_an_observation_later_messages_pass(hospital: Hospital, time: str) -> None:
    hospital.admit()
    reference = f"Patient/{stored_patient(hospital)['id']}"
    coding = '{"coding":[{"system":"http://loinc.org","code":"2708-6"}]}'
    for name, value in (("small", "1e-100"), ("large", "99999999999999999999999999e70")):
        quantity = f'{{"value":{value},"system":"http://unitsofmeasure.org","code":"/min","unit":"/min"}}'
        answer = put(
            hospital,
            "Observation",
            name,
            f'{{"resourceType":"Observation","id":"{name}","status":"final","code":{coding},'
            f'"subject":{{"reference":"{reference}"}},{time},"valueQuantity":{quantity}}}',
        )
        assert answer.status_code in {201, 400, 422}, answer.text
    hospital.work()
    assert hospital.parked() == []
    messages_still_pass(hospital)


@pytest.mark.parametrize(
    "members",
    [
        pytest.param('"basedOn":[{"reference":"ServiceRequest/x/_history/abc"}]', id="no version"),
        pytest.param('"basedOn":[{"reference":"ServiceRequest/x/_history/99999999999999999999"}]', id="huge version"),
        pytest.param('"basedOn":[{"reference":"ServiceRequest/a/b/c"}]', id="no reference"),
        pytest.param('"basedOn":[{"reference":"ServiceRequest?identifier=x"}]', id="a condition"),
        pytest.param('"basedOn":[{"display":"by phone"}]', id="in words"),
        pytest.param('"encounter":{"reference":"Encounter/nowhere/_history/abc"}', id="no version of an encounter"),
        pytest.param('"encounter":{"reference":"https://other.example/Encounter/1"}', id="elsewhere"),
        pytest.param('"encounter":{"display":"a visit"}', id="an encounter in words"),
        pytest.param('"identifier":[{"type":{"coding":[{"code":"PLAC"}]},"value":"a\\rOBX|9"}]', id="a line break"),
        pytest.param('"identifier":[{"type":{"coding":[{"code":"FILL"}]},"system":"urn:oid:1.2"}]', id="no value"),
    ],
)
def test_whatever_an_input_says_of_order_and_visit_the_result_is_delivered(hospital: Hospital, members: str) -> None:
    hospital.admit()
    reference = f"Patient/{stored_patient(hospital)['id']}"
    now = hospital.clock.now().isoformat()
    answer = put(
        hospital,
        "Observation",
        "odd",
        '{"resourceType":"Observation","id":"odd","status":"final",'
        '"code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]},'
        f'"subject":{{"reference":"{reference}"}},"effectiveDateTime":"{now}",'
        '"valueQuantity":{"value":71,"system":"http://unitsofmeasure.org","code":"/min","unit":"/min"},'
        f"{members}}}",
    )
    assert answer.status_code in {201, 400, 422}, answer.text
    hospital.work()
    assert hospital.parked() == []
    messages_still_pass(hospital)
    for message in hospital.engine.received():
        assert {one.name for one in message.segments} <= {"MSH", "PID", "PV1", "ORC", "OBR", "OBX", "NTE"}
        assert message.first("OBX").get(1) == "1"


def test_a_name_of_any_length_and_with_any_character_is_one_field(hospital: Hospital) -> None:
    hospital.admit()
    names = json.dumps([{"family": "A\rOBX|9||" + "x" * 100_000, "given": ["B^C", "D\n~E", "&"]}])
    known = stored_patient(hospital)
    assert patient_with(hospital, f'"name":{names}').status_code == 200
    assert hospital.hl7(hospital.vitals()) == "AA"
    hospital.work()
    assert hospital.parked() == []
    (message,) = hospital.engine.received()
    assert [one.name for one in message.segments].count("PID") == 1
    assert len(message.first("PID").get(5)) < 1000
    assert known["id"]
