"""What follows the question mark is read by the same rules for every interaction."""

from urllib.parse import quote

import pytest

from fhir_adapter.bulk.request import of_query
from fhir_adapter.rest.openapi import path_of
from fhir_adapter.rest.routes import ROUTES, Route
from kernel.errors import Category, Problem

from .examples import observation, patient
from .harness import Server

READS = [it for it in ROUTES if it.method == "GET" and not it.codes[0].startswith("export")]
ONCE = [it for it in READS if it.codes[0] in {"read", "vread", "everything"} or it.codes[0].startswith("history")]


def name_of(route: Route) -> str:
    return f"{route.codes[0]} {path_of(route)}"


def address_of(route: Route) -> str:
    parts = {"type": "Observation", "id": "p1" if "Patient" in route.path else "o", "version": "1"}
    return path_of(route).format(**parts, member="Observation")


def refusal(server: Server, url: str) -> tuple[int, str]:
    answer = server.client.get(url)
    return answer.status_code, answer.json()["issue"][0]["code"]


@pytest.fixture(scope="module")
def filled(lasting: Server) -> Server:
    lasting.put(patient())
    lasting.put(observation(id="o"))
    return lasting


@pytest.mark.parametrize("route", READS, ids=name_of)
@pytest.mark.parametrize(
    "query",
    [
        "&".join(["_pretty=true"] * 51),
        "_format=json&_pretty=%ff",
        "_format=json&_pretty=%00",
        "_format=json&_pretty",
        "_format=json&colour=%ff",
    ],
    ids=["too many", "not UTF-8", "U+0000", "no value", "not UTF-8 in another parameter"],
)
def test_a_query_that_cannot_be_read_is_refused(filled: Server, route: Route, query: str) -> None:
    assert refusal(filled, f"{address_of(route)}?{query}") == (400, "invalid")


@pytest.mark.parametrize("route", ONCE, ids=name_of)
def test_a_parameter_that_is_there_twice_is_refused(filled: Server, route: Route) -> None:
    name = "_summary" if route.codes[0] in {"read", "vread"} else "_count"
    url = address_of(route)
    assert refusal(filled, f"{url}?{name}=1&{name}=2") == (400, "invalid")


def test_the_form_of_an_answer_can_be_asked_for_wherever_there_is_one(filled: Server) -> None:
    for url in ("/Patient/p1", "/Patient/p1/$everything", "/Observation/$lastn?patient=p1", "/Patient/_history"):
        mark = "&" if "?" in url else "?"
        answer = filled.client.get(f"{url}{mark}_pretty=true&_format=json")
        assert answer.status_code == 200, url
        assert answer.text.startswith("{\n  "), url
        assert "_pretty" not in answer.text or "$lastn" in url


def test_a_link_to_the_next_page_of_everything_keeps_no_form(filled: Server) -> None:
    for place in range(3):
        filled.put(observation(id=f"more{place}"))
    links = filled.client.get("/Patient/p1/$everything?_count=1&_pretty=true").json()["link"]
    assert [it["url"].partition("?")[2].partition("&")[0] for it in links] == ["_count=1", "_count=1"]
    assert quote("_pretty") not in "".join(it["url"] for it in links)


@pytest.mark.parametrize("query", ["patient=%00", "patient=%ff", "patient", "&".join(["_pretty=true"] * 51)])
def test_an_export_does_not_accept_a_query_that_cannot_be_read(query: str) -> None:
    with pytest.raises(Problem) as refused:
        of_query(query)
    assert refused.value.category is Category.INCORRECT
