"""Searches at their edges: texts without codes, open ends, escapes, addresses of our own, forged links."""

import base64
from typing import Any

import orjson
import pytest

from .examples import entry, observation, patient
from .harness import Server

ALLERGY = "http://terminology.hl7.org/CodeSystem/"


def ids(server: Server, query: str) -> list[str]:
    answer = server.client.get(f"/{query}")
    assert answer.status_code == 200, answer.text
    return sorted(it["resource"]["id"] for it in answer.json().get("entry", []))


@pytest.fixture(scope="module")
def ward(lasting: Server) -> Server:
    server = lasting
    active = {"coding": [{"system": f"{ALLERGY}allergyintolerance-clinical", "code": "active"}]}
    allergy: dict[str, Any] = {"resourceType": "AllergyIntolerance", "clinicalStatus": active}
    allergy["patient"] = {"reference": "Patient/p1"}
    server.put(allergy | {"id": "text", "code": {"text": "Penicillin"}})
    server.put(allergy | {"id": "none"})
    for name, comparator in (("below", "<"), ("at-most", "<="), ("above", ">"), ("at-least", ">=")):
        value = {"value": 14, "unit": "mg", "comparator": comparator}
        server.put(observation(id=name, code={"coding": [{"code": "limit"}]}, valueQuantity=value))
    server.put(observation(id="display", code={"coding": [{"code": "who"}]}, subject={"display": "a patient"}))
    without = observation(id="nobody", code={"coding": [{"code": "who"}]})
    del without["subject"]
    server.put(without)
    for name, number in (("shout", "TRUE"), ("slash", "a\\"), ("comma", "a,x")):
        server.put(patient(name, identifier=[{"system": "urn:odd", "value": number}], active=True))
    order: dict[str, Any] = {"resourceType": "ServiceRequest", "id": "bid", "status": "active", "intent": "order"}
    twice = {"code": {"text": "twice a day"}}
    server.put(order | {"subject": {"reference": "Patient/p1"}, "occurrenceTiming": twice})
    for name, above in (("o1", "o2"), ("o2", "o3"), ("o3", "o4"), ("o4", "")):
        part_of = {"partOf": {"reference": f"Organization/{above}"}} if above else {}
        server.put({"resourceType": "Organization", "id": name, "name": f"Org {name}"} | part_of)
    server.put(patient("deep", managingOrganization={"reference": "Organization/o1"}))
    server.put(observation(id="of-deep", code={"coding": [{"code": "deep"}]}, subject={"reference": "Patient/deep"}))
    return server


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("AllergyIntolerance?code:text=penicillin", "text"),
        ("AllergyIntolerance?code:missing=true", "none"),
        ("AllergyIntolerance?code:missing=false", "text"),
        ("Observation?code=who&subject:missing=true", "nobody"),
        ("Observation?code=limit&value-quantity=ge14", "above at-least at-most"),
        ("Observation?code=limit&value-quantity=le14", "below at-most at-least"),
        ("Observation?code=limit&value-quantity=gt14", "above at-least"),
        ("Observation?code=limit&value-quantity=lt14", "below at-most"),
        ("Observation?code=limit&value-quantity=sa14", "above"),
        ("Observation?code=limit&value-quantity=eb14", "below"),
        ("Patient?identifier=TRUE", "shout"),
        ("Patient?identifier=true", ""),
        ("Patient?identifier=urn:odd|a\\\\", "slash"),
        ("Patient?identifier=a\\\\,TRUE", "shout slash"),
        ("Patient?identifier=a\\,x", "comma"),
        ("ServiceRequest?occurrence=ge2020", ""),
        ("Observation?patient.organization.partof.partof.name=Org o3", "of-deep"),
        ("Patient?organization.partof.partof.partof.name=Org o4", "deep"),
        ("Organization?_has:Organization:partof:_has:Organization:partof:_has:Patient:organization:_id=deep", "o3"),
    ],
)
def test_a_search_finds_exactly_its_matches(ward: Server, query: str, expected: str) -> None:
    assert ids(ward, query) == sorted(expected.split())


def forged(*parts: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


@pytest.mark.parametrize(
    "query",
    [
        "Patient?name=%00",
        "Patient?identifier=urn:x|%00",
        "AuditEvent?_id=%00",
        f"Patient?_cursor={forged(2**63, 1, 1)}",
        f"Patient?_cursor={forged(1, 2**64 - 1, 1)}",
        f"Patient?_cursor={forged(1, -1, 1)}",
        f"Patient?_sort=birthdate&_cursor={forged('x', 1, 1)}",
        f"Patient?_sort=family&_cursor={forged(1, 1, 1)}",
        f"Patient?_sort=family&_cursor={forged(chr(0), 1, 1)}",
    ],
)
def test_what_no_link_of_ours_holds_is_refused(ward: Server, query: str) -> None:
    answer = ward.client.get(f"/{query}")
    assert answer.status_code == 400, answer.text


def test_a_reference_to_our_own_address_is_found_by_each_of_its_names(server: Server) -> None:
    own = f"{server.url}/Patient/p1"
    server.put(patient())
    created = server.post(observation(subject={"reference": own})).json()
    assert created["subject"] == {"reference": "Patient/p1"}
    patched = [{"op": "add", "path": "/performer", "value": [{"reference": own}]}]
    kind = {"Content-Type": "application/json-patch+json"}
    server.client.patch(f"/Observation/{created['id']}", json=patched, headers=kind).raise_for_status()
    for query in ("subject=Patient/p1", f"subject={own}", "patient.name=Müller", "performer=Patient/p1"):
        assert ids(server, f"Observation?{query}") == [created["id"]]
    assert created["id"] in ids(server, "Patient/p1/Observation")
    assert [change for change in server.audited() if "Patient/p1" in str(change["entity"])]


def test_an_entry_that_is_named_by_our_own_address_stays_that_entry(server: Server) -> None:
    name = f"{server.url}/Patient/temporary"
    answer = server.transact(
        entry("POST", "Patient", {"resourceType": "Patient"}, fullUrl=name),
        entry("POST", "Observation", observation(subject={"reference": name})),
    )
    made = answer.json()["entry"][0]["response"]["location"].split("/Patient/")[1].split("/")[0]
    assert len(ids(server, f"Observation?subject=Patient/{made}")) == 1
