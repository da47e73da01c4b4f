"""What is indexed is what HL7's expressions find, read by another implementation of FHIRPath, one after the other."""

import importlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhir_adapter.store.search.index import rows
from fhir_adapter.store.search.parameters import branches_of, numbers_of, of, types
from fhir_adapter.store.search.paths import at, steps
from fhir_adapter.store.search.values import LONGEST_VALUE, comparable, fold, key_of, local, quantity

from .examples import observation, patient

fhirpathpy = pytest.importorskip("fhirpathpy", reason="fhirpathpy is not installed")

_IS = re.compile(r"\.where\(resolve\(\) is (\w+)\)")
_AS = re.compile(r"\(([\w.]+) as (\w+)\)")
_CALLED = re.compile(r"\.as\((\w+)\)")


@cache
def compiled(expression: str) -> Any:
    """Compile an expression of HL7; the implementation has no ``resolve`` and knows casts as ``ofType``."""
    plain = _IS.sub("", expression)
    plain = _AS.sub(r"\1.ofType(\2)", plain)
    plain = _CALLED.sub(r".ofType(\1)", plain)
    return fhirpathpy.compile(plain, importlib.import_module("fhirpathpy.models").models["r4"])


def definitions(shared: Path) -> Iterator[dict[str, Any]]:
    with (shared / "standards" / "fhir-r4" / "search-parameters.ndjson").open(encoding="utf-8") as file:
        for line in file:
            definition = json.loads(line)
            if definition.get("expression") and definition["type"] not in {"composite", "special"}:
                yield definition


#: HL7's expressions that cannot be compared so, and why.
NOT_COMPARED = {
    "Patient-deceased": "its value is computed, not found",
    "InsurancePlan-name": "the expression names no type",
    "QuestionnaireResponse-item-subject": "hasExtension is no function of FHIRPath",
    "Bundle-composition": "a reference to an inline resource",
    "Bundle-message": "a reference to an inline resource",
    "Observation-value-quantity": "SampledData is no quantity that can be compared",
    "Observation-combo-value-quantity": "SampledData is no quantity that can be compared",
    "Observation-component-value-quantity": "SampledData is no quantity that can be compared",
    "Consent-source-reference": "an Attachment is no reference",
    "clinical-date": "Immunization.occurrenceString is no date; the others are compared in test_search_examples",
    "observation-genetic-Observation-gene-identifier": "the expression finds the extension, and its value is meant",
}


def simple(value: Any) -> Any:
    """Return a value as JSON that can be counted."""
    return json.dumps(getattr(value, "data", value), sort_keys=True, default=float)


def test_the_branches_find_what_the_expressions_find_in_the_official_examples(shared: Path) -> None:
    by_type: dict[str, list[dict[str, Any]]] = {}
    for definition in definitions(shared):
        if definition["id"] in NOT_COMPARED or definition["code"] in {"_id", "_lastUpdated"}:
            continue
        for kind in definition.get("base", ()):
            by_type.setdefault(kind, []).append(definition)
    compared = 0
    for path in sorted((shared / "data" / "fhir-r4-examples").glob("*.json")):
        raw = path.read_bytes()
        if len(raw) > 60_000:  # the other implementation takes seconds for them
            continue
        resource = orjson.loads(raw)
        kind = resource["resourceType"]
        for definition in by_type.get(kind, ()):
            if definition["id"].startswith("example"):
                continue
            parameter = of(kind).get(definition["code"])
            if parameter is None:
                assert kind == "AuditEvent" or definition["code"] in {"near", "_text", "_content"}, definition["id"]
                continue
            mine = [part for part in definition["expression"].split("|") if re.search(rf"\b{kind}\.", part)]
            wanted = Counter(
                simple(value) for part in mine for value in compiled(part.strip())(resource, {}) if value is not None
            )
            found = Counter(
                simple(value) for branch in parameter.branches for value in at(resource, steps(branch.path))
            )
            assert set(found) == set(wanted), (path.name, definition["id"])
            compared += bool(wanted)
    assert compared > 1500, compared


