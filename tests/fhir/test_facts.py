"""Stored Observations become facts: what was measured, when it was true, when it became known."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from fhir_adapter.facts import Dates, crowded_codes, observation_facts, patient_facts, subject
from fhir_adapter.store.document import encode, exact_values
from inference.contract import Fact

from .examples import observation, patient
from .harness import Server

KNOWN = datetime(2026, 1, 15, 12, tzinfo=UTC)
AT_11 = datetime(2026, 1, 15, 11, tzinfo=UTC)
LOINC = "http://loinc.org"


def facts(resource: dict[str, Any], dates: Dates = Dates.UNTIMED) -> list[Fact]:
    read = exact_values(encode(resource))
    return list(observation_facts(read, source="Observation/1/_history/1", known=KNOWN, dates=dates))


def without(resource: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in resource.items() if key not in names}


def coded(*codes: str) -> dict[str, Any]:
    return {"coding": [{"system": LOINC, "code": code} for code in codes]}


def test_a_measurement_is_a_fact_with_its_digits_unit_and_times() -> None:
    (fact,) = facts(observation(Decimal("72.50")))
    assert fact == Fact(
        system=LOINC,
        code="8867-4",
        value=Decimal("72.50"),
        value_system=None,
        unit="/min",
        effective=AT_11,
        issued=KNOWN,
        source="Observation/1/_history/1",
        known=KNOWN,
    )
    assert str(fact.value) == "72.50"


def test_issued_is_when_it_became_known() -> None:
    (fact,) = facts(observation(issued="2026-01-15T11:30:00Z"))
    assert fact.issued == datetime(2026, 1, 15, 11, 30, tzinfo=UTC)


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled", "registered"])
def test_an_observation_that_states_nothing_is_not_a_fact(status: str) -> None:
    assert facts(observation(status=status)) == []


@pytest.mark.parametrize("status", ["preliminary", "final", "amended", "corrected"])
def test_a_stated_value_is_a_fact(status: str) -> None:
    assert len(facts(observation(status=status))) == 1


def test_a_value_of_an_unknown_status_says_that_it_has_none() -> None:
    (fact,) = facts(observation(status="unknown"))
    assert fact.unusable == "unstated"


@pytest.mark.parametrize(
    ("resource", "why"),
    [
        (observation(valueQuantity={"value": 5, "comparator": "<"}), "unreadable"),
        (observation(valueQuantity={"unit": "/min"}), "unreadable"),
        (without(observation(dataAbsentReason={"text": "x"}), "valueQuantity"), "absent"),
        (without(observation(), "valueQuantity"), "unreadable"),
        (without(observation(), "effectiveDateTime"), "untimed"),
        (without(observation(effectivePeriod={"start": "2026-01-15T11:00:00Z"}), "effectiveDateTime"), "untimed"),
    ],
)
def test_a_statement_that_cannot_be_used_is_a_fact_that_says_why(resource: dict[str, Any], why: str) -> None:
    (fact,) = facts(resource)
    assert fact.unusable == why


def test_an_observation_without_a_code_is_not_a_fact() -> None:
    assert facts(observation(code={"text": "pulse"})) == []


@pytest.mark.parametrize("moment", ["2026", "2026-01", "2026-01-15"])
def test_a_date_without_a_time_is_untimed_unless_the_caller_reads_it_as_its_first_instant(moment: str) -> None:
    (untimed,) = facts(observation(effectiveDateTime=moment))
    assert (untimed.unusable, untimed.effective) == ("untimed", KNOWN)
    (fact,) = facts(observation(effectiveDateTime=moment), Dates.EARLIEST)
    assert fact.effective == datetime(*map(int, (f"{moment}-01-01").split("-")[:3]), tzinfo=UTC)
    assert fact.unusable is None


def test_a_period_counts_from_its_end() -> None:
    period = {"start": "2026-01-15T09:00:00Z", "end": "2026-01-15T12:00:00+01:00"}
    (fact,) = facts(without(observation(effectivePeriod=period), "effectiveDateTime"))
    assert fact.effective == AT_11


def test_components_are_facts_of_their_own() -> None:
    part = {"code": coded("8480-6"), "valueQuantity": {"value": 120, "unit": "mmHg"}}
    absent = {"code": coded("8462-4"), "dataAbsentReason": {"text": "x"}}
    panel = without(observation(code=coded("85354-9"), component=[part, absent]), "valueQuantity")
    assert [(fact.code, fact.value, fact.unit, fact.unusable) for fact in facts(panel)] == [
        ("8480-6", Decimal(120), "mmHg", None),
        ("8462-4", None, None, "absent"),
    ]


def test_each_coding_of_the_question_and_of_the_answer_counts() -> None:
    answer = {"coding": [{"system": LOINC, "code": "LA1"}, {"system": "http://snomed.info/sct", "code": "248234008"}]}
    read = facts(without(observation(code=coded("a", "b"), valueCodeableConcept=answer), "valueQuantity"))
    assert [(fact.code, fact.value, fact.value_system) for fact in read] == [
        ("a", "LA1", LOINC),
        ("b", "LA1", LOINC),
        ("a", "248234008", "http://snomed.info/sct"),
        ("b", "248234008", "http://snomed.info/sct"),
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"valueCodeableConcept": {"text": "Alert"}}, "Alert"),
        ({"valueString": "Alert"}, "Alert"),
        ({"valueInteger": 3}, Decimal(3)),
        ({"valueBoolean": True}, "true"),
    ],
)
def test_answers_in_other_forms_are_read(value: dict[str, Any], expected: Any) -> None:
    (fact,) = facts(without(observation(), "valueQuantity") | value)
    assert fact.value == expected


def known(server: Server, *codes: str, since: datetime) -> list[tuple[str, Any]]:
    with server.database.read() as connection:
        return [(it.source, it.value) for it in patient_facts(connection, server.store, "Patient/p1", codes, since)]


def test_the_question_never_walks_through_the_resources_of_others(server: Server) -> None:
    """The plan of each statement, without statistics: every table is entered by the key of one resource or patient."""
    server.put(observation(70, id="a"))
    asked: list[str] = []
    with server.database.read() as connection:
        driver: Any = connection.connection.dbapi_connection
        driver.set_trace_callback(asked.append)
        assert patient_facts(connection, server.store, "Patient/p1", ["8867-4", "9279-1"], AT_11)
        crowded_codes(connection, "Patient/p1", ["8867-4"], AT_11, most=10)
        driver.set_trace_callback(None)
        plans = [step.detail for text in asked for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    contents = [plan for plan in plans if re.search(r"SEARCH resource_versions USING INDEX", plan)]
    assert len(contents) == 1
    for plan in plans:
        assert not re.search(r"SCAN resource_|resource_\w+ USING .*\(type=\?\)|AUTOMATIC", plan), plan


def test_a_patients_facts_are_read_newest_first_within_the_window(server: Server) -> None:
    part = {"code": coded("8867-4"), "valueQuantity": {"value": 60}}
    server.put(observation(70, id="old", effectiveDateTime="2026-01-14T11:00:00Z"))
    server.put(observation(71, id="a", effectiveDateTime="2026-01-15T10:00:00Z"))
    server.put(without(observation(id="b", code=coded("x"), component=[part]), "valueQuantity"))
    server.put(observation(73, id="other", subject={"reference": "Patient/p2"}))
    server.put(observation(74, id="else", code=coded("9999-9")))
    server.put(observation(75, id="gone"))
    server.client.delete("/Observation/gone")
    since = datetime(2026, 1, 15, tzinfo=UTC)
    assert known(server, "8867-4", since=since) == [
        ("Observation/b/_history/1", Decimal(60)),
        ("Observation/a/_history/1", Decimal(71)),
    ]
    assert known(server, f"{LOINC}|8867-4", since=since) == known(server, "8867-4", since=since)
    assert known(server, "urn:other|8867-4", since=since) == []
    assert known(server, since=since) == []


def test_only_the_newest_version_of_a_corrected_observation_is_a_fact(server: Server) -> None:
    server.put(observation(70, id="a"))
    server.put(observation(71, id="a", status="corrected"))
    assert known(server, "8867-4", since=AT_11) == [("Observation/a/_history/2", Decimal(71))]


def test_a_subject_is_who_the_patient_resource_says(server: Server) -> None:
    numbers = [
        {"system": "urn:ssn", "value": "1"},
        {"system": "urn:mrn", "value": "2", "type": {"coding": [{"code": "MR"}]}},
    ]
    server.put(patient(identifier=numbers))
    with server.database.read() as connection:
        read = subject(connection, server.store, "Patient/p1")
    assert (read.birth_date, read.sex, read.identifier) == (date(1950, 2, 3), "female", ("urn:mrn", "2"))


def test_unknown_properties_of_a_subject_are_none(server: Server) -> None:
    server.put(patient(birthDate="1950", identifier=[{"value": "1"}]))
    with server.database.read() as connection:
        partly = subject(connection, server.store, "Patient/p1")
        unknown = subject(connection, server.store, "Patient/none")
    assert (partly.birth_date, partly.birth_period, partly.identifier) == (None, "1950", None)
    assert (unknown.reference, unknown.birth_date, unknown.sex) == ("Patient/none", None, None)
