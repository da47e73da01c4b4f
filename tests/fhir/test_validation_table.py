"""The shipped table is what HL7's definitions say, and every rule of theirs is checked or listed."""

import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from fhir_adapter.validation import primitives
from fhir_adapter.validation.compile import compiled, lines, rendered, value_sets
from fhir_adapter.validation.compile_profiles import base_elements, packages
from fhir_adapter.validation.invariants import ELSEWHERE, UNCHECKED, WRITTEN, expression
from fhir_adapter.validation.profiles import SHIPPED, Profiles
from fhir_adapter.validation.records import Constraint
from fhir_adapter.validation.structure import Checks
from fhir_adapter.validation.table import r4

TABLE = Path(__file__).parents[2] / "fhir_adapter" / "validation" / "tables" / "r4.json"
VALUE_SETS = ("required-valuesets.ndjson", "required-codesystems.ndjson")


@pytest.fixture
def definitions(shared: Path) -> Path:
    return shared / "standards" / "fhir-r4"


def test_the_table_is_compiled_from_the_definitions_byte_for_byte(definitions: Path) -> None:
    written = TABLE.read_text(encoding="utf-8")
    # The value sets that this folder lacks come from the table itself.
    assert written == rendered(compiled(definitions, json.loads(written)["valueSets"]))


def test_the_value_sets_are_those_of_the_definitions(definitions: Path) -> None:
    written = json.loads(TABLE.read_bytes())["valueSets"]
    listed = value_sets(resource for name in VALUE_SETS for resource in lines(definitions / name))
    compared = [name for name in listed if name in written]
    assert len(compared) > 90
    assert {name: written[name] for name in compared} == {name: listed[name] for name in compared}


def test_all_types_of_r4_compile() -> None:
    checks = Checks(r4())
    for kind in checks.definitions.resources:
        assert checks.structure(kind)({"resourceType": kind, "colour": "red"})
    assert len(checks.definitions.resources) == 146  # and two abstract ones


def test_threads_that_need_the_same_type_at_once_find_it_whole() -> None:
    checks, together = Checks(r4()), Barrier(8)
    resource = {
        "resourceType": "Basic",
        "code": {"text": "x"},
        "extension": [{"url": "http://x.org", "valueString": "x"}],
    }

    def check(_: int) -> object:
        together.wait()
        return checks.resource(resource)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(check, range(8))) == [None] * 8


def test_the_expressions_of_primitives_are_hl7s(definitions: Path) -> None:
    found = {
        definition["name"]: extension["valueString"]
        for definition in lines(definitions / "structure-definitions.ndjson")
        if definition["kind"] == "primitive-type"
        for element in definition["snapshot"]["element"]
        for type_ in element.get("type", ())
        for extension in type_.get("extension", ())
        if extension["url"].endswith("/regex")
    }
    assert found == primitives.EXPRESSIONS


@pytest.mark.parametrize("name", ["date", "dateTime", "instant"])
@pytest.mark.parametrize(
    "text",
    [
        *(
            "2026",
            "0001",
            "0000",
            "1000",
            "0100",
            "2026-1",
            "2026-00",
            "2026-12",
            "2026-13",
            "2026-01-00",
            "2026-01-31",
        ),
        *("2026-01-31T10:00:00Z", "2026-01-31T10:00:00.123456+02:00", "2026-01-31T10:00:00-14:00", "2026-01-31T10:00Z"),
        *("2026-01-31T24:00:00Z", "2026-01-31T23:59:60Z", "2026-01-31T10:00:00+14:30", "2026-01-31T10:00:00", "x"),
    ],
)
def test_the_faster_expressions_accept_the_same(name: str, text: str) -> None:
    assert primitives.CHECKS[name](text) == (re.fullmatch(primitives.EXPRESSIONS[name], text) is not None)


