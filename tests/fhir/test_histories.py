"""The histories of a resource, a type and the system: what they hold, their pages, and what is recorded of them."""

from typing import Any, NamedTuple

import pytest

from fhir_adapter.rest import histories
from fhir_adapter.results.common import SHADOW
from fhir_adapter.store import history as past

from .examples import entry, observation, patient
from .harness import Server


class Row(NamedTuple):
    """What is read of a version."""

    content: bytes | None


def walk(server: Server, url: str | None) -> list[str]:
    """Follow the links of a history; returns method and version of each entry."""
    found = []
    while url:
        page = server.client.get(url)
        assert page.status_code == 200
        found += [
            f"{it['request']['method']} {it['fullUrl'].removeprefix(server.url)}" for it in page.json().get("entry", ())
        ]
        url = next((link["url"] for link in page.json()["link"] if link["relation"] == "next"), None)
    return found


def fill(server: Server) -> None:
    server.put(patient())
    server.put(observation(id="o"))
    server.clock.advance(60)
    server.put(patient(gender="male"))
    server.client.delete("/Observation/o")


def test_the_history_of_a_type_has_all_changes_of_it(server: Server) -> None:
    fill(server)
    assert walk(server, "/Patient/_history") == ["PUT /Patient/p1", "POST /Patient/p1"]
    assert walk(server, "/Observation/_history?_count=1") == ["DELETE /Observation/o", "POST /Observation/o"]


def test_the_history_of_the_system_has_all_changes(server: Server) -> None:
    fill(server)
    newest_first = ["DELETE /Observation/o", "PUT /Patient/p1", "POST /Observation/o", "POST /Patient/p1"]
    assert walk(server, "/_history") == newest_first
    assert walk(server, "/_history?_count=1") == newest_first
    for version in server.client.get("/_history").json()["entry"]:
        assert version["response"]["etag"] in {'W/"1"', 'W/"2"'}


@pytest.mark.parametrize("address", ["/Patient/_history", "/_history", "/Patient/p1/_history"])
@pytest.mark.parametrize(
    ("query", "methods"),
    [
        ("_since=2026-01-15T12:00:30Z", ["PUT"]),
        ("_since=2026-01-15T12:00:00Z", ["PUT", "POST"]),
        ("_since=2026-01-15T14:00:30%2B02:00", ["PUT"]),
        ("_at=2026-01-15T12:00:30Z", ["POST"]),
        ("_at=2026-01-15", ["PUT", "POST"]),
        ("_at=2026-01-16", ["PUT"]),
        ("_at=2026-01-14", []),
    ],
)
def test_a_history_is_limited_in_time(server: Server, address: str, query: str, methods: list[str]) -> None:
    server.put(patient())
    server.clock.advance(60)
    server.put(patient(gender="male"))
    assert [line.split()[0] for line in walk(server, f"{address}?{query}")] == methods
    assert [line.split()[0] for line in walk(server, f"{address}?{query}&_count=1")] == methods


@pytest.mark.parametrize(
    "query", ["_sort=x", "_count=x", "_since=yesterday", "_count=1&_count=2", "_at=", "_since", "_before=-1"]
)
def test_a_parameter_that_a_history_does_not_have_is_refused(lasting: Server, query: str) -> None:
    lasting.put(patient())
    for address in ("/Patient/_history", "/_history", "/Patient/p1/_history"):
        assert lasting.client.get(f"{address}?{query}").status_code == 400, address


def test_pages_hold_each_version_once_while_others_write(server: Server) -> None:
    for place in range(10):
        server.put(patient(f"p{place}"))
    expected = [f"POST /Patient/p{place}" for place in reversed(range(10))]
    for address in ("/Patient/_history", "/_history"):
        found: list[str] = []
        url: str | None = f"{address}?_count=3"
        while url:
            page = server.client.get(url).json()
            found += [f"{it['request']['method']} {it['fullUrl'].removeprefix(server.url)}" for it in page["entry"]]
            server.post(patient())
            server.put(patient("p5", birthDate=f"19{len(found) + 10}"))
            url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
        assert [line for line in found if line in expected] == expected


