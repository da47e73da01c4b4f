"""Delivery to the hospital's EHR, over real HTTP to a real FHIR server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from fhir_adapter.ehr.upstream import Upstream
from fhir_adapter.results import for_ehr, resources_for
from fhir_adapter.testing import StandInEhr
from kernel.errors import Category, Problem

from .examples import patient
from .outcomes import CASES, SUBJECT

BASE = "https://us.example.org/fhir"


@pytest.fixture
def ehr(tmp_path: Path) -> Iterator[StandInEhr]:
    with StandInEhr(tmp_path / "ehr") as running:
        system, value = SUBJECT.identifier or ("", "")
        running.put(patient("theirs", identifier=[{"system": system, "value": value}]))
        yield running


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client() as opened:
        yield opened


def bundle(case: str) -> bytes:
    outcome, context = CASES[case]
    return orjson.dumps(for_ehr(resources_for(outcome, context), outcome.subject, BASE))


@pytest.mark.parametrize("case", CASES)
def test_a_result_arrives_whole_and_about_their_patient(ehr: StandInEhr, client: httpx.Client, case: str) -> None:
    receipt = Upstream(ehr.url, client).send(bundle(case))
    (observation,) = ehr.received("Observation")
    assert observation["subject"]["reference"] == "Patient/theirs"
    (provenance,) = ehr.received("Provenance")
    (device,) = ehr.received("Device")
    assert f"Observation/{observation['id']}" in {it["reference"] for it in provenance["target"]}
    assert provenance["agent"][0]["who"]["reference"] == f"Device/{device['id']}"
    assert f"201 Observation/{observation['id']}/_history/1" in receipt


def test_a_delivery_that_is_repeated_changes_nothing(ehr: StandInEhr, client: httpx.Client) -> None:
    upstream = Upstream(ehr.url, client)
    upstream.send(bundle("risk"))
    before = [ehr.received(kind) for kind in ("Observation", "RiskAssessment", "Provenance", "Device")]
    assert upstream.send(bundle("risk")).count("200 ") == 5
    assert [ehr.received(kind) for kind in ("Observation", "RiskAssessment", "Provenance", "Device")] == before


def test_four_concurrent_deliveries_make_one_result(ehr: StandInEhr, client: httpx.Client) -> None:
    upstream = Upstream(ehr.url, client)
    work = [bundle(case) for case in CASES for _ in range(6)]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(upstream.send, work))
    counts = {kind: len(ehr.received(kind)) for kind in ("Observation", "RiskAssessment", "DiagnosticReport", "Device")}
    assert counts == {"Observation": 4, "RiskAssessment": 2, "DiagnosticReport": 2, "Device": 2}
    assert ehr.requests == len(work)


def test_a_check_returns_the_fhir_version(ehr: StandInEhr, client: httpx.Client) -> None:
    assert Upstream(ehr.url + "/", client).check() == "4.0.1"


def test_a_patient_the_ehr_does_not_know_is_a_conflict_for_a_person(tmp_path: Path, client: httpx.Client) -> None:
    with StandInEhr(tmp_path / "empty") as ehr, pytest.raises(Problem) as refusal:
        Upstream(ehr.url, client).send(bundle("risk"))
    assert refusal.value.category is Category.CONFLICT


def answering(status: int, body: Any = None) -> Upstream:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=body or {}))
    return Upstream("http://ehr.example.org/fhir", httpx.Client(transport=transport))


@pytest.mark.parametrize(
    ("status", "category"),
    [
        (400, Category.INCORRECT),
        (401, Category.FORBIDDEN),
        (403, Category.FORBIDDEN),
        (404, Category.NOT_FOUND),
        (409, Category.CONFLICT),
        (412, Category.CONFLICT),
        (422, Category.INCORRECT),
        (429, Category.BUSY),
        (500, Category.UNAVAILABLE),
        (502, Category.UNAVAILABLE),
        (503, Category.UNAVAILABLE),
        (200, Category.UNAVAILABLE),
        (302, Category.NOT_FOUND),
        (407, Category.FORBIDDEN),
    ],
)
def test_an_answer_decides_whether_to_try_again(status: int, category: Category) -> None:
    with pytest.raises(Problem) as refusal:
        answering(status).send(bundle("risk"))
    assert refusal.value.category is category


def test_an_answer_for_fewer_entries_is_no_receipt() -> None:
    with pytest.raises(Problem) as refusal:
        answering(200, {"entry": [{"response": {"status": "201"}}]}).send(bundle("risk"))
    assert refusal.value.category is Category.UNAVAILABLE


def test_an_unreachable_server_is_a_problem_that_is_retried(client: httpx.Client) -> None:
    for act in (lambda it: it.send(b"{}"), lambda it: it.check()):
        with pytest.raises(Problem) as refusal:
            act(Upstream("http://127.0.0.1:9/fhir", client))
        assert refusal.value.category is Category.UNAVAILABLE


def test_a_server_that_is_not_r4_is_unsupported() -> None:
    for body in ({}, {"fhirVersion": "5.0.0"}, []):
        with pytest.raises(Problem) as refusal:
            answering(200, body).check()
        assert refusal.value.category is Category.UNSUPPORTED
