"""What this server itself writes conforms to the profiles that it claims: BALP and AI Transparency."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fhir_adapter.results import resources_for
from fhir_adapter.store import document
from fhir_adapter.validation.profiles import Profiles
from fhir_adapter.validation.report import Finding, report
from fhir_adapter.validation.structure import Checks
from fhir_adapter.validation.table import r4
from privacy import balp
from privacy.principal import Principal

from .outcomes import CASES

AT = datetime(2026, 3, 1, 8, 30, 15, 250000, tzinfo=UTC)
WHO = Principal(client="epic", client_address="10.0.0.7", server_address="10.0.0.1", request_id="r1")


@pytest.fixture(scope="module")
def profiles() -> Profiles:
    return Profiles(r4())


OF_BALP = {".entity[1].type", ".entity[2].type", ".subtype[0]"}
"""BALP demands codes of its own here (XrequestId, disclose), beyond the value sets to which R4 binds extensibly."""


def said(profiles: Profiles, resource: Any) -> list[Finding]:
    """Return errors and warnings."""
    found = report(Checks(r4()), profiles, document.of(resource).plain, ())
    return [it for it in found if it.severity != "information"]


def events() -> list[balp.Event]:
    with_patient: dict[str, Any] = {"entity": "Observation/1/_history/2", "patient": "Patient/abc", "at": AT}
    without: dict[str, Any] = with_patient | {"patient": None}
    made = [
        build(WHO, **what)
        for build in (balp.created, balp.updated, balp.deleted, balp.read)
        for what in (with_patient, without)
    ]
    return [
        *made,
        balp.queried(WHO, query="Observation?subject=x", patient="Patient/abc", at=AT),
        balp.queried(WHO, query="Observation?subject=x", patient=None, at=AT),
        balp.received(WHO, **with_patient, what="HL7 v2 message"),
        balp.disclosed(WHO, **with_patient, destination="EHR", destination_address="http://ehr/fhir"),
    ]


@pytest.mark.parametrize("event", events(), ids=lambda it: it["meta"]["profile"][0].rsplit(".", 1)[-1])
def test_an_audit_event_conforms_to_the_balp_profile_that_it_claims(profiles: Profiles, event: Any) -> None:
    found = said(profiles, event)
    assert [it for it in found if it.severity == "error"] == []
    assert {it.path for it in found} <= OF_BALP


def test_an_audit_event_without_what_balp_demands_does_not_conform(profiles: Profiles) -> None:
    event = balp.created(WHO, entity="Observation/1", patient="Patient/abc", at=AT)
    for part in ("entity", "agent"):
        shorter = event | {part: event[part][1:]}
        assert ("error", f".{part}") in [(it.severity, it.path) for it in said(profiles, shorter)]


@pytest.mark.parametrize("case", CASES)
def test_a_result_conforms_to_the_profiles_of_ai_transparency_that_it_claims(profiles: Profiles, case: str) -> None:
    made = resources_for(*CASES[case])
    claimed = {url.rsplit("/", 1)[-1] for it in made for url in it.get("meta", {}).get("profile", ())}
    assert {"AI-Device", "AI-ModelCard", "AI-Provenance"} <= claimed
    for resource in made:
        assert said(profiles, resource) == [], resource["resourceType"]
    (card,) = [it for it in made if it["resourceType"] == "DocumentReference"]
    assert [it["coding"][0]["system"].rsplit("/", 1)[-1] for it in (card["type"], *card["category"])] == [
        *("AIinputsCS", "AIinputsCS")  # the guide has one code system for both
    ]


def test_a_provenance_without_the_label_of_ai_does_not_conform(profiles: Profiles) -> None:
    (made,) = [it for it in resources_for(*CASES["risk"]) if it["resourceType"] == "Provenance"]
    wrong = made | {"reason": [{"text": "no code"}]}
    assert ("error", ".reason") in [(it.severity, it.path) for it in said(profiles, wrong)]
