"""Search returns exactly the matches, and refuses unsupported parameters."""

from typing import Any

import pytest

from fhir_adapter.store.search import find as find_module
from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.parse import parse

from .examples import observation, patient
from .harness import Server


def ids(server: Server, query: str) -> list[str]:
    answer = server.client.get(f"/{query}")
    assert answer.status_code == 200, answer.text
    return [it["resource"]["id"] for it in answer.json().get("entry", [])]


@pytest.fixture(scope="module")
def stocked(lasting: Server) -> Server:
    server = lasting
    at = ("2026-01-14T23:30:00Z", "2026-01-15T11:00:00.5Z", "2026-01-15", "2026-01-15T12:00:00+01:00")
    for place, moment in enumerate(at):
        server.clock.advance(1)
        server.put(observation(id=f"o{place}", effectiveDateTime=moment))
    panel = {
        "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
        "valueQuantity": {"value": 120},
    }
    pressure = observation(
        id="bp",
        status="preliminary",
        subject={"reference": "http://other.org/fhir/Patient/p1"},
        code={"coding": [{"system": "http://loinc.org", "code": "85354-9"}, {"code": "local"}]},
        component=[panel],
        identifier=[{"system": "urn:x", "value": "a|b,c"}],
    )
    del pressure["valueQuantity"], pressure["effectiveDateTime"]
    server.clock.advance(1)
    server.put(pressure)
    server.put(patient())
    server.put(patient("p2", name=[{"text": "Jo Müllerová"}], gender="male"))
    return server


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Observation?_id=o1,o2,zz", "o1 o2"),
        ("Observation?patient=p1", "o0 o1 o2 o3"),
        ("Observation?patient=Patient/p1&code=http://loinc.org|8867-4", "o0 o1 o2 o3"),
        ("Observation?subject=Patient/p1", "o0 o1 o2 o3"),
        ("Observation?subject=p1", "o0 o1 o2 o3"),
        ("Observation?subject=http://other.org/fhir/Patient/p1", "bp"),
        ("Observation?code=8867-4&status=final", "o0 o1 o2 o3"),
        ("Observation?code=85354-9,8867-4&status=preliminary", "bp"),
        ("Observation?code=|local", "bp"),
        ("Observation?code=http://loinc.org|local", ""),
        ("Observation?code=urn:other|8867-4", ""),
        ("Observation?component-code=8480-6", "bp"),
        ("Observation?combo-code=8480-6", "bp"),
        ("Observation?identifier=urn:x|a\\|b\\,c", "bp"),
        ("Observation?identifier=urn:x|", "bp"),
        ("Observation?date=2026-01-15", "o1 o2 o3"),
        ("Observation?date=2026-01", "o0 o1 o2 o3"),
        ("Observation?date=2026-01-15T11:00:00Z", "o1 o3"),
        ("Observation?date=2026-01-15T12:00:00%2B01:00", "o1 o3"),
        ("Observation?date=gt2026-01-15T11:00:01Z", "o2"),
        ("Observation?date=ge2026-01-15T11:00:00Z", "o1 o2 o3"),
        ("Observation?date=lt2026-01-15", "o0"),
        ("Observation?date=le2026-01-15", "o0 o1 o2 o3"),
        ("Observation?date=sa2026-01-14", "o1 o2 o3"),
        ("Observation?date=eb2026-01-15", "o0"),
        ("Observation?date=ne2026-01-15", "o0"),
        ("Observation?date=ge2026-01-15&date=lt2026-01-16", "o1 o2 o3"),
        ("Observation?_lastUpdated=gt2026-01-15T12:00:04Z", "bp"),
        ("Observation?_lastUpdated=2026-01-15T12:00:02Z", "o1"),
        ("Observation?_lastUpdated=2027", ""),
        ("Patient?name=mull", "p1"),
        ("Patient?name=jo", "p2"),
        ("Patient?family=MÜLLER", "p1"),
        ("Patient?given=anne", "p1"),
        ("Patient?gender=male", "p2"),
        ("Patient?birthdate=1950", "p1 p2"),
        ("Patient?identifier=urn:oid:1.2.3|MRN-p2", "p2"),
        ("Patient?name=%25", ""),
    ],
)
def test_a_search_finds(stocked: Server, query: str, expected: str) -> None:
    assert sorted(ids(stocked, query)) == sorted(expected.split())


def test_the_newest_comes_first(stocked: Server) -> None:
    assert ids(stocked, "Observation") == ["bp", "o3", "o2", "o1", "o0"]
    assert ids(stocked, "Observation?_sort=_lastUpdated") == ["o0", "o1", "o2", "o3", "bp"]
    assert ids(stocked, "Observation?_sort=-date") == ["o1", "o3", "o2", "o0", "bp"]


