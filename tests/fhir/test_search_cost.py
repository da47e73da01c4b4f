"""What a search may cost: bytes of a page, resources that are read, seconds; beyond it the answer says so."""

from itertools import count
from typing import Any

import pytest

from fhir_adapter.rest import searches
from fhir_adapter.store import history
from fhir_adapter.store.search import find as find_module
from fhir_adapter.store.search import includes
from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.parse import parse
from kernel import db

from .examples import entry, observation, patient
from .harness import Server


def refused(server: Server, url: str) -> str:
    answer = server.client.get(url)
    assert answer.status_code == 403, answer.text
    (issue,) = answer.json()["issue"]
    assert issue["code"] == "too-costly"
    return str(issue["details"]["text"])


def test_a_page_ends_before_its_bytes_are_too_many(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_module, "MOST_BYTES", 60_000)
    for place in range(6):
        server.clock.advance(1)
        server.put(observation(id=f"o{place}", note=[{"text": "x" * 20_000}]))
    sizes, found, url = [], [], "/Observation?_count=100"
    while url:
        page = server.client.get(url).json()
        sizes.append(len(page["entry"]))
        found += [it["resource"]["id"] for it in page["entry"]]
        url = next((it["url"] for it in page["link"] if it["relation"] == "next"), "")
    assert (sizes, found) == ([2, 2, 2], [f"o{place}" for place in reversed(range(6))])
    server.put(observation(id="large", note=[{"text": "x" * 90_000}]))
    assert len(server.client.get("/Observation?_id=large").json()["entry"]) == 1


def test_what_the_index_cannot_say_is_read_up_to_a_bound(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_module, "MOST_READ", 40)
    monkeypatch.setattr(find_module, "_AT_A_TIME", 10)
    server.transact(*(entry("POST", "Observation", observation()) for _ in range(60)))
    assert "40 resources" in refused(server, "/Observation?code:text=nothing&_count=5")
    assert "40 resources" in refused(server, "/Observation?code:text=nothing&_summary=count&_count=5")
    assert server.client.get("/Observation?code:text=nothing&patient=other").status_code == 200


def steps_of(server: Server, text: str) -> int:
    """Count the steps of SQLite's virtual machine for a search, in tens."""
    steps = count()
    query = parse("Observation", text)
    with server.database.read() as connection:
        driver: Any = connection.connection.dbapi_connection
        driver.set_progress_handler(lambda: next(steps) < 0, 10)
        assert len(find(connection, query).found) == 20
        driver.set_progress_handler(None, 0)
    return next(steps)


def test_values_of_a_patient_are_found_at_one_cost_whatever_else_the_patient_has(server: Server) -> None:
    def add(number: int, code: str) -> None:
        other = {"coding": [{"system": "http://loinc.org", "code": code}]}
        server.transact(*(entry("POST", "Observation", observation(code=other)) for _ in range(number)))

    add(25, "8310-5")
    search = "patient=p1&code=http://loinc.org|8310-5&_count=20"
    alone = steps_of(server, search)
    for _ in range(5):
        add(100, "9279-1")
    assert steps_of(server, search) < 1.1 * alone


def test_what_is_included_is_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(includes, "MOST_INCLUDED", 10)
    server.put(patient())
    server.transact(*(entry("POST", "Observation", observation()) for _ in range(11)))
    assert "10 resources" in refused(server, "/Patient?_revinclude=Observation:patient")


def test_a_search_that_takes_long_is_stopped_and_others_are_not(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.transact(*(entry("POST", "Observation", observation()) for _ in range(500)))
    monkeypatch.setattr(db, "BRIEF_S", 0.0)
    monkeypatch.setattr(searches, "MOST_SECONDS", 0.0)
    assert "seconds" in refused(server, "/Observation?code:not=a&category:missing=true&_total=accurate")
    assert server.client.get("/Patient?_id=none").status_code == 200
    monkeypatch.setattr(searches, "MOST_SECONDS", 10.0)
    assert server.client.get("/Observation?code:not=a&_total=accurate").json()["total"] == 500


@pytest.mark.parametrize("url", ["/List?_include=List:item", "/Patient?_revinclude=Observation:patient"])
def test_the_bytes_of_what_is_included_are_bounded(server: Server, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(includes, "MOST_BYTES", 2**20)
    server.put(patient())
    items = [{"item": {"reference": f"Observation/o{place}"}} for place in range(3)]
    server.put({"resourceType": "List", "id": "l", "status": "current", "mode": "working", "entry": items})
    for place in range(2):
        server.put(observation(id=f"o{place}", note=[{"text": "x" * 400_000}]))
    assert len(server.client.get(url).json()["entry"]) == 3
    server.put(observation(id="o2", note=[{"text": "x" * 400_000}]))
    assert "1 MiB" in refused(server, url)


def test_a_page_of_everything_ends_before_its_bytes_are_too_many(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MOST_BYTES", 60_000)
    server.put(patient())
    for place in range(5):
        server.put(observation(id=f"o{place}", note=[{"text": "x" * 20_000}]))
    sizes, found, url = [], [], "/Patient/p1/$everything?_count=1000"
    while url:
        page = server.client.get(url).json()
        sizes.append(len(page["entry"]))
        found += [it["resource"]["id"] for it in page["entry"]]
        url = next((it["url"] for it in page["link"] if it["relation"] == "next"), "")
    assert (sizes, found) == ([3, 2, 1], ["p1", *(f"o{place}" for place in range(5))])
