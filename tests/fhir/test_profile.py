"""A profile is compiled like R4 itself, and refuses what it forbids."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from fhir_adapter.validation.fhirpath import compile_expression
from fhir_adapter.validation.fhirpath_functions import UnsupportedError
from fhir_adapter.validation.profile import Profile, compile_profile
from fhir_adapter.validation.table import r4

US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/"
RACE = {
    "url": f"{US_CORE}us-core-race",
    "extension": [
        {"url": "ombCategory", "valueCoding": {"system": "urn:oid:2.16.840.1.113883.6.238", "code": "2106-3"}},
        {"url": "text", "valueString": "White"},
    ],
}


def definitions(shared: Path, name: str) -> dict[str, dict[str, Any]]:
    folder = shared / "standards" / "fhir-profiles"
    with (folder / f"{name}.ndjson").open(encoding="utf-8") as file:
        return {it["url"].rsplit("/", 1)[-1]: it for it in map(json.loads, file)}


def us_core(shared: Path, name: str) -> Profile:
    found = definitions(shared, "us-core-5.0.1")
    return compile_profile(found[name], r4(), {it["url"]: it for it in found.values()})


def said(profile: Profile, resource: dict[str, Any]) -> list[tuple[str, str]]:
    return [(fault.code, fault.path) for fault in profile.faults(resource) or ()]


@pytest.fixture
def pressure(shared: Path) -> dict[str, Any]:
    path = shared / "data" / "fhir-r4-examples" / "Observation-blood-pressure.json"
    read: dict[str, Any] = json.loads(path.read_bytes())
    return read


def changed(resource: dict[str, Any], *path: Any, to: Any) -> dict[str, Any]:
    copied = copy.deepcopy(resource)
    inner: Any = copied
    for step in path[:-1]:
        inner = inner[step]
    if to is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return copied


def test_a_blood_pressure_conforms_to_us_core(shared: Path, pressure: dict[str, Any]) -> None:
    profile = us_core(shared, "us-core-blood-pressure")
    assert said(profile, pressure) == []
    assert {what for _, what in profile.unchecked} <= {"extensible binding", "target"}


@pytest.mark.parametrize(
    ("path", "to", "expected"),
    [
        (("subject",), None, ("required", ".subject")),  # min
        (("effectiveDateTime",), None, ("required", ".effective")),
        (("category", 0, "coding", 0, "code"), "laboratory", ("required", ".category")),  # a required slice
        (("code", "coding", 0, "code"), "8867-4", ("value", ".code")),  # pattern
        (("component", 0, "valueQuantity", "code"), "kPa", ("value", ".component[0].valueQuantity.code")),  # fixed
        (("component",), None, ("required", ".component")),
        (("component", 1), None, ("structure", ".component")),
        (("status",), "banana", ("code-invalid", ".status")),  # required binding
        (("subject", "reference"), "Location/1", ("structure", ".subject")),  # type
    ],
)
def test_what_us_core_forbids_is_refused(
    shared: Path, pressure: dict[str, Any], path: tuple[Any, ...], to: Any, expected: tuple[str, str]
) -> None:
    assert expected in said(us_core(shared, "us-core-blood-pressure"), changed(pressure, *path, to=to))


def patient(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:oid:1.2.3", "value": "1"}],
        "name": [{"family": "Müller"}],
        "gender": "female",
    } | more


def test_an_extension_with_a_profile_is_checked_by_it(shared: Path) -> None:
    profile = us_core(shared, "us-core-patient")
    assert said(profile, patient(extension=[RACE])) == []
    assert said(profile, patient(extension=[RACE, RACE])) == [("structure", ".extension")]
    without_text = changed(RACE, "extension", 1, to=None)
    found = said(profile, patient(extension=[without_text]))
    assert ("required", ".extension[0].extension") in found


def test_r4s_own_profile_of_a_blood_pressure_slices_by_a_code_within_a_slice(
    shared: Path, pressure: dict[str, Any]
) -> None:
    profile = compile_profile(definitions(shared, "r4-profiles")["bp"], r4())
    assert said(profile, pressure) == []
    assert ("required", ".component") in said(profile, changed(pressure, "component", 1, to=None))
    assert {what.rsplit(" ")[-1] for _, what in profile.unchecked} == {"binding", "target"}


def test_what_a_profile_demands_and_is_not_checked_is_said(shared: Path) -> None:
    profile = compile_profile(definitions(shared, "us-core-5.0.1")["us-core-birthsex"], r4())
    assert profile.unchecked == (("Extension.value[x]", "required binding"),)


OBSERVATION = {"resourceType": "Observation", "code": {"text": "x"}, "valueQuantity": {"value": 3}}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("value is Quantity", True),
        ("value is Period", False),
        ("value.ofType(Quantity).value = 3", True),
        ("(value as Quantity).value = 4", False),
        ("value.ofType(Period).empty()", True),
        ("Observation.value.ofType(Period).exists()", False),
    ],
)
def test_a_rule_may_ask_for_the_type_of_a_choice(expression: str, expected: bool) -> None:
    assert compile_expression(expression, r4().choices)(OBSERVATION, OBSERVATION) is expected


@pytest.mark.parametrize(
    "expression",
    ["code is CodeableConcept", "code.ofType(CodeableConcept)", "subject.resolve() is Patient"],
)
def test_a_rule_that_json_cannot_decide_is_not_compiled(expression: str) -> None:
    with pytest.raises(UnsupportedError):
        compile_expression(expression, r4().choices)
