"""Stored Conditions and medications become facts: what was in force, from when, until when, and since when known."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir_adapter.admission import admission_of
from fhir_adapter.stated import patient_statements, statement_facts
from inference.contract import Admission, Fact, FactKind

from .examples import patient
from .harness import Server

KNOWN = datetime(2026, 1, 15, 12, tzinfo=UTC)
ICD = "http://hl7.org/fhir/sid/icd-10"
ATC = "http://www.whocc.no/atc"
ABOUT = {"subject": {"reference": "Patient/p1"}}


def concept(system: str, *codes: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code} for code in codes]}


def status(name: str, code: str) -> dict[str, Any]:
    return concept(f"http://terminology.hl7.org/CodeSystem/{name}", code)


def condition(clinical: str | None = "active", **more: Any) -> dict[str, Any]:
    stated = {} if clinical is None else {"clinicalStatus": status("condition-clinical", clinical)}
    return {"resourceType": "Condition", "code": concept(ICD, "E11.9")} | ABOUT | stated | more


def order(state: str = "active", **more: Any) -> dict[str, Any]:
    drug = {} if "medicationReference" in more else {"medicationCodeableConcept": concept(ATC, "C01CA03")}
    return {"resourceType": "MedicationRequest", "status": state, "intent": "order"} | drug | ABOUT | more


def taken(state: str = "active", **more: Any) -> dict[str, Any]:
    drug = {"medicationCodeableConcept": concept(ATC, "C01CA03")}
    return {"resourceType": "MedicationStatement", "status": state} | drug | ABOUT | more


def given(state: str = "completed", **more: Any) -> dict[str, Any]:
    drug = {"medicationCodeableConcept": concept(ATC, "C01CA03")}
    when = {} if "effectivePeriod" in more else {"effectiveDateTime": "2026-01-15T10:00:00Z"}
    return {"resourceType": "MedicationAdministration", "status": state} | drug | when | ABOUT | more


def facts(resource: dict[str, Any], **more: Any) -> list[Fact]:
    return list(statement_facts(resource, source="X/1/_history/1", known=KNOWN, wanted=lambda *_: True, **more))


def test_a_condition_is_a_fact_from_its_onset_on_and_known_since_it_was_recorded() -> None:
    (fact,) = facts(condition(onsetDateTime="2019-03", recordedDate="2019-04-02"))
    assert fact == Fact(
        system=ICD,
        code="E11.9",
        value=None,
        value_system=None,
        unit=None,
        effective=datetime(2019, 3, 1, tzinfo=UTC),
        issued=datetime(2019, 4, 3, tzinfo=UTC),
        source="X/1/_history/1",
        known=KNOWN,
        kind="condition",
        status="confirmed",
        until=None,
    )


def test_what_a_resource_does_not_date_is_dated_by_its_storing() -> None:
    (fact,) = facts(condition())
    assert (fact.effective, fact.issued) == (KNOWN, KNOWN)
    (fact,) = facts(condition(recordedDate="2026-01-15"))  # the day is not over
    assert (fact.effective, fact.issued) == (datetime(2026, 1, 15, tzinfo=UTC), KNOWN)


@pytest.mark.parametrize(
    ("resource", "until"),
    [
        (condition("active"), None),
        (condition("recurrence"), None),
        (condition("relapse"), None),
        (condition(None), None),
        (condition("resolved"), KNOWN),
        (condition("remission"), KNOWN),
        (condition("inactive", abatementDateTime="2025-12-24"), datetime(2025, 12, 25, tzinfo=UTC)),
        (condition(None, abatementString="long ago"), KNOWN),
        (condition("active", abatementPeriod={"end": "2027"}), datetime(2028, 1, 1, tzinfo=UTC)),
        (order("active"), None),
        (order("on-hold"), KNOWN),
        (order("completed"), KNOWN),
        (order("stopped"), KNOWN),
        (taken("active"), None),
        (taken("active", effectiveDateTime="2026-01-01"), None),
        (taken("active", effectivePeriod={"end": "2026-01-14T10:00:00Z"}), datetime(2026, 1, 14, 10, 0, 1, tzinfo=UTC)),
        (taken("completed", effectiveDateTime="2026-01-01"), datetime(2026, 1, 2, tzinfo=UTC)),
        (taken("stopped"), KNOWN),
        (given("completed"), datetime(2026, 1, 15, 10, 0, 1, tzinfo=UTC)),
        (given("in-progress", effectivePeriod={"start": "2026-01-15T10:00:00Z"}), None),
    ],
)
def test_what_is_in_force_ends_when_that_is_stated_and_else_when_it_was_stored(
    resource: dict[str, Any], until: datetime | None
) -> None:
    assert [fact.until for fact in facts(resource)] == [until]


@pytest.mark.parametrize(
    "resource",
    [
        condition(verificationStatus=status("condition-ver-status", "refuted")),
        condition(None, verificationStatus=status("condition-ver-status", "entered-in-error")),
        condition(meta={"security": [{"code": "HTEST"}]}),
        condition(code={"text": "diabetes"}),
        order(intent="plan"),
        order(doNotPerform=True),
        *(order(state) for state in ("draft", "cancelled", "entered-in-error", "unknown")),
        *(taken(state) for state in ("intended", "not-taken", "entered-in-error", "unknown")),
        *(given(state) for state in ("not-done", "entered-in-error", "unknown")),
        order(medicationReference={"reference": "Medication/unknown"}),
    ],
)
def test_what_is_refuted_planned_or_not_taken_states_nothing(resource: dict[str, Any]) -> None:
    assert facts(resource) == []


@pytest.mark.parametrize("verification", ["provisional", "differential", "unconfirmed", "confirmed"])
def test_how_sure_a_condition_is_goes_with_it(verification: str) -> None:
    (fact,) = facts(condition(verificationStatus=status("condition-ver-status", verification)))
    assert fact.status == verification


def test_a_medication_is_read_where_the_resource_refers_to() -> None:
    drug = {"resourceType": "Medication", "id": "m", "code": concept(ATC, "C01CA03")}
    contained = order(contained=[drug], medicationReference={"reference": "#m"})
    referred = order(medicationReference={"reference": "Medication/m"})
    for found in (facts(contained), facts(referred, medication_of={"Medication/m": drug}.get)):
        assert [(fact.system, fact.code, fact.kind) for fact in found] == [(ATC, "C01CA03", "medication-request")]


def stated(server: Server, *kinds: Any, most: int = 100) -> list[str] | None:
    with server.database.read() as connection:
        found = patient_statements(connection, server.store, "Patient/p1", kinds, lambda _, code: code[0] in "EC", most)
    return None if found is None else [f"{fact.source} {fact.code}" for fact in found]


def test_of_a_patient_the_newest_versions_of_the_kinds_and_codes_that_are_asked_for_are_read(server: Server) -> None:
    other = {"subject": {"reference": "Patient/p2"}}
    drug = {"resourceType": "Medication", "id": "m", "code": concept(ATC, "C01CA03")}
    for resource in (
        condition(id="c"),
        condition(id="c", recordedDate="2026-01-01"),
        condition(id="another", code=concept(ICD, "J18.9")),
        condition(id="other") | other,
        condition(id="gone"),
        drug,
        order(id="o", medicationReference={"reference": "Medication/m"}),
        given(id="g"),
    ):
        assert server.put(resource).status_code in {200, 201}
    server.client.delete("/Condition/gone")
    assert stated(server, "condition") == ["Condition/c/_history/2 E11.9"]
    assert stated(server, "condition", "medication-request") == [
        "Condition/c/_history/2 E11.9",
        "MedicationRequest/o/_history/1 C01CA03",
    ]
    assert stated(server) == []
    assert stated(server, "condition", most=1) is None


def test_the_question_never_walks_through_the_resources_of_others(server: Server) -> None:
    server.put(condition(id="c"))
    asked: list[str] = []
    with server.database.read() as connection:
        driver: Any = connection.connection.dbapi_connection
        driver.set_trace_callback(asked.append)
        kinds: tuple[FactKind, ...] = ("condition", "medication-request", "medication-administration")
        assert patient_statements(connection, server.store, "Patient/p1", kinds, lambda *_: True, 100)
        driver.set_trace_callback(None)
        plans = [step.detail for text in asked for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    assert plans
    for plan in plans:
        assert not re.search(r"SCAN resource_|resource_\w+ USING .*\(type=\?\)|AUTOMATIC", plan), plan


@pytest.fixture
def encounters(server: Server) -> Server:
    server.put(patient())
    return server


def encounter(name: str, start: str | None, state: str = "in-progress", **more: Any) -> dict[str, Any]:
    period = {} if start is None else {"period": {"start": start}}
    if "end" in more:
        period["period"]["end"] = more.pop("end")
    kind = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": more.pop("kind", "IMP")}
    return {"resourceType": "Encounter", "id": name, "status": state, "class": kind} | ABOUT | period | more


def admission(server: Server, at: datetime = KNOWN) -> Admission | None:
    with server.database.read() as connection:
        return admission_of(connection, server.store, "Patient/p1", at)


def test_the_admission_is_the_start_of_the_stay_that_a_patient_is_in(encounters: Server) -> None:
    assert admission(encounters) is None
    encounters.put(encounter("past", "2025-01-01T08:00:00Z", "finished", end="2025-01-09T08:00:00Z"))
    encounters.put(encounter("clinic", "2026-01-15T08:00:00Z", kind="AMB"))
    encounters.put(encounter("planned", "2026-01-20T08:00:00Z", "planned"))
    encounters.put(encounter("undated", None))
    assert admission(encounters) is None
    encounters.put(encounter("emergency", "2026-01-13T20:00:00Z", kind="EMER"))
    encounters.put(encounter("stay", "2026-01-14T08:00:00Z"))
    assert admission(encounters) == Admission(
        start=datetime(2026, 1, 14, 8, tzinfo=UTC), source="Encounter/stay/_history/1"
    )
    assert admission(encounters, datetime(2026, 1, 14, 7, tzinfo=UTC)) == Admission(
        start=datetime(2026, 1, 13, 20, tzinfo=UTC), source="Encounter/emergency/_history/1"
    )


def test_a_stay_that_has_just_ended_is_read_at_the_discharge(encounters: Server) -> None:
    encounters.put(encounter("stay", "2026-01-14T08:00:00Z", "finished", end="2026-01-15T11:00:00Z"))
    assert admission(encounters) is not None
    assert admission(encounters, KNOWN + timedelta(days=1)) is None


def test_the_admission_names_the_version_since_which_its_start_stands(encounters: Server) -> None:
    """A move to another ward is no other admission; a corrected start is one."""
    encounters.put(encounter("stay", "2026-01-14T08:00:00Z"))
    encounters.put(encounter("stay", "2026-01-14T09:00:00Z"))
    encounters.put(encounter("stay", "2026-01-14T09:00:00Z", "onleave"))
    found = admission(encounters)
    assert found is not None
    assert found.source == "Encounter/stay/_history/2"