def test_a_page_looks_at_a_bounded_number_of_versions(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "MOST_LOOKED_AT", 4)
    server.put(observation(id="o"))
    for place in range(10):
        server.put(patient(f"p{place}"))
    assert walk(server, "/Observation/_history") == ["POST /Observation/o"]
    first = server.client.get("/Observation/_history").json()
    assert "entry" not in first
    assert [link["relation"] for link in first["link"]] == ["self", "next"]
    assert len(walk(server, "/_history?_count=3")) == 11


def test_a_walk_through_the_past_ends_where_nothing_is_new_enough(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "MOST_LOOKED_AT", 2)
    for place in range(6):
        server.put(patient(f"p{place}"))
    server.clock.advance(7200)
    server.put(observation(id="o"))
    page = server.client.get("/Observation/_history?_since=2026-01-15T13:59:00Z").json()
    assert len(page["entry"]) == 1
    server.put(patient("p9"))
    server.put(patient("p8"))
    links = server.client.get("/Observation/_history?_since=2026-01-15T13:59:00Z").json()["link"]
    assert [link["relation"] for link in links] == ["self", "next"]
    assert len(walk(server, "/Observation/_history?_since=2026-01-15T13:59:00Z")) == 1


def test_a_history_of_many_patients_is_recorded_for_each(server: Server) -> None:
    server.transact(entry("PUT", "Patient/a", patient("a")), entry("PUT", "Patient/b", patient("b")))
    server.client.get("/Patient/_history")
    server.client.get("/_history?_since=2027-01-01")
    events = server.audited()[2:]
    assert [event["subtype"][0]["code"] for event in events] == ["history-type", "history-type", "history-system"]


def test_what_a_model_in_shadow_said_is_in_no_history_of_a_type(server: Server) -> None:
    tagged: dict[str, Any] = {"meta": {"tag": [{"system": SHADOW["system"], "code": SHADOW["code"]}]}}
    server.put(observation(id="o") | tagged)
    assert walk(server, "/Observation/_history") == walk(server, "/_history") == []
    assert len(walk(server, "/Observation/o/_history")) == 1


def test_the_audit_log_has_no_history_of_its_own(lasting: Server) -> None:
    assert lasting.client.get("/AuditEvent/_history").status_code == 405
    assert histories.DEFAULT_COUNT == 100


@pytest.mark.parametrize("path", ["/Observation/o/_history", "/Observation/_history", "/_history"])
def test_a_page_ends_before_its_bytes_are_too_many(server: Server, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(past, "MOST_BYTES", 60_000)
    for place in range(6):
        server.clock.advance(1)
        server.put(observation(id="o", note=[{"text": f"{place}" * 20_000}]))
    server.put(observation(id="o", note=[{"text": "x" * 90_000}]))
    sizes, versions, url = [], [], f"{path}?_count=1000"
    while url:
        page = server.client.get(url).json()
        sizes.append(len(page["entry"]))
        versions += [int(it["resource"]["meta"]["versionId"]) for it in page["entry"]]
        url = next((it["url"] for it in page["link"] if it["relation"] == "next"), "")
    assert (sizes, versions) == ([1, 2, 2, 2], [7, 6, 5, 4, 3, 2, 1])


def test_versions_are_read_only_as_far_as_a_page_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "MOST_BYTES", 10)
    rows = iter([Row(b"x" * 4), Row(None), Row(b"x" * 4), Row(b"x" * 4), Row(b"x")])
    taken, more = past.first_of(rows, 100)
    assert (len(taken), more, [*rows]) == (3, True, [Row(b"x")])
    assert past.first_of([Row(b"x")], 1) == ([Row(b"x")], False)
