"""Patients of a real EHR's shape, sent as their Bundles; every answer of a search is compared with a plain filter.

The filters read the stored resources as JSON and know nothing of the search. The first two Bundles are refused rightly:
one is of an earlier version of FHIR, and one names resources that neither it nor anything else has.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from benchmarks.patient_queries import MAY_BE_EMPTY, QUERIES, Json, about, codes, effective, quantity, span
from kernel.tables import resource_versions

from .harness import Server, running
from .test_send import send

REFUSED = {"r4_Andreas188": "Bundle.entry[4]", "r4_practitionerInformation": "a reference names no entry"}


@pytest.fixture(scope="module")
def ehr(tmp_path_factory: pytest.TempPathFactory, empty_database: Path, shared: Path) -> Iterator[Server]:
    """A server that was sent all Bundles by the command."""
    bundles = shared / "data" / "deid" / "fhir"
    if not bundles.is_dir():
        pytest.skip("the Bundles of Synthea are not beside this checkout")
    folder = tmp_path_factory.mktemp("synthea")
    shutil.copy(empty_database, folder / "fhir.db")
    with running(folder, body_seconds=60.0) as started:
        sent = send(started, bundles)
        answers = dict(line.rsplit(": ", 1) for line in sent.stdout.splitlines())
        refused = {name for name, status in answers.items() if not status.startswith("200")}
        assert (sent.returncode, len(answers)) == (1, 10), sent.stderr
        assert {next(it for it in REFUSED if name.startswith(it)) for name in refused} == set(REFUSED)
        started.client.timeout = 60
        yield started


@pytest.fixture(scope="module")
def stored(ehr: Server) -> dict[str, list[Json]]:
    """Every stored resource by its type, read from the table of versions."""
    with ehr.database.read() as connection:
        contents = connection.execute(select(resource_versions.c.content)).scalars().all()
    found: dict[str, list[Json]] = {}
    for content in contents:
        resource = orjson.loads(content)
        found.setdefault(resource["resourceType"], []).append(resource)
    return found


def test_the_bundles_are_stored_whole(stored: dict[str, list[Json]], shared: Path) -> None:
    sent: dict[str, int] = {}
    for file in (shared / "data" / "deid" / "fhir").glob("*.json"):
        for entry in orjson.loads(file.read_bytes())["entry"] if not file.name.startswith(tuple(REFUSED)) else ():
            sent[entry["resource"]["resourceType"]] = sent.get(entry["resource"]["resourceType"], 0) + 1
    assert {kind: len(found) for kind, found in stored.items()} == sent
    assert sum(sent.values()) > 3000
    assert "urn:uuid:" not in orjson.dumps([it.get("subject", {}) for it in stored["Observation"]]).decode()


def found(ehr: Server, query: str, count: int = 500) -> list[Json]:
    """Return the matches of all pages."""
    url: str | None = f"/{query}{'&' if '?' in query else '?'}_count={count}"
    matches: list[Json] = []
    while url is not None:
        answer = ehr.client.get(url)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        matches += [it["resource"] for it in page.get("entry", ()) if it["search"]["mode"] == "match"]
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    return matches


def names(resources: Any) -> list[str]:
    return sorted(f"{it['resourceType']}/{it['id']}" for it in resources)


@pytest.mark.parametrize("query", QUERIES)
def test_a_search_finds_what_a_plain_filter_finds(ehr: Server, stored: dict[str, list[Json]], query: str) -> None:
    expected = [it for it in stored[query.partition("?")[0]] if QUERIES[query](it)]
    assert expected or query in MAY_BE_EMPTY
    assert names(found(ehr, query)) == names(expected)


def test_what_is_about_each_patient_is_found_by_every_way_of_saying_it(
    ehr: Server, stored: dict[str, list[Json]]
) -> None:
    for patient in stored["Patient"]:
        name, family = patient["id"], patient["name"][0]["family"]
        for kind in ("Observation", "Condition", "MedicationRequest", "Procedure", "Encounter", "DiagnosticReport"):
            expected = names(it for it in stored[kind] if about(name)(it))
            for query in (f"patient={name}", f"subject=Patient/{name}", f"patient=Patient/{name}"):
                assert names(found(ehr, f"{kind}?{query}")) == expected
            assert names(found(ehr, f"{kind}?subject:Patient.family:exact={family}")) == expected
            assert names(found(ehr, f"{kind}?patient.family:exact={family}")) == expected
            if kind != "DiagnosticReport":
                assert names(found(ehr, f"Patient/{name}/{kind}")) == expected


def test_a_chain_through_two_references(ehr: Server, stored: dict[str, list[Json]]) -> None:
    women = {f"Patient/{it['id']}" for it in stored["Patient"] if it["gender"] == "female"}
    visits = {f"Encounter/{it['id']}" for it in stored["Encounter"] if it["subject"]["reference"] in women}
    expected = [it for it in stored["Observation"] if it.get("encounter", {}).get("reference") in visits]
    assert expected
    assert names(found(ehr, "Observation?encounter.patient.gender=female")) == names(expected)


def test_patients_by_what_names_them(ehr: Server, stored: dict[str, list[Json]]) -> None:
    tall = {it["subject"]["reference"] for it in stored["Observation"] if (quantity(it, "cm") or 0) > 175}
    expected = [it for it in stored["Patient"] if f"Patient/{it['id']}" in tall]
    assert expected
    query = "Patient?_has:Observation:patient:code-value-quantity=8302-2$gt175"
    assert names(found(ehr, query)) == names(expected)
    vaccinated = {it["patient"]["reference"] for it in stored["Immunization"] if "113" in codes(it["vaccineCode"])}
    expected = [it for it in stored["Patient"] if f"Patient/{it['id']}" in vaccinated]
    assert names(found(ehr, "Patient?_has:Immunization:patient:vaccine-code=113")) == names(expected)


def test_what_is_included_is_what_the_matches_refer_to(ehr: Server, stored: dict[str, list[Json]]) -> None:
    page = ehr.client.get(
        "/MedicationRequest?_count=1000&_include=MedicationRequest:patient&_include=MedicationRequest:encounter"
    )
    included = names(it["resource"] for it in page.json()["entry"] if it["search"]["mode"] == "include")
    referred = {it[name]["reference"] for it in stored["MedicationRequest"] for name in ("subject", "encounter")}
    assert included == sorted(referred)
    patient = stored["Patient"][0]["id"]
    page = ehr.client.get(f"/Patient?_id={patient}&_revinclude=Condition:patient&_revinclude=Immunization:patient")
    included = names(it["resource"] for it in page.json()["entry"] if it["search"]["mode"] == "include")
    assert included == names(it for kind in ("Condition", "Immunization") for it in stored[kind] if about(patient)(it))


@pytest.mark.parametrize("sign", ["", "-"])
def test_a_search_is_sorted_on_every_page(ehr: Server, stored: dict[str, list[Json]], sign: str) -> None:
    matches = found(ehr, f"Observation?_sort={sign}date", count=97)
    times = [span(effective(it))[0] for it in matches]
    assert times == sorted(times, reverse=sign == "-")
    assert names(matches) == names(stored["Observation"])
    end = max if sign else min  # of several names the first one of the order counts
    families = [end(one["family"].lower() for one in it["name"]) for it in found(ehr, f"Patient?_sort={sign}family", 3)]
    assert families == sorted(families, reverse=sign == "-")


def test_the_total_is_that_of_all_pages(ehr: Server, stored: dict[str, list[Json]]) -> None:
    expected = sum("laboratory" in codes(it["category"]) for it in stored["Observation"])
    page = ehr.client.get("/Observation?category=laboratory&_total=accurate&_count=10").json()
    assert (page["total"], len(page["entry"])) == (expected, 10)
    everything = ehr.client.get("/Observation?_summary=count").json()
    assert everything["total"] == len(stored["Observation"])
