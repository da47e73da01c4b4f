"""One authorizer decides on each route, entry of a Bundle and search, before anything is read or written."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from fhir_adapter.rest.routes import ROUTES
from fhir_adapter.store import document
from fhir_adapter.store.validate import Validator
from privacy.authorize import Interaction, Request

from .examples import entry, observation, patient
from .harness import Server

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
P1 = "Patient/p1"


def requested(interaction: Interaction, target: str = "", target_id: str = "", compartment: str = "") -> Request:
    return Request(interaction=interaction, target=target, target_id=target_id, compartment=compartment)


ACCESSES: dict[str, tuple[Callable[[Server], httpx.Response], list[Request]]] = {
    "create": (lambda it: it.post(observation()), [requested(Interaction.CREATE, "Observation")]),
    "read": (lambda it: it.client.get("/Patient/p1"), [requested(Interaction.READ, "Patient", "p1", P1)]),
    "vread": (lambda it: it.client.get("/Patient/p1/_history/1"), [requested(Interaction.VREAD, "Patient", "p1", P1)]),
    "update": (
        lambda it: it.put(observation(id="o")),
        [requested(Interaction.UPDATE, "Observation", "o")],
    ),
    "delete": (lambda it: it.client.delete("/Patient/p1"), [requested(Interaction.DELETE, "Patient", "p1", P1)]),
    "history-instance": (
        lambda it: it.client.get("/Patient/p1/_history"),
        [requested(Interaction.HISTORY, "Patient", "p1", P1)],
    ),
    "search-compartment": (
        lambda it: it.client.get("/Patient/p1/Observation?code=8867-4"),
        [requested(Interaction.SEARCH, "Observation", "", P1)],
    ),
    "everything": (
        lambda it: it.client.get("/Patient/p1/$everything"),
        [requested(Interaction.READ, "Patient", "p1", P1)],
    ),
    "status": (
        lambda it: it.client.get("/Subscription/$status"),
        [requested(Interaction.READ, "Subscription")],
    ),
    "lastn": (
        lambda it: it.client.get("/Observation/$lastn?patient=Patient/p1"),
        [requested(Interaction.SEARCH, "Observation", "", P1)],
    ),
    "search-type": (
        lambda it: it.client.get("/Observation?patient=p1&code=8867-4"),
        [requested(Interaction.SEARCH, "Observation", "", P1)],
    ),
    "search-type by form": (
        lambda it: it.client.post("/Patient/_search", content="_id=p1", headers=FORM),
        [requested(Interaction.SEARCH, "Patient", "", P1)],
    ),
    "search-type of several patients": (
        lambda it: it.client.get("/Observation?patient=p1,p2"),
        [requested(Interaction.SEARCH, "Observation")],
    ),
    "patch": (
        lambda it: it.client.patch("/Patient/p1", json=[], headers=JSON_PATCH),
        [requested(Interaction.PATCH, "Patient", "p1", P1)],
    ),
    "patch on a condition": (
        lambda it: it.client.patch("/Patient?identifier=MRN-p1", json=[], headers=JSON_PATCH),
        [
            requested(Interaction.PATCH, "Patient"),
            requested(Interaction.SEARCH, "Patient"),
            requested(Interaction.PATCH, "Patient", "p1", P1),
        ],
    ),
    "delete on a condition": (
        lambda it: it.client.delete("/Patient?_id=p1"),
        [
            requested(Interaction.DELETE, "Patient"),
            requested(Interaction.SEARCH, "Patient", "", P1),
            requested(Interaction.DELETE, "Patient", "p1", P1),
        ],
    ),
    "history-type": (
        lambda it: it.client.get("/Patient/_history"),
        [requested(Interaction.HISTORY_OF_TYPE, "Patient")],
    ),
    "history-system": (lambda it: it.client.get("/_history"), [requested(Interaction.HISTORY_OF_SYSTEM)]),
    "create on a condition": (
        lambda it: it.post(patient("p2"), If_None_Exist="identifier=MRN-p2"),
        [requested(Interaction.CREATE, "Patient"), requested(Interaction.SEARCH, "Patient")],
    ),
    "transaction": (
        lambda it: it.transact(
            entry("POST", "Observation", observation()),
            entry("PUT", "Patient/p2", patient("p2")),
            entry("GET", "Patient/p1"),
            entry("GET", "Observation?patient=p1"),
        ),
        [
            requested(Interaction.BUNDLE),
            requested(Interaction.CREATE, "Observation", "", P1),
            requested(Interaction.UPDATE, "Patient", "p2", "Patient/p2"),
            requested(Interaction.READ, "Patient", "p1", P1),
            requested(Interaction.SEARCH, "Observation", "", P1),
        ],
    ),
    "transaction with a conditional reference": (
        lambda it: it.transact(
            entry("POST", "Observation", observation(subject={"reference": "Patient?identifier=MRN-p1"}))
        ),
        [
            requested(Interaction.BUNDLE),
            requested(Interaction.CREATE, "Observation"),
            requested(Interaction.SEARCH, "Patient"),
        ],
    ),
    "batch": (
        lambda it: it.transact(
            entry("DELETE", "Patient/p1"), entry("GET", "Patient/p1/_history/1"), entry("GET", "Patient"), kind="batch"
        ),
        [
            requested(Interaction.BUNDLE),
            requested(Interaction.DELETE, "Patient", "p1", P1),
            requested(Interaction.VREAD, "Patient", "p1", P1),
            requested(Interaction.SEARCH, "Patient"),
        ],
    ),
    "validate": (
        lambda it: it.client.post("/Observation/$validate", json=observation()),
        [requested(Interaction.VALIDATE, "Observation")],
    ),
    "capabilities": (lambda it: it.client.get("/metadata"), [requested(Interaction.CAPABILITIES)]),
    "openapi": (lambda it: it.client.get("/openapi.json"), [requested(Interaction.CAPABILITIES)]),
}
"""HTTP request to the expected authorization requests, in order."""


def test_every_route_has_its_example() -> None:
    # They need a running worker: tests/service/test_subscription_topics.py and test_export.py.
    elsewhere = {"events", "export", "export-status"}
    assert {code for route in ROUTES for code in route.codes} - elsewhere <= ACCESSES.keys()


@pytest.mark.parametrize("name", ACCESSES)
def test_each_access_is_decided_on_exactly_once(server: Server, name: str) -> None:
    send, expected = ACCESSES[name]
    server.put(patient())
    server.authorizer.requests.clear()
    assert send(server).status_code < 300
    assert server.authorizer.requests == expected


@pytest.mark.parametrize("name", ACCESSES)
def test_a_refused_access_reads_and_writes_nothing_and_is_audited(server: Server, name: str) -> None:
    send, expected = ACCESSES[name]
    server.put(patient())
    server.changed.calls.clear()
    server.authorizer.refuses = lambda request: request == expected[0]
    refused = send(server)
    assert (refused.status_code, refused.json()["resourceType"]) == (403, "OperationOutcome")
    assert "Müller" not in refused.text
    assert (server.count(), server.changed.calls) == (1, [])
    (_, event) = server.audited()
    assert (event["outcome"], event["subtype"][0]["code"]) == ("4", expected[0].interaction.value)
    Validator().check(document.of(event))


@pytest.mark.parametrize("place", range(4))
def test_one_refused_entry_refuses_the_transaction(server: Server, place: int) -> None:
    send, expected = ACCESSES["transaction"]
    server.put(patient())
    server.authorizer.refuses = lambda request: request == expected[1 + place]
    refused = send(server)
    assert refused.status_code == 403
    assert server.count() == 1
    assert [event["outcome"] for event in server.audited()] == ["0", "4"]


def test_a_refused_entry_of_a_batch_is_refused_alone(server: Server) -> None:
    server.put(patient())
    server.authorizer.refuses = lambda request: request.interaction is Interaction.SEARCH
    entries: list[dict[str, Any]] = [entry("GET", "Patient"), entry("PUT", "Patient/p2", patient("p2"))]
    answers = server.transact(*entries, kind="batch").json()["entry"]
    assert [it["response"]["status"] for it in answers] == ["403", "201"]
    assert "resource" not in answers[0]
    assert [event["outcome"] for event in server.audited()] == ["0", "4", "0"]


def test_a_refused_condition_creates_nothing(server: Server) -> None:
    server.authorizer.refuses = lambda request: request.interaction is Interaction.SEARCH
    assert server.post(patient(), If_None_Exist="identifier=MRN-p1").status_code == 403
    assert server.count() == 0


def test_a_refusal_comes_before_the_body_is_parsed(server: Server) -> None:
    server.authorizer.refuses = lambda _: True
    assert server.client.post("/Observation", content=b"{").status_code == 403
    assert server.client.post("/", content=b"{").status_code == 403
