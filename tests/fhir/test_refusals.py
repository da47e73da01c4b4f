# ruff: noqa: E501 - one case a line
"""What R4 forbids is refused through the listener: 422, with the rule and the place; the next request is served."""

from pathlib import Path
from typing import Any

import pytest

from .examples import entry, observation, patient
from .harness import Server

LOW = {"value": 1, "code": "%", "system": "http://unitsofmeasure.org"}
ORGANIZATION = {"resourceType": "Organization", "id": "o", "name": "O"}
COMPONENT = {"code": {"text": "x"}, "valueQuantity": {"value": "5"}}
FLAG = {"url": "http://x.org", "valueBoolean": True}


def said(answer: Any) -> list[tuple[str, str]]:
    """Return code and place of each issue."""
    assert answer.json()["resourceType"] == "OperationOutcome"
    return [(it["code"], *it.get("expression", ())) for it in answer.json()["issue"]]


def nested(levels: int) -> dict[str, Any]:
    """Return a Questionnaire with items in items."""
    item: dict[str, Any] = {"linkId": "0", "type": "string"}
    for level in range(1, levels):
        item = {"linkId": str(level), "type": "group", "item": [item]}
    return {"resourceType": "Questionnaire", "status": "draft", "item": [item]}


def extended(levels: int, **innermost: Any) -> dict[str, Any]:
    """Return an Observation with extensions in extensions."""
    extension: dict[str, Any] = {"url": "http://x.org"} | innermost
    for _ in range(levels):
        extension = {"url": "http://x.org", "extension": [extension]}
    return observation(extension=[extension])


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (observation(component=[COMPONENT]), ("structure", "Observation.component[0].valueQuantity.value")),
        (observation(effectiveDateTime="2026-02-30"), ("value", "Observation.effectiveDateTime")),
        (observation(effectiveDateTime="2026-02-03T10:00Z"), ("value", "Observation.effectiveDateTime")),
        (observation(issued="2026-02-03"), ("value", "Observation.issued")),
        (observation(meta={"profile": ["http://x.org/a b"]}), ("value", "Observation.meta.profile[0]")),
        (observation(category=[{"coding": [{"code": " x"}]}]), ("value", "Observation.category[0].coding[0].code")),
        (observation(code={"id": "x"}), ("invariant", "Observation.code")),
        (observation(note=[{"text": ""}]), ("value", "Observation.note[0].text")),
        (observation(_id={"extension": [FLAG]}), ("structure", "Observation.id")),
        (observation(referenceRange=[{"low": {"value": 1, "comparator": "<"}}]), ("structure", "Observation.referenceRange[0].low.comparator")),
        (observation(performer=[{"reference": "Patient/1", "type": "Practitioner"}]), ("structure", "Observation.performer[0]")),
        (patient(contained=[ORGANIZATION]), ("invariant", "Patient.contained[0]")),  # dom-3
        (patient(contained=[ORGANIZATION], generalPractitioner=[{"reference": "#o"}, {"reference": "#p"}]), ("invariant", "Patient.generalPractitioner[1]")),
        (patient(contained=[ORGANIZATION], link=[{"other": {"reference": "#o"}, "type": "refer"}]), ("structure", "Patient.link[0].other")),
        (patient(name=[{"given": ["A", None], "_given": [None, None]}]), ("structure", "Patient.name[0].given")),
        (patient(deceasedBoolean=True, deceasedDateTime="2026"), ("structure", "Patient.deceased")),
        (patient(photo=[{"contentType": "image/png", "data": "AAA"}]), ("value", "Patient.photo[0].data")),
        ({"resourceType": "List", "status": "current", "mode": "snapshot", "entry": [{"item": {"reference": "Patient/1"}, "date": "2026"}]}, ("invariant", "List")),
        ({"resourceType": "Organization", "active": True}, ("invariant", "Organization")),
        ({"resourceType": "Appointment", "status": "booked", "participant": [{"status": "accepted"}]}, ("invariant", "Appointment.participant[0]")),
        ({"resourceType": "MedicinalProduct"}, ("required", "MedicinalProduct.name")),
        ({"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": "urn:x"}]}, ("invariant", "Bundle.entry[0]")),
        ({"resourceType": "Bundle", "type": "document", "entry": [{"resource": ORGANIZATION}]}, ("invariant", "Bundle")),
        (nested(20) | {"item": [nested(20)["item"][0], {"linkId": "0", "type": "string"}]}, ("invariant", "Questionnaire")),  # que-2
        (extended(25, valueString=""), ("value", "Observation" + ".extension[0]" * 26 + ".valueString")),
    ],
)  # fmt: skip
def test_what_r4_forbids_is_refused_with_its_place(
    lasting: Server, resource: dict[str, Any], expected: tuple[str, str]
) -> None:
    answer = lasting.client.post(f"/{resource['resourceType']}", json=resource)
    assert answer.status_code == 422, answer.text
    assert said(answer)[0] == expected
    assert lasting.post(observation()).status_code == 201


