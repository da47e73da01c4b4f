"""``$validate``: always an OperationOutcome, which names the place of what is wrong; nothing is stored."""

from typing import Any

import httpx
import pytest

from fhir_adapter.store import document
from fhir_adapter.store.validate import Validator
from kernel.tables import resource_versions

from .examples import observation, patient
from .harness import Server

VITALS = "http://hl7.org/fhir/StructureDefinition/"
US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/"


def said(answer: httpx.Response) -> list[tuple[str, str, str]]:
    """Return severity, code and place of each issue of an answer, which must be a valid OperationOutcome."""
    assert answer.status_code == 200, answer.text
    read = document.parse(answer.content)
    assert read.type == "OperationOutcome"
    Validator().check(read)
    return [(it["severity"], it["code"], *it.get("expression", [""])) for it in answer.json()["issue"]]


def errors(answer: httpx.Response) -> list[tuple[str, str]]:
    return [(code, place) for severity, code, place in said(answer) if severity == "error"]


def heart_rate(**more: Any) -> dict[str, Any]:
    category = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": category, "code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-01-31",
        "valueQuantity": {
            "value": 72,
            "unit": "beats/minute",
            "system": "http://unitsofmeasure.org",
            "code": "/min",
        },
    } | more


def parameters(*, profile: str = "", mode: str = "", resource: Any = None) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"name": "resource", "resource": resource}] if resource else []
    parts += [{"name": "profile", "valueUri": profile}] if profile else []
    parts += [{"name": "mode", "valueCode": mode}] if mode else []
    return {"resourceType": "Parameters", "parameter": parts}


def test_a_right_resource_has_nothing_wrong_and_is_not_stored(server: Server) -> None:
    answer = server.client.post("/Observation/$validate", json=observation())
    assert said(answer) == [("information", "informational", "")]
    assert server.count(resource_versions) == 0


def test_each_fault_is_an_error_that_names_its_element(lasting: Server) -> None:
    wrong = observation(status="banana", colour=1, issued="yesterday")
    assert sorted(errors(lasting.client.post("/Observation/$validate", json=wrong))) == [
        ("code-invalid", "Observation.status"),
        ("structure", "Observation"),
        ("value", "Observation.issued"),
    ]


def test_json_that_fhir_forbids_is_an_error_and_not_a_refusal(lasting: Server) -> None:
    body = b'{"resourceType":"Observation","status":"final","code":{"text":"x"},"category":[]}'
    assert ("structure", "Observation") in errors(lasting.client.post("/Observation/$validate", content=body))


@pytest.mark.parametrize("how", ["query", "parameters", "meta"])
def test_a_profile_is_named_in_the_query_in_parameters_or_in_the_resource(lasting: Server, how: str) -> None:
    profile = f"{VITALS}heartrate"
    wrong = heart_rate(subject=None)
    del wrong["subject"]
    if how == "query":
        answer = lasting.client.post(f"/Observation/$validate?profile={profile}", json=wrong)
    elif how == "parameters":
        answer = lasting.client.post("/Observation/$validate", json=parameters(profile=profile, resource=wrong))
    else:
        answer = lasting.client.post("/Observation/$validate", json=wrong | {"meta": {"profile": [profile]}})
    assert errors(answer) == [("required", "Observation.subject")]


def test_a_resource_conforms_to_several_profiles_at_once(lasting: Server) -> None:
    answer = lasting.client.post(
        f"/Observation/$validate?profile={VITALS}heartrate&profile={VITALS}vitalsigns|4.0.1", json=heart_rate()
    )
    assert errors(answer) == []


def test_a_profile_that_is_not_known_is_an_error_when_it_is_asked_for_and_else_a_warning(lasting: Server) -> None:
    asked = lasting.client.post("/Observation/$validate?profile=http://example.org/none", json=heart_rate())
    assert errors(asked) == [("not-found", "Observation")]
    claimed = heart_rate(meta={"profile": [f"{VITALS}heartrate", "http://example.org/none"]})
    found = said(lasting.client.post("/Observation/$validate", json=claimed))
    assert ("warning", "not-found", "Observation.meta.profile[1]") in found
    other = lasting.client.post(f"/Observation/$validate?profile={US_CORE}us-core-patient", json=heart_rate())
    assert errors(other) == [("structure", "Observation")]


def test_an_extensible_binding_is_a_warning(lasting: Server) -> None:
    coded = heart_rate(interpretation=[{"coding": [{"system": "urn:x", "code": "odd"}]}])
    found = said(lasting.client.post(f"/Observation/$validate?profile={VITALS}heartrate", json=coded))
    assert ("warning", "code-invalid", "Observation.interpretation[0]") in found
    assert not [it for it in found if it[0] == "error"]


def test_an_extension_is_checked_by_the_definition_that_its_url_names(lasting: Server) -> None:
    place = {"url": f"{VITALS}patient-birthPlace", "valueString": "Bern"}
    odd = {"url": "http://example.org/odd", "valueString": "x"}
    sent = patient(extension=[place, odd])
    found = said(lasting.client.post("/Patient/$validate", json=sent))
    assert ("error", "structure", "Patient.extension[0].valueString") in found
    assert ("information", "informational", "Patient.extension[1]") in found