def test_every_parameter_of_r4_is_in_the_table_or_left_out_on_purpose(shared: Path) -> None:
    missing = {
        (kind, definition["code"])
        for definition in definitions(shared)
        for kind in definition.get("base", ())
        if kind in types() and kind != "AuditEvent" and definition["code"] not in of(kind)
    }
    # HL7's own mistakes: an expression of another type, and parameters of examples without an expression.
    assert missing == {("Patient", "part-agree")}


def test_no_two_branches_have_one_number() -> None:
    numbers: dict[int, set[tuple[str, str]]] = {}
    for kind in types():
        for how, branch in branches_of(kind):
            numbers.setdefault(branch.number, set()).add((kind, f"{branch.path}#{how}"))
            numbers.setdefault(branch.identifiers, set()).add((kind, f"{branch.path}#identifier"))
    clashes = [
        found
        for found in numbers.values()
        if len({(kind, re.sub(r"(?<=[a-z])[A-Z][A-Za-z]*(?=#)", "", text)) for kind, text in found}) > 1
    ]
    assert clashes == []


def test_elements_that_several_parameters_share_are_indexed_once() -> None:
    found = rows(observation(component=[{"code": {"coding": [{"code": "c"}]}}]))
    assert numbers_of("Observation", "patient") == numbers_of("Observation", "subject")
    assert set(numbers_of("Observation", "combo-code")) == {
        *numbers_of("Observation", "code"),
        *numbers_of("Observation", "component-code"),
    }
    assert len([row for row in found.values if row[1] == "8867-4"]) == 1
    assert len([row for row in found.values if row[1] == "Patient/p1"]) == 1


def test_a_long_code_is_kept_by_its_start_and_digest() -> None:
    found = rows(observation(code={"coding": [{"system": "s" * 600, "code": "c" * 600}]}))
    assert (*numbers_of("Observation", "code"), key_of("c" * 600), key_of("s" * 600)) in found.values


def test_a_string_is_kept_folded_and_as_it_is_written() -> None:
    found = rows(patient(name=[{"family": "Müller"}]))
    assert (*numbers_of("Patient", "family"), "muller", "Müller") in found.values
    assert fold("  ÉCLAIR ") == "eclair"
    long = rows(patient(name=[{"family": "Ä" * 600}]))
    assert (*numbers_of("Patient", "family"), "a" * LONGEST_VALUE, "Ä" * LONGEST_VALUE) in long.values


def test_a_reference_is_kept_without_its_version_and_with_its_identifier() -> None:
    subject = {"reference": "Patient/p1/_history/3", "identifier": {"system": "urn:mrn", "value": "1"}}
    found = rows(observation(subject=subject))
    (branch,) = of("Observation")["subject"].branches
    assert (branch.number, local("Patient/p1/_history/3"), "") in found.values
    assert (branch.identifiers, "1", "urn:mrn") in found.values


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((120, "mm[Hg]"), ("15.9986864898", "kPa")),
        ((37, "Cel"), ("98.6", "[degF]")),
        ((37, "Cel"), ("310.15", "K")),
        ((1, "g/dL"), (10, "g/L")),
        ((60, "/min"), (1, "/s")),
        ((50, "%"), ("0.5", "1")),
    ],
)
def test_one_quantity_in_two_units_is_one_in_the_index(one: tuple[Any, str], other: tuple[Any, str]) -> None:
    ucum = "http://unitsofmeasure.org"
    (unit, value), (same_unit, same) = (comparable(it[0], ucum, it[1]) for it in (one, other))
    assert unit == same_unit
    assert value == pytest.approx(same, rel=1e-10)


def test_units_that_are_arbitrary_are_compared_with_themselves_only() -> None:
    ucum = "http://unitsofmeasure.org"
    assert comparable(1, ucum, "[IU]/L") == (f"{ucum}|[IU]/L", 1.0)
    assert comparable(1, "urn:other", "mg") == ("urn:other|mg", 1.0)


def test_a_comparator_leaves_one_end_open() -> None:
    below = quantity({"value": 5, "comparator": "<"})
    above = quantity({"value": 5, "comparator": ">="})
    assert below is not None
    assert above is not None
    assert 4.99 < below.written_high < above.written_low == 5
    assert below.written_low < -1e100 < 1e100 < above.written_high
