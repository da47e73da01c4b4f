"""``/openapi.json`` states every route, its types, parameters and headers, and nothing that is not there."""

from collections.abc import Iterator
from typing import Any

import pytest

from fhir_adapter.rest.openapi import EVERYWHERE, PARAMETERS, SEARCH, STATED, path_of
from fhir_adapter.rest.routes import ROUTES, Route
from fhir_adapter.store.search.parameters import of
from privacy.authorize import Interaction

from .examples import observation, patient
from .harness import Server

Document = dict[str, Any]


@pytest.fixture(scope="module")
def stated(lasting: Server) -> Document:
    document: Document = lasting.client.get("/openapi.json").json()
    return document


def operations(document: Document) -> dict[tuple[str, str], Any]:
    return {(method.upper(), path): it for path, methods in document["paths"].items() for method, it in methods.items()}


def parameters(document: Document, operation: Any) -> list[Any]:
    named = document["components"]["parameters"]
    return [named[it["$ref"].rpartition("/")[2]] for it in operation["parameters"]]


def test_every_route_is_stated_and_nothing_else(stated: Document) -> None:
    own = {("GET", f"/{name}") for name in STATED}
    assert set(operations(stated)) == {(route.method, path_of(route)) for route in ROUTES} | own


def test_it_is_openapi_whose_references_all_resolve_and_whose_components_are_all_used(stated: Document) -> None:
    assert stated["openapi"] == "3.1.0"
    names = [it["operationId"] for it in operations(stated).values()]
    assert len(names) == len(set(names))
    components = stated["components"]
    defined = {f"#/components/{kind}/{name}" for kind, named in components.items() for name in named}
    assert set(references(stated)) == defined


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def test_every_placeholder_of_a_path_is_a_parameter(stated: Document) -> None:
    for (method, path), operation in operations(stated).items():
        wanted = [part[1:-1] for part in path.split("/") if part[:1] == "{"]
        given = [it["name"] for it in parameters(stated, operation) if it["in"] == "path"]
        assert given == wanted, (method, path)


def test_a_type_of_a_path_is_one_that_the_route_serves(lasting: Server, stated: Document) -> None:
    kinds = {it["type"] for it in lasting.client.get("/metadata").json()["rest"][0]["resource"]}
    for (method, path), operation in operations(stated).items():
        for kind in [it["schema"]["enum"] for it in parameters(stated, operation) if it["name"] == "type"]:
            address = path.format(type="AuditEvent", id="x", version="1")
            is_there = lasting.client.request(method, address).status_code != 405
            assert set(kind) == (kinds if is_there else kinds - {"AuditEvent"}), (method, path)


def test_the_search_parameters_of_each_type_are_those_of_the_search(stated: Document) -> None:
    listed = stated["x-fhir-search-parameters"]
    assert listed == {kind: {it.name: it.kind for it in of(kind).values()} for kind in listed}
    assert set(listed) == set(stated["components"]["parameters"]["anyType"]["schema"]["enum"])


def test_it_stays_small(lasting: Server) -> None:
    assert len(lasting.client.get("/openapi.json").content) < 150_000


def test_it_names_the_address_and_the_version(lasting: Server, stated: Document) -> None:
    assert stated["servers"] == [{"url": lasting.url}]
    assert stated["info"]["version"] == "1.2.3"


VALUES = {
    "_summary": "data",
    "_elements": "id",
    "_sort": "_id",
    "_include": "Observation:subject",
    "_revinclude": "Provenance:target",
    "_since": "2026-01-01T00:00:00Z",
    "_at": "2026",
    "_type": "Observation",
    "_typeFilter": "Observation?status=final",
    "patient": "Patient/p1",
    "profile": "http://hl7.org/fhir/StructureDefinition/Observation",
    "mode": "profile",
    "id": "p1",
    "status": "active",
    SEARCH: "p1",
}
READS = [it for it in ROUTES if it.method == "GET" and not it.codes[0].startswith("export") and it.codes != ("events",)]
"""Those of exports and events need a worker: tests/service/test_export.py, test_subscription_topics.py."""


def address_of(route: Route) -> str:
    parts = {"type": "Observation", "id": "p1" if "Patient" in route.path else "o", "version": "1"}
    return path_of(route).format(**parts, member="Observation")


@pytest.mark.parametrize("route", READS, ids=lambda it: f"{it.codes[0]} {path_of(it)}")
def test_every_parameter_that_is_stated_is_taken_and_no_other(lasting: Server, stated: Document, route: Route) -> None:
    lasting.put(patient())
    lasting.put(observation(id="o"))
    operation = operations(stated)[route.method, path_of(route)]
    url = address_of(route)
    needed = {"patient": "p1"} if route.codes == ("lastn",) else {}
    expected = lasting.client.get(url, params=needed).status_code
    for it in parameters(stated, operation):
        if it["in"] == "query":
            name, schema = it["name"], it["schema"]
            value = VALUES.get(name) or (schema.get("enum") or schema.get("examples") or ["1"])[-1]
            pair = {("_id" if name == SEARCH else name): value}
            assert lasting.client.get(url, params=needed | pair).status_code == expected, name
    assert lasting.client.get(url, params=needed | {"colour": "red"}).status_code == 400


def test_every_code_of_the_tables_is_that_of_a_route() -> None:
    codes = {code for route in ROUTES for code in route.codes}
    assert set(PARAMETERS) <= codes
    assert set(EVERYWHERE) == {"_format", "_pretty"}


def test_it_is_an_answer_to_get_alone_in_json(lasting: Server) -> None:
    answer = lasting.client.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert lasting.client.head("/openapi.json").headers["content-length"] == answer.headers["content-length"]
    assert lasting.client.options("/openapi.json").headers["allow"] == "GET, HEAD, OPTIONS"
    refused = lasting.client.post("/openapi.json", json={})
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    assert lasting.client.get("/openapi.json/x").status_code == 404


def test_it_is_authorized_as_metadata_is(server: Server) -> None:
    assert server.client.get("/openapi.json").status_code == 200
    assert [it.interaction for it in server.authorizer.requests] == [Interaction.CAPABILITIES]
    assert server.audited() == []
    server.authorizer.refuses = lambda request: request.interaction is Interaction.CAPABILITIES
    refused = server.client.get("/openapi.json")
    assert (refused.status_code, refused.json()["resourceType"]) == (403, "OperationOutcome")
    assert [event["outcome"] for event in server.audited()] == ["4"]