@pytest.mark.parametrize("sort", ["", "&_sort=-date", "&_sort=date", "&_sort=_lastUpdated"])
def test_pages_join_without_gap_or_repetition(stocked: Server, sort: str) -> None:
    whole = ids(stocked, f"Observation?_count=100{sort}")
    url: str | None = f"/Observation?status=final,preliminary&_count=2{sort}"
    joined: list[str] = []
    while url:
        page = stocked.client.get(url).json()
        joined += [it["resource"]["id"] for it in page["entry"]]
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    assert joined == whole


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize(
    "query",
    [
        "code=8867-4",
        "status=final&code=8867-4",
        "date=ge2026-01-15",
        "status=final,preliminary&_sort=date",
        "code=|local",
    ],
)
def test_both_ways_of_walking_find_the_same(
    stocked: Server, query: str, narrow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few matches are read and sorted; of many the newest are looked for in their order."""
    expected = ids(stocked, f"Observation?{query}")
    monkeypatch.setattr(find_module, "_FEW", 1_000_000 if narrow else -1)
    assert ids(stocked, f"Observation?{query}") == expected
    assert expected


@pytest.mark.parametrize("patient", ["patient=Patient/p1", "subject:Patient.identifier=MRN-p1"])
def test_the_observations_of_a_patient_are_read_by_their_keys_and_not_looked_for_among_all(
    stocked: Server, patient: str
) -> None:
    asked: list[str] = []
    query = parse("Observation", f"{patient}&code=http://loinc.org|8867-4&date=ge2026-01-15")
    with stocked.database.read() as connection:
        driver: Any = connection.connection.dbapi_connection
        driver.set_trace_callback(asked.append)
        assert find(connection, query).found
        driver.set_trace_callback(None)
        plan = [step.detail for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked[-1]}")]
    assert any(step.startswith("SEARCH resource_heads USING INTEGER PRIMARY KEY") for step in plan), plan
    whole = [step for step in plan if "SCAN" in step and step != "SCAN anon_1"]  # that is the page itself
    assert not whole, plan
    assert not any("resource_heads_recent" in step for step in plan), plan


PAIRS = [
    ("subject=p1&code=8867-4", "o3 o2 o1 o0"),
    ("patient=Patient/p1,Patient/p2&code=http://loinc.org|8867-4,local&status=final", "o3 o2 o1 o0"),
    ("subject=http://other.org/fhir/Patient/p1&code=|local", "bp"),
    ("subject=http://other.org/fhir/Patient/p1&code=85354-9&code=local", "bp"),
    ("patient=p1&code=http://loinc.org|", "o3 o2 o1 o0"),
    ("patient=p1&code:not=85354-9", "o3 o2 o1 o0"),
    ("patient=p1&code=85354-9", ""),
    ("patient=p2&code=8867-4", ""),
]


@pytest.mark.parametrize("is_paired", [True, False])
@pytest.mark.parametrize(("query", "expected"), PAIRS)
def test_a_patient_and_a_code_together_find_what_each_finds(
    stocked: Server, query: str, expected: str, is_paired: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_paired:
        monkeypatch.setattr(find_module, "paired", lambda _kind, criteria: criteria)
    assert ids(stocked, f"Observation?{query}") == expected.split()


def test_a_patient_and_a_code_are_one_look_up_in_the_index(stocked: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    matching = find_module.matching
    monkeypatch.setattr(find_module, "matching", lambda *args, **named: asked.append(1) or matching(*args, **named))
    assert ids(stocked, "Observation?patient=p1&code=8867-4,718-7,2160-0") == ["o3", "o2", "o1", "o0"]
    assert len(asked) == 1


def test_a_search_can_be_posted_as_a_form(stocked: Server) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = stocked.client.post("/Observation/_search", content="patient=p1&date=2026-01-14", headers=headers)
    assert [it["resource"]["id"] for it in answer.json()["entry"]] == ["o0"]


def test_an_updated_resource_is_found_by_its_new_content(server: Server) -> None:
    server.put(patient())
    server.put(patient(gender="other"))
    assert ids(server, "Patient?gender=female") == []
    assert ids(server, "Patient?gender=other") == ["p1"]


def test_the_self_link_says_what_was_understood(stocked: Server) -> None:
    answer = stocked.client.get("/Observation?patient=p1&_count=1").json()
    assert answer["link"][0]["url"] == f"{stocked.url}/Observation?patient=p1&_count=1"


@pytest.mark.parametrize(
    "query",
    [
        "Observation?colour=red",
        "Observation?code:above=1",
        "Observation?date=yesterday",
        "Observation?code=",
        "Observation?code=|",
        "Observation?_count=many",
        "Observation?_sort=code-value-quantity",
        "Observation?_cursor=x",
        "Observation?" + "&".join(["code=1"] * 60),
        "Observation?code=" + ",".join(["1"] * 600),
        "Provenance?target=bare",
        "Observation?code=%FF",
    ],
)
def test_an_unsupported_search_is_refused(stocked: Server, query: str) -> None:
    answer = stocked.client.get(f"/{query}")
    assert (answer.status_code, answer.json()["resourceType"]) == (400, "OperationOutcome")