def test_a_stored_resource_is_validated_by_its_id(server: Server) -> None:
    server.put(heart_rate(id="o1"))
    assert errors(server.client.get(f"/Observation/o1/$validate?profile={VITALS}heartrate")) == []
    other = server.client.get(f"/Observation/o1/$validate?profile={VITALS}bodyweight")
    assert ("value", "Observation.code") in errors(other) or ("required", "Observation.code.coding") in errors(other)
    assert errors(server.client.get("/Observation/none/$validate")) == [("not-found", "Observation")]


def test_a_change_that_could_not_be_made_is_an_error(server: Server) -> None:
    server.put(heart_rate(id="o1"))
    url = "/Observation/o1/$validate"

    def asked(mode: str, resource: Any = None) -> list[tuple[str, str]]:
        return errors(server.client.post(url, json=parameters(mode=mode, resource=resource)))

    assert asked("update", heart_rate(id="o1")) == []
    assert asked("update", heart_rate(id="o2")) == [("value", "Observation.id")]
    assert asked("create", heart_rate(id="o1")) == [("duplicate", "Observation.id")]
    assert asked("delete") == []
    server.client.delete("/Observation/o1")
    assert asked("delete") == [("not-found", "Observation")]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/Observation/$validate", b"{"),
        ("/Observation/$validate", b"[]"),
        ("/Observation/$validate", b'{"resourceType":"Patient"}'),
        ("/Observation/$validate", b'{"resourceType":"Parameters"}'),
        ("/Observation/$validate", b'{"resourceType":"Parameters","parameter":[{"name":"colour"}]}'),
        ("/Observation/$validate", b'{"resourceType":"Parameters","parameter":[{"name":"resource"}]}'),
        ("/Observation/$validate", b'{"resourceType":"Parameters","parameter":[{"name":"mode"}]}'),
        ("/Observation/$validate?mode=delete", b'{"resourceType":"Observation"}'),
        ("/Observation/$validate?mode=banana", b'{"resourceType":"Observation"}'),
        ("/Observation/$validate?colour=red", b'{"resourceType":"Observation"}'),
    ],
)
def test_a_request_that_is_wrong_itself_is_refused(lasting: Server, path: str, body: bytes) -> None:
    assert lasting.client.post(path, content=body).status_code == 400


def test_it_is_audited_as_an_operation_on_the_patient(server: Server) -> None:
    server.put(heart_rate(id="o1"))
    server.client.get("/Observation/o1/$validate")
    event = server.audited()[-1]
    assert event["subtype"][0]["code"] == "operation"
    assert [it["what"].get("reference") for it in event["entity"][:2]] == ["Observation/o1", "Patient/p1"]
    Validator().check(document.of(event))


def test_every_type_of_r4_is_served_and_no_other(lasting: Server) -> None:
    stated = lasting.client.get("/metadata").json()["rest"][0]["resource"]
    assert len(stated) == 146  # R4 lists 148: Resource and DomainResource are abstract
    assert all("validate" in {op["name"] for op in it["operation"]} for it in stated)
    for kind in ("Resource", "DomainResource", "SubscriptionTopic"):
        answer = lasting.client.post(f"/{kind}/$validate", json={"resourceType": kind})
        assert answer.status_code == 404


def test_json_that_is_too_deep_is_an_error_and_is_read_no_further(lasting: Server) -> None:
    deep = b'{"resourceType":"Observation","extension":' + b'[{"extension":' * 400 + b"[]" + b"}]" * 400 + b"}"
    assert errors(lasting.client.post("/Observation/$validate", content=deep)) == [("structure", "Observation")]


def test_a_resource_that_claims_many_profiles_is_checked_against_the_first_ten(lasting: Server) -> None:
    known = ["bp", "bmi", "heartrate", "bodyweight", "bodyheight", "bodytemp", "resprate", "oxygensat", "headcircum"]
    claimed = [f"{VITALS}{name}" for name in (*known, "vitalspanel", "cholesterol")] + [f"{VITALS}heartrate"] * 1000
    found = said(lasting.client.post("/Observation/$validate", json=heart_rate(meta={"profile": claimed})))
    assert ("information", "too-costly", "Observation") in found
    assert len(found) < 200


def test_a_large_resource_is_checked_against_fewer_profiles(lasting: Server) -> None:
    notes = [{"text": "x" * 1000} for _ in range(1500)]
    names = ("heartrate", "none", "bodyweight")
    query = "&".join(f"profile={VITALS}{name}" for name in names)
    small = said(lasting.client.post(f"/Observation/$validate?{query}", json=heart_rate()))
    large = said(lasting.client.post(f"/Observation/$validate?{query}", json=heart_rate(note=notes)))
    assert ("information", "too-costly", "Observation") not in small
    assert ("information", "too-costly", "Observation") in large
    assert ("error", "not-found", "Observation") in large  # the second is still looked for, the third is not