@pytest.mark.parametrize(
    "resource",
    [
        nested(25),
        extended(25, valueString="x"),
        observation(category=[{"extension": [FLAG]}]),
        patient(contained=[ORGANIZATION], managingOrganization={"reference": "#o"}),
        patient(name=[{"given": [None, "B"], "_given": [{"extension": [FLAG]}, None]}]),
        {k: v for k, v in observation().items() if k != "status"} | {"_status": {"extension": [FLAG]}},
        observation(note=[{"text": "a\u00a0b\ttab\nline"}], meta={"source": "urn:oid:1.2.3#4"}),
        {"resourceType": "MedicinalProduct", "name": [{"productName": "X"}]},
    ],
)
def test_what_r4_allows_is_stored(lasting: Server, resource: dict[str, Any]) -> None:
    answer = lasting.client.post(f"/{resource['resourceType']}", json=resource)
    assert answer.status_code == 201, answer.text


def test_the_place_of_a_fault_in_a_transaction_is_a_path_of_the_bundle(lasting: Server) -> None:
    entries = [entry("POST", "Patient", patient()), entry("POST", "Observation", observation(issued="yesterday"))]
    answer = lasting.client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 422
    assert said(answer) == [("value", "Bundle.entry[1].resource.issued")]


def test_a_resource_with_very_many_faults_is_refused_in_time(lasting: Server) -> None:
    wrong = observation(component=[{"code": {"text": ""}, "colour": number} for number in range(20_000)])
    answer = lasting.client.post("/Observation", json=wrong)
    assert answer.status_code == 422
    assert len(said(answer)) == 20


def test_a_fault_beside_many_references_within_a_resource_is_found(lasting: Server) -> None:
    references = [{"reference": "#o"} for _ in range(150)]
    for place in (0, 150):
        listed: list[dict[str, Any]] = [*references[:place], {"reference": "Location/1"}, *references[place:]]
        answer = lasting.client.post("/Patient", json=patient(contained=[ORGANIZATION], generalPractitioner=listed))
        assert answer.status_code == 422
        assert said(answer) == [("structure", f"Patient.generalPractitioner[{place}]")]


def test_very_many_references_within_a_resource_are_refused_in_time(lasting: Server) -> None:
    references = [{"reference": "#o"} for _ in range(50_000)]
    extension: dict[str, Any] = {
        "url": "http://x.org",
        "extension": [{"url": "http://x.org", "valueReference": it} for it in references],
    }
    for _ in range(20):
        extension = {"url": "http://x.org", "extension": [extension]}
    answer = lasting.client.post("/Patient", json=patient(contained=[ORGANIZATION], extension=[extension]))
    assert answer.status_code == 422
    assert said(answer)[0][0] == "too-costly"


def test_a_rule_that_compares_all_parts_takes_linear_time(lasting: Server) -> None:
    count = 20_000
    definition = {
        "grouping": [{"id": f"g{number}", "name": "x"} for number in range(count)],
        "resource": [{"reference": {"display": "x"}, "groupingId": f"g{number}"} for number in range(count)],
    }
    guide = {
        "resourceType": "ImplementationGuide",
        "url": "http://x.org",
        "name": "X",
        "status": "draft",
        "packageId": "x",
        "fhirVersion": ["4.0.1"],
        "definition": definition,
    }
    answer = lasting.client.post("/ImplementationGuide", json=guide, timeout=60)
    assert answer.status_code == 201, answer.text


def test_a_narrative_of_very_many_levels_is_answered(lasting: Server) -> None:
    levels = 100_000
    div = '<div xmlns="http://www.w3.org/1999/xhtml">' + "<b>" * levels + "x" + "</b>" * levels + "</div>"
    answer = lasting.client.post("/Patient", json=patient(text={"status": "generated", "div": div}))
    assert answer.status_code in {201, 422}
    assert lasting.post(observation()).status_code == 201


def test_the_official_example_of_a_type_that_only_r4_has_is_stored(lasting: Server, shared: Path) -> None:
    raw = (shared / "data" / "fhir-r4-examples" / "SubstanceSpecification-example.json").read_bytes()
    assert lasting.client.post("/SubstanceSpecification", content=raw).status_code == 201
