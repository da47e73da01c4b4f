"""Conditions and medications by code sets: 1 where one is in force and known at the moment, else 0."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from inference.contract import Fact, FactKind, FactsInput
from inference.features.extract import Extraction, compile_features
from inference.features.spec import parse_features
from inference.testing import ADULT, NOW
from kernel.errors import Problem

ICD = "http://hl7.org/fhir/sid/icd-10"
ATC = "http://www.whocc.no/atc"
SETS: Mapping[str, Any] = {
    "diabetes": [{"system": ICD, "prefix": ["E10", "E11"]}, {"system": "http://snomed.info/sct", "codes": ["73211009"]}]
}
DIABETES: Mapping[str, Any] = {"name": "x", "title": "diabetes", "conditions": [{"code_set": "diabetes"}]}
VASOPRESSOR: Mapping[str, Any] = {
    "name": "x",
    "title": "vasopressor",
    "medications": [{"system": ATC, "prefix": ["C01CA"]}],
}


def stated(
    code: str = "E11.9", system: str = ICD, *, hours_ago: float = 100, kind: FactKind = "condition", **more: Any
) -> Fact:
    start = NOW - timedelta(hours=hours_ago)
    return Fact(
        system=system,
        code=code,
        value=None,
        value_system=None,
        unit=None,
        effective=start,
        issued=more.pop("issued", start),
        source=f"{kind}/{code}/_history/1",
        kind=kind,
        status=more.pop("status", "confirmed"),
        **more,
    )


def extract(declared: Mapping[str, Any], *facts: Fact, **more: Any) -> Extraction:
    specs = parse_features({"features": [declared], "code_sets": SETS})
    return compile_features(specs)(FactsInput(subject=ADULT, facts=facts, at=NOW, **more))


def value(declared: Mapping[str, Any], *facts: Fact, **more: Any) -> Decimal | str | None:
    reading = extract(declared, *facts, **more).readings["x"]
    return None if reading is None else reading.value


@pytest.mark.parametrize(
    ("code", "system", "expected"),
    [
        ("E11.9", ICD, 1),
        ("E10", ICD, 1),
        ("E1", ICD, 0),
        ("I10", ICD, 0),
        ("E11.9", "urn:other", 0),
        ("73211009", "http://snomed.info/sct", 1),
        ("732110091", "http://snomed.info/sct", 0),
    ],
)
def test_a_condition_counts_by_its_system_and_code_or_prefix(code: str, system: str, expected: int) -> None:
    assert value(DIABETES, stated(code, system)) == expected


def test_without_a_statement_the_value_is_0_and_nothing_is_missing() -> None:
    found = extract(DIABETES)
    assert [(use.value, use.status, use.source) for use in found.features] == [(Decimal(0), "used", None)]


def test_the_result_rests_on_what_is_in_force() -> None:
    ended = stated("E10.1", until=NOW - timedelta(hours=1))
    found = extract(DIABETES, stated(), ended)
    assert [used.source for used in found.inputs] == ["condition/E11.9/_history/1"]
    assert found.inputs[0].effective is None  # the age of a condition is no age of a measurement


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"until": NOW - timedelta(hours=1)}, 0),
        ({"until": NOW + timedelta(hours=1)}, 1),
        ({"until": NOW}, 0),
        ({"hours_ago": -1}, 0),
        ({"issued": NOW + timedelta(hours=1)}, 0),
        ({"status": "provisional"}, 0),
        ({"status": "unconfirmed"}, 0),
    ],
)
def test_it_counts_while_it_is_in_force_known_and_confirmed(changes: Mapping[str, Any], expected: int) -> None:
    assert value(DIABETES, stated(**changes)) == expected


def test_a_status_that_is_declared_counts() -> None:
    declared = DIABETES | {"conditions": [{"code_set": "diabetes", "status": ["confirmed", "provisional"]}]}
    assert value(declared, stated(status="provisional")) == 1
    assert value(declared, stated(status="differential")) == 0


def test_a_medication_counts_in_each_way_of_stating_it_unless_some_are_declared() -> None:
    kinds: tuple[FactKind, ...] = ("medication-request", "medication-statement", "medication-administration")
    only = {"medications": [{"system": ATC, "prefix": ["C01CA"], "types": ["MedicationAdministration"]}]}
    for kind in kinds:
        drug = stated("C01CA03", ATC, kind=kind, status="")
        assert value(VASOPRESSOR, drug) == 1
        assert value(VASOPRESSOR | only, drug) == (kind == "medication-administration")
    assert value(VASOPRESSOR, stated("C01CA03", ATC)) == 0  # a condition of that code is no medication


def test_a_window_asks_whether_it_was_in_force_at_some_time_of_it() -> None:
    dose = stated("C01CA03", ATC, kind="medication-administration", hours_ago=5, until=NOW - timedelta(hours=4.9))
    assert value(VASOPRESSOR, dose) == 0
    assert value(VASOPRESSOR | {"window": {"hours": 6}}, dose) == 1
    assert value(VASOPRESSOR | {"window": {"hours": 4}}, dose) == 0
    assert value(VASOPRESSOR | {"window": {"hours": 24, "offset": 6}}, dose) == 0
    assert value(VASOPRESSOR | {"window": {"hours": 24, "offset": 3}}, dose) == 1


def test_a_condition_is_no_observation_of_the_same_code() -> None:
    measured = {
        "name": "x",
        "title": "x",
        "window": {"take": "count"},
        "missing": "nan",
        "sources": [{"code": "E11.9", "system": ICD, "unit": "1"}],
    }
    assert value(measured, stated()) is None
    number = replace(stated(), kind="observation", value=Decimal(1), unit="1")
    assert value(measured, number) == 1
    assert value(DIABETES, number) == 0


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"codes": ["E11"]}, "conditions[0].system is missing"),
        ({"system": ICD}, "conditions[0] must have either codes or prefix"),
        ({"system": ICD, "codes": ["E11"], "prefix": ["E10"]}, "conditions[0] must have either codes or prefix"),
        (
            {"system": ICD, "codes": [73211009]},
            "conditions[0].codes must be a list of texts with at least one entry; put",
        ),
        ({"system": ICD, "prefix": []}, "conditions[0].prefix must be a list of texts"),
        ({"code_set": "cancer"}, "conditions[0].code_set: cancer is not under code_sets; declared are: diabetes"),
        ({"code_set": "diabetes", "system": ICD}, "conditions[0].system is not known"),
        (
            {"code_set": "diabetes", "status": ["active"]},
            "conditions[0].status must be a list, each entry of: confirmed",
        ),
        ({"code_set": "diabetes", "types": ["Condition"]}, "conditions[0].types is not known"),
    ],
)
def test_a_wrong_code_set_is_refused_with_what_to_change(entry: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(Problem) as refused:
        extract(DIABETES | {"conditions": [entry]})
    assert refused.value.detail.startswith(f"features.yaml.features[0].{complaint}")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"conditions": []}, "conditions must not be empty"),
        ({"missing": "nan"}, "missing is not known"),  # it always has a value
        ({"window": {"offset": 1}}, "window.hours is missing"),
        ({"window": {"hours": 1, "offset": 1}}, "window.offset must be below hours"),
        ({"window": {"hours": 1, "take": "any"}}, "window.take is not known"),
        ({"medications": [{"code_set": "diabetes"}]}, "medications is not known"),
    ],
)
def test_a_wrong_feature_of_conditions_is_refused_by_its_key(changes: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(Problem) as refused:
        extract(DIABETES | changes)
    assert refused.value.detail.startswith(f"features.yaml.features[0].{complaint}")


class TestCodeSetsOfSources:
    LACTATE: Mapping[str, Any] = {
        "name": "x",
        "title": "lactate",
        "window": {"take": "last", "hours": 24},
        "missing": "nan",
        "sources": [{"code_set": "lactate", "unit": "mmol/L"}],
    }

    def specs(self, content: list[Mapping[str, Any]]) -> Any:
        return parse_features({"features": [self.LACTATE], "code_sets": {"lactate": content}})

    def test_an_entry_becomes_one_source_for_each_code_in_order(self) -> None:
        (spec,) = self.specs([{"system": "http://loinc.org", "codes": ["2524-7", "32693-4"]}])
        assert [(one.system, one.code, one.unit) for one in spec.sources] == [
            ("http://loinc.org", "2524-7", "mmol/L"),
            ("http://loinc.org", "32693-4", "mmol/L"),
        ]

    def test_a_source_needs_codes_and_no_prefix(self) -> None:
        with pytest.raises(Problem, match=r"sources\[0\].code_set: a source needs codes, and the set has a prefix"):
            self.specs([{"system": "http://loinc.org", "prefix": ["2"]}])

    def test_a_set_must_not_be_empty_and_knows_its_keys(self) -> None:
        with pytest.raises(Problem, match=r"features.yaml.code_sets.lactate must not be empty"):
            self.specs([])
        with pytest.raises(Problem, match=r"code_sets.lactate\[0\].unit is not known"):
            self.specs([{"system": "http://loinc.org", "codes": ["1"], "unit": "1"}])


@pytest.mark.parametrize(
    ("status", "declared", "expected"),
    [
        ("preliminary", ["final", "amended", "corrected"], "7"),
        ("final", ["final", "amended", "corrected"], "9"),
        ("amended", ["final"], "7"),
        ("preliminary", ["preliminary", "final"], "9"),
    ],
)
def test_a_source_reads_the_statuses_that_it_declares(status: str, declared: list[str], expected: str) -> None:
    source = {"code": "2524-7", "unit": "mmol/L", "status": declared}
    feature = TestCodeSetsOfSources.LACTATE | {"sources": [source]}
    older = replace(
        stated("2524-7", "http://loinc.org", hours_ago=2), kind="observation", unit="mmol/L", status="final"
    )
    newer = replace(older, effective=NOW - timedelta(hours=1), issued=NOW, source="Observation/2/_history/1")
    facts = replace(older, value=Decimal(7)), replace(newer, value=Decimal(9), status=status)
    assert value(feature, *facts) == Decimal(expected)


def test_a_status_that_nobody_can_name_is_never_passed_over() -> None:
    source = {"code": "2524-7", "unit": "mmol/L", "status": ["final"]}
    feature = TestCodeSetsOfSources.LACTATE | {"sources": [source], "missing": "refuse"}
    fact = replace(
        stated("2524-7", "http://loinc.org", hours_ago=2), kind="observation", value=Decimal(7), unit="mmol/L"
    )
    newer = replace(fact, effective=NOW, issued=NOW, status="unknown", unusable="unstated")
    assert extract(feature, replace(fact, status="final"), newer).reason == "no status: lactate"