@pytest.mark.parametrize("text", ["2026-02-29", "2026-04-31", "1900-02-29"])
def test_a_day_that_its_month_does_not_have_is_no_date(text: str) -> None:
    assert not primitives.CHECKS["date"](text)


def constraints() -> dict[str, Constraint]:
    found: dict[str, Constraint] = {}
    for structure in r4().structures.values():
        for own in (structure.constraints, *(element.constraints for element in structure.elements)):
            found |= {f"{it.key} {it.expression}": it for it in own}
    return found


def test_every_invariant_of_severity_error_is_checked_or_listed(definitions: Path) -> None:
    of_hl7 = {
        constraint["key"]
        for definition in lines(definitions / "structure-definitions.ndjson")
        for element in definition["snapshot"]["element"]
        for constraint in element.get("constraint", ())
        if constraint["severity"] == "error"
    }
    by_key = {it.key: it for it in constraints().values()}
    compiles = {key for key, it in by_key.items() if key not in UNCHECKED and expression(it, r4()) is not None}
    written = {key.split("@")[0] for key in WRITTEN}
    assert of_hl7 - compiles - written - ELSEWHERE == set(UNCHECKED)
    assert len(of_hl7) == 203


CASES: dict[str, list[Any]] = {
    "att-1": [{"data": "AAAA"}, {"data": "AAAA", "contentType": "a/b"}, {"url": "x"}],
    "bdl-2": [
        {"type": "searchset", "entry": [{"search": {}}]},
        {"type": "collection", "entry": [{"search": {}}]},
        {"type": "collection"},
    ],
    "bdl-3": [{"type": type_, "entry": [it]} for type_ in ("batch", "collection") for it in ({"request": {}}, {})],
    "bdl-4": [{"type": type_, "entry": [it]} for type_ in ("history", "collection") for it in ({"response": {}}, {})],
    "bdl-5": [{"request": {}}, {"fullUrl": "x"}],
    "bdl-7": [
        {"type": type_, "entry": [{"fullUrl": "a"}, {"fullUrl": other, "resource": {"meta": {"versionId": "1"}}}, {}]}
        for type_ in ("history", "collection")
        for other in ("a", "b", "a1")
    ]
    + [{"type": "collection", "entry": [{"fullUrl": "a"}, {"fullUrl": "a"}]}],
    "bdl-8": [{"fullUrl": "http://x.org/Patient/1/_history/1"}, {"fullUrl": "http://x.org/Patient/1"}, {}],
    "cpt-2": [{"value": "1"}, {"value": "1", "system": "phone"}, {"rank": 1}],
    "obs-3": [{"age": {}}, {"low": {"value": 1}}, {"text": "x"}],
    "obs-6": [{"dataAbsentReason": {"text": "x"}}, {"dataAbsentReason": {"text": "x"}, "valueString": "x"}],
    "obs-7": [
        {"code": {"coding": [{"code": "a"}]}, "component": [{"code": {"coding": [{"code": code}]}}], "valueString": "x"}
        for code in "ab"
    ],
    "qty-3": [{"code": "mg"}, {"code": "mg", "system": "http://unitsofmeasure.org"}, {"value": 1}],
    "ras-1": [{"low": {"code": "%", "system": "http://unitsofmeasure.org"}}, {"high": {"code": "%"}}, 0.5],
    "ras-2": [{"probabilityDecimal": 100}, {"probabilityDecimal": 100.5}, {"outcome": {"text": "x"}}],
    "rng-2": [{"low": {"value": 1}, "high": {"value": 2}}, {"low": {"value": 1}}],
    "ig-1": [{"grouping": [{"id": "a"}], "resource": [{"groupingId": it}, {}]} for it in "ab"],
    "ig-2": [{"fhirVersion": ["4.0.1"], "definition": {"resource": [{"fhirVersion": [it]}]}} for it in ("4.0.1", "1")],
    "pat-1": [{"gender": "male"}, {"_name": {}}, {"organization": {}}],
    "prr-1": [{"orderDetail": [{"text": "x"}]}, {"orderDetail": [{"text": "x"}], "code": {"text": "x"}}, {}],
    "sev-1": [{"name": "x"}, {"name": "x", "query": "eA=="}, {}],
    "per-1": [
        {"start": "2026-01-01", "end": "2026-01-02"},
        {"start": "2026-01-02", "end": "2026-01-01"},
        {"start": "2026-01-02T10:00:00Z", "end": "2026-01-02T09:00:00Z"},
        {"start": "2026-01-02T10:00:00Z", "end": "2026-01-02T10:00:00Z"},
        {},
    ],
    "inv-1@Task": [{"authoredOn": "2026-01-02", "lastModified": at} for at in ("2026-01-01", "2026-01-02")],
    "mdd-1": [{"whenPrepared": "2026-01-02", "whenHandedOver": at} for at in ("2026-01-01", "2026-01-02")],
    "ext-1": [{"valueString": "x"}, {"extension": [{}]}, {"extension": [{}], "valueString": "x"}, {"url": "x"}],
}
"""Where the written rules and the FHIRPath must say the same; rng-2 is written because quantities are no numbers."""


