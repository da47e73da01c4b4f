"""Every access leaves one event, and ``/metadata`` states what happens."""

from base64 import b64decode
from typing import Any

import pytest

from fhir_adapter.rest.routes import ROUTES
from fhir_adapter.store import document
from fhir_adapter.store.search.parameters import of
from fhir_adapter.store.validate import Validator
from kernel.tables import audit_log

from .examples import entry, observation, patient
from .harness import Server


def summary(event: dict[str, Any]) -> tuple[str, str, str | None]:
    """Return action, object and patient of an event."""
    entities = {it["type"]["code"]: it for it in event.get("entity", ())}
    subject = entities.get("1", {}).get("what", {}).get("reference")
    data = entities["2"]
    named = b64decode(data["query"]).decode() if "query" in data else data["what"]["reference"]
    return event["action"], named, subject


def test_every_access_is_recorded_before_it_is_answered(server: Server) -> None:
    server.put(patient())
    server.put(observation(id="o"))
    server.client.get("/Observation/o")
    server.client.get("/Observation/o/_history/1")
    server.client.get("/Observation/o/_history")
    server.client.get("/Observation?code=8867-4")
    server.client.get("/Observation?code=none")
    server.put(observation(73, id="o"))
    server.client.delete("/Observation/o")
    assert [summary(event) for event in server.audited()] == [
        ("C", "Patient/p1/_history/1", "Patient/p1"),
        ("C", "Observation/o/_history/1", "Patient/p1"),
        ("R", "Observation/o/_history/1", "Patient/p1"),
        ("R", "Observation/o/_history/1", "Patient/p1"),
        ("R", "Observation/o", "Patient/p1"),
        ("E", "Observation?code=8867-4", "Patient/p1"),
        ("E", "Observation?code=none", None),
        ("U", "Observation/o/_history/2", "Patient/p1"),
        ("D", "Observation/o/_history/3", "Patient/p1"),
    ]


def test_a_search_is_recorded_for_each_patient_it_found(server: Server) -> None:
    server.put(observation(id="a"))
    server.put(observation(id="b", subject={"reference": "Patient/p2"}))
    server.client.get("/Observation?code=8867-4")
    assert [summary(event)[2] for event in server.audited()[2:]] == ["Patient/p1", "Patient/p2"]


def test_an_event_names_the_request_and_the_peer(server: Server) -> None:
    server.put(patient(), X_Request_Id="abc-1")
    (event,) = server.audited()
    assert event["entity"][-1]["what"] == {"identifier": {"value": "abc-1"}}
    assert {agent["network"]["address"] for agent in event["agent"]} == {"127.0.0.1"}


def test_each_change_of_a_transaction_is_recorded(server: Server) -> None:
    server.transact(entry("PUT", "Patient/p1", patient()), entry("PUT", "Observation/o", observation(id="o")))
    assert [summary(event)[:2] for event in server.audited()] == [
        ("C", "Patient/p1/_history/1"),
        ("C", "Observation/o/_history/1"),
    ]


def test_a_refused_request_records_no_event_of_success(server: Server) -> None:
    server.post(observation(status="banana"))
    server.client.get("/Patient/none")
    assert server.audited() == []


def test_audit_events_are_resources_to_be_read_and_searched(server: Server) -> None:
    server.put(patient())
    server.clock.advance(60)
    server.put(observation(id="o"))
    (event,) = [it["resource"] for it in server.client.get("/AuditEvent?entity=Observation/o").json()["entry"]]
    assert server.client.get(f"/AuditEvent/{event['id']}").json() == event
    for query, count in (
        ("patient=p1&action=C", 2),
        ("entity=Patient/p1", 2),
        ("date=2026-01-15T12:00", 1),
        ("date=gt2027", 0),
        (f"_id={event['id']}", 1),
    ):
        created = server.client.get(f"/AuditEvent?{query}").json().get("entry", [])
        assert len([it for it in created if it["resource"]["action"] == "C"]) == count, query


def test_audit_events_come_page_by_page(server: Server) -> None:
    for place in range(5):
        server.put(patient(f"p{place}"))
    url: str | None = "/AuditEvent?action=C&_count=2"
    found: list[str] = []
    while url:
        page = server.client.get(url).json()
        found += [summary(it["resource"])[1] for it in page["entry"]]
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    assert found == [f"Patient/p{place}/_history/1" for place in reversed(range(5))]


def test_a_recorded_event_is_valid_r4(server: Server) -> None:
    server.put(patient())
    server.client.get("/Patient?gender=female")
    validator = Validator()
    for event in server.audited():
        validator.check(document.of(event))
    assert server.count(audit_log) == 2


def test_metadata_is_valid_and_says_r4(lasting: Server) -> None:
    stated = lasting.client.get("/metadata")
    Validator().check(document.parse(stated.content))
    assert stated.json()["fhirVersion"] == "4.0.1"
    assert stated.json()["implementation"]["url"] == lasting.url
    assert stated.json()["software"]["version"] == "1.2.3"


def _type_interactions(server: Server) -> dict[str, int]:
    """Carry out each interaction that is stated for a type; returns code -> status."""
    client = server.client
    return {
        "update": server.put(observation(id="o")).status_code,
        "create": server.post(observation()).status_code,
        "read": client.get("/Observation/o").status_code,
        "vread": client.get("/Observation/o/_history/1").status_code,
        "history-instance": client.get("/Observation/o/_history").status_code,
        "history-type": client.get("/Observation/_history").status_code,
        "search-type": client.get("/Observation").status_code,
        "patch": client.patch(
            "/Observation/o", json=[], headers={"Content-Type": "application/json-patch+json"}
        ).status_code,
        "delete": client.delete("/Observation/o").status_code,
    }


