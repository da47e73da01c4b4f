"""A patient's compartment, ``$everything`` and ``$lastn``."""

from typing import Any

import pytest

from .examples import observation, patient
from .harness import Server


@pytest.fixture(scope="module")
def ward(lasting: Server) -> Server:
    server = lasting
    server.put({"resourceType": "Organization", "id": "org", "name": "Org"})
    for name in ("ada", "bob"):
        server.put(patient(name, managingOrganization={"reference": "Organization/org"}))
        subject = {"reference": f"Patient/{name}"}
        for place, code in enumerate(("a", "a", "b")):
            server.clock.advance(1)
            more: dict[str, Any] = {"effectiveDateTime": f"2026-01-1{place}T10:00:00Z", "subject": subject}
            server.put(observation(id=f"{name}-{place}", code={"coding": [{"code": code}]}, **more))
    server.put(
        {
            "resourceType": "Observation",
            "id": "seen",
            "status": "final",
            "code": {"text": "t"},
            "performer": [{"reference": "Patient/ada"}],
        }
    )
    return server


def found(server: Server, url: str, mode: str = "match") -> list[str]:
    answer = server.client.get(url)
    assert answer.status_code == 200, answer.text
    return [it["resource"]["id"] for it in answer.json().get("entry", []) if it["search"]["mode"] == mode]


def test_a_compartment_holds_what_names_the_patient_by_any_of_its_parameters(ward: Server) -> None:
    assert sorted(found(ward, "/Patient/ada/Observation")) == ["ada-0", "ada-1", "ada-2", "seen"]
    assert found(ward, "/Patient/ada/Observation?code=b") == ["ada-2"]
    assert found(ward, "/Patient/none/Observation") == []
    assert ward.client.get("/Patient/ada/Organization").status_code == 404
    assert ward.client.get("/Patient/ada/Shoe").status_code == 404
    page = ward.client.get("/Patient/ada/Observation?_count=1").json()
    (onward,) = [it["url"] for it in page["link"] if it["relation"] == "next"]
    assert "/Patient/ada/Observation?" in onward
    assert len(found(ward, onward)) == 1


def test_everything_is_the_patient_its_compartment_and_what_that_refers_to(ward: Server) -> None:
    assert found(ward, "/Patient/ada/$everything") == ["ada", "ada-0", "ada-1", "ada-2", "seen"]
    assert found(ward, "/Patient/ada/$everything", "include") == ["org"]
    assert found(ward, "/Patient/ada/$everything?_type=Patient") == ["ada"]
    assert ward.client.get("/Patient/none/$everything").status_code == 404
    assert ward.client.get("/Patient/ada/$everything?code=1").status_code == 400
    assert ward.client.get("/Patient/ada/$everything?_type=Organization").status_code == 400


def test_everything_comes_page_by_page(ward: Server) -> None:
    url: str | None = "/Patient/ada/$everything?_count=2"
    matches: list[str] = []
    while url:
        page = ward.client.get(url).json()
        matches += [it["resource"]["id"] for it in page["entry"] if it["search"]["mode"] == "match"]
        url = next((it["url"] for it in page["link"] if it["relation"] == "next"), None)
    assert matches == ["ada", "ada-0", "ada-1", "ada-2", "seen"]


def test_everything_since_a_time_is_what_was_stored_since(ward: Server) -> None:
    at = ward.client.get("/Observation/ada-2").json()["meta"]["lastUpdated"]
    assert found(ward, f"/Patient/ada/$everything?_since={at}") == ["ada-2", "seen"]


def test_the_disclosure_of_everything_is_recorded_for_the_patient(ward: Server) -> None:
    before = len(ward.audited())
    ward.client.get("/Patient/ada/$everything?_count=1")
    (event,) = ward.audited()[before:]
    assert "Patient/ada" in str(event["entity"])


def test_the_last_of_each_code_are_returned(ward: Server) -> None:
    assert sorted(found(ward, "/Observation/$lastn?patient=ada")) == ["ada-1", "ada-2"]
    assert sorted(found(ward, "/Observation/$lastn?patient=ada&max=2")) == ["ada-0", "ada-1", "ada-2"]
    assert found(ward, "/Observation/$lastn?subject=Patient/bob&code=a") == ["bob-1"]
    assert ward.client.get("/Observation/$lastn?code=a").status_code == 400
    assert ward.client.get("/Observation/$lastn?patient=ada&max=x").status_code == 400