@pytest.mark.parametrize("name", sorted(set(WRITTEN) - {"rng-2"}))
def test_the_written_invariants_say_what_their_fhirpath_says(name: str) -> None:
    key, _, structure = name.partition("@")
    stated = [it for it in constraints().values() if it.key == key and (not structure or "authoredOn" in it.expression)]
    text = "extension.exists() != value.exists()" if key == "ext-1" else stated[0].expression
    compiled_ = expression(Constraint(key=key, human="", expression=text), r4())
    assert compiled_ is not None
    assert [WRITTEN[name](case) for case in CASES[name]] == [compiled_(case) for case in CASES[name]]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2026-01", "2026-01-15T10:00:00Z", True),  # the month has the instant
        ("2026-01-15T10:00:00Z", "2026-01", True),
        ("2026-02", "2026-01-15T10:00:00Z", False),
        ("2026-01-15T10:00:00+02:00", "2026-01-15T09:00:00+00:00", True),
        ("2026-01-15T10:00:00+00:00", "2026-01-15T11:00:00+02:00", False),
    ],
)
def test_dates_of_different_precision_or_zone_are_compared_as_spans(start: str, end: str, *, expected: bool) -> None:
    assert WRITTEN["per-1"]({"start": start, "end": end}) is expected


def test_the_shipped_profiles_are_compiled_from_their_sources_byte_for_byte(definitions: Path, shared: Path) -> None:
    folder = TABLE.parent / "profiles"
    rows = [json.loads(line) for path in folder.glob("*.ndjson") for line in path.read_bytes().splitlines()]
    # The value sets that these sources lack come from the table itself, in the form of a ValueSet.
    known = [
        {
            "resourceType": "ValueSet",
            "url": row["url"],
            "compose": {
                "include": [
                    {"system": system, "concept": [{"code": code} for code in codes]}
                    for system, codes in row["codes"].items()
                ]
            },
        }
        for row in rows
        if row["resourceType"] == "ValueSet"
    ]
    made = dict(packages(shared / "standards" / "fhir-profiles", base_elements(definitions), known))
    assert made.keys() == set(SHIPPED)
    for name, content in made.items():
        assert content == (folder / f"{name}.ndjson").read_bytes(), name


def test_all_shipped_profiles_compile_and_say_what_they_do_not_check() -> None:
    profiles = Profiles(r4())
    said = Counter(what for url in profiles.urls() for _, what in profiles.find(url).unchecked)  # type: ignore[union-attr]
    assert len(profiles.urls()) == 463
    assert said == {
        "extensible binding": 45,
        "required binding": 18,
        "slice": 8,
        "target": 4,
        "constraint val-audit-source": 2,
        "order of slices": 1,
    }