def test_every_interaction_that_metadata_names_is_there(server: Server) -> None:
    (rest,) = server.client.get("/metadata").json()["rest"]
    (stated,) = [it for it in rest["resource"] if it["type"] == "Observation"]
    done = _type_interactions(server)
    assert {it["code"] for it in stated["interaction"]} == set(done)
    assert all(200 <= status < 300 for status in done.values())
    assert [it["code"] for it in rest["interaction"]] == ["history-system", "transaction", "batch"]
    for kind in ("transaction", "batch"):
        assert server.transact(entry("PUT", "Patient/p1", patient()), kind=kind).status_code == 200
    (audit,) = [it for it in rest["resource"] if it["type"] == "AuditEvent"]
    assert {it["code"] for it in audit["interaction"]} == {"read", "search-type"}
    assert server.client.get("/_history").status_code == 200
    others = {
        "history-system",
        "transaction",
        "batch",
        "validate",
        "status",
        "events",
        "everything",
        "lastn",
        "export",
        "export-status",
        "search-compartment",
    }
    assert {code for route in ROUTES for code in route.codes} == {*done, *others}


def test_every_condition_that_metadata_names_is_there(server: Server) -> None:
    stated = server.client.get("/metadata").json()
    (of_patient,) = [it for it in stated["rest"][0]["resource"] if it["type"] == "Patient"]
    url, client = "/Patient?identifier=MRN-p1", server.client
    assert of_patient["updateCreate"]
    assert server.put(patient()).status_code == 201
    assert of_patient["conditionalCreate"]
    assert server.post(patient(), If_None_Exist="identifier=MRN-p1").status_code == 200
    assert of_patient["conditionalUpdate"]
    assert client.put(url, json=patient()).status_code == 200
    assert of_patient["conditionalRead"] == "full-support"
    for name, value in (("If-None-Match", 'W/"1"'), ("If-Modified-Since", "Thu, 15 Jan 2026 12:00:00 GMT")):
        assert client.get("/Patient/p1", headers={name: value}).status_code == 304
    for kind in stated["patchFormat"]:
        body: Any = [] if "patch" in kind else {"resourceType": "Parameters"}
        assert client.patch("/Patient/p1", json=body, headers={"Content-Type": kind}).status_code == 200
    for kind in stated["format"]:
        assert client.get("/Patient/p1", headers={"Accept": kind}).status_code == 200
        assert client.get("/Patient/p1", params={"_format": kind}).status_code == 200
    assert of_patient["conditionalDelete"] == "single"
    assert client.delete(url).status_code == 204


VALUES = {
    "token": "x",
    "reference": "Patient/x",
    "date": "2026",
    "string": "x",
    "uri": "urn:x",
    "number": "1",
    "quantity": "1",
}


def test_every_search_parameter_that_metadata_names_is_served(lasting: Server) -> None:
    """All of a type in a few requests, with each order, inclusion and composite; some thousands are claimed."""
    (rest,) = lasting.client.get("/metadata").json()["rest"]
    claimed = 0
    for resource in rest["resource"]:
        kind = resource["type"]
        plain = [it for it in resource["searchParam"] if it["type"] in VALUES]
        pairs = [(it["name"], VALUES[it["type"]]) for it in plain]
        pairs += [(it["name"], components(kind, it["name"])) for it in resource["searchParam"] if it not in plain]
        pairs += [("_include", name) for name in resource.get("searchInclude", ())]
        for start in range(0, len(pairs), 15):
            answer = lasting.client.get(f"/{kind}", params=pairs[start : start + 15])
            assert answer.status_code == 200, (kind, answer.text)
        claimed += len(pairs)
    assert claimed > 3000


def components(kind: str, name: str) -> str:
    return "$".join(VALUES[part.kind] for part in of(kind)[name].wholes[0].components)


@pytest.mark.parametrize("kind", ["Patient", "Organization", "Device", "Observation"])
def test_every_reverse_inclusion_that_metadata_names_is_served(lasting: Server, kind: str) -> None:
    (rest,) = lasting.client.get("/metadata").json()["rest"]
    (stated,) = [it for it in rest["resource"] if it["type"] == kind]
    names = stated["searchRevInclude"]
    for start in range(0, len(names), 40):
        pairs = [("_revinclude", name) for name in names[start : start + 40]]
        assert lasting.client.get(f"/{kind}", params=pairs).status_code == 200
    assert "Provenance:target" in names


def test_every_operation_that_metadata_names_is_there(server: Server) -> None:
    server.put(patient())
    (rest,) = server.client.get("/metadata").json()["rest"]
    stated = {(it["type"], op["name"]) for it in rest["resource"] for op in it.get("operation", ())}
    of_subscriptions = {("Subscription", "status"), ("Subscription", "events")}
    others = {("Patient", "everything"), ("Observation", "lastn")} | of_subscriptions
    others |= {("Patient", "export"), ("Group", "export")}  # carried out in tests/service/test_export.py
    assert {it for it in stated if it[1] != "validate"} == others
    assert {kind for kind, name in stated if name == "validate"} == {it["type"] for it in rest["resource"]}
    assert server.client.get("/Subscription/$status").status_code == 200
    assert server.client.get("/Subscription/none/$events").status_code == 404
    assert server.client.get("/Patient/p1/$everything").status_code == 200
    assert server.client.get("/Observation/$lastn?patient=p1").status_code == 200
    assert server.client.get("/Patient/p1/$nothing").status_code == 404
