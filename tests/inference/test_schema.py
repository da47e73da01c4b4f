"""The JSON Schemas and the parsers of ``features.yaml`` and ``model.yaml`` say the same of good and of bad files.

A schema cannot state everything. What the parser alone refuses is a rule between several values, listed in ``BEYOND``;
of everything else the two agree, on files that are changed at random. Texts with spaces around them are left out: the
parser takes them away.
"""

import json
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from inference.contract import InputKind, OutputKind
from inference.features.analytes import ANALYTES
from inference.features.in_force_spec import MEDICATIONS, VERIFICATIONS
from inference.features.records import MOST_HOURS, Take
from inference.features.source_spec import STATUSES
from inference.features.spec import parse_features
from inference.manifest import parse_manifest
from inference.manifest.parse import _RULES
from kernel.errors import Problem

MODELS = Path(__file__).resolve().parents[2] / "inference" / "models"

FEATURES: tuple[str, ...] = (
    """
    code_sets:
      lactate: [{system: "http://loinc.org", codes: [2524-7, 32693-4]}]
      diabetes: [{system: "urn:icd", prefix: [E10, E11]}, {system: "urn:sct", codes: ["73211009"]}]
    features:
      - name: lactate
        title: lactate
        window: {take: slope, hours: 24, offset: 2, since: admission, first_hours: 12}
        missing: {default: 0.1}
        sources: [{code_set: lactate, unit: mmol/L, analyte: lactate, plausible: [0.1, 30], status: [final, amended]}]
        transform: [{clip: [0.1, 5]}, log]
      - {name: no_lactate, title: without lactate, missing_of: lactate}
      - {name: diabetes, title: diabetes, conditions: [{code_set: diabetes, status: [confirmed]}], window: {hours: 24}}
      - name: drug
        title: drug
        medications: [{system: urn:atc, prefix: [C01CA], types: [MedicationRequest]}, {system: urn:atc, codes: [C01]}]
        window: {hours: 24, offset: 2}
    """,
    """
    features:
      - name: oxygen
        title: oxygen
        window: {take: last}
        missing: refuse
        one_hot: false
        sources:
          - {code: 3151-8, unit: L/min, plausible: [0, 100], same: [0]}
          - {code: 3150-6, system: urn:local, unit: "%", same: [21]}
      - name: alertness
        title: alertness
        window: {take: first, hours: 12}
        missing: {default: alert}
        sources: [{code: 67775-7, answers: {alert: [LA1, a], voice: [v]}, same: [[alert], [voice]]}]
        one_hot: true
      - {name: age, title: age, subject: age, missing: nan, transform: [{clip: [18, 90]}, log]}
      - {name: sex, title: sex, subject: sex, missing: {default: 0.5}}
    """,
)
MODEL = """
name: toy
version: 1.0.0
title: A toy
intended_use: Tests
owner: Tests
demonstration: true
users: [tests]
trigger: {kind: codes, codes: [8867-4], settle_seconds: 20}
inputs: [{name: facts, kind: facts}]
runner: linear
outputs:
  - name: risk
    system: urn:test
    code: risk
    display: Risk
    kind: probability
    unit: "1"
    future: true
    bands: [{name: low, at_least: 0}, {name: high, at_least: 0.5}]
limits: {min_age_years: 18, max_age_years: 90, spread_hours: 4, max_without_value: 2, imputed_at_most: 0.5}
warnings: [none]
change_plan: {allowed: [nothing], acceptance: [nothing]}
"""
INPUTS = (
    "{name: trend, kind: series, hours: 24, step_hours: 1}",
    """{name: film, kind: image, modalities: [DX], views: [PA], min_side: 28, min_contrast: 0.02, body_parts: [CHEST],
        body_part_required: true, series_description: chest, sop_classes: [1.2.3]}""",
    "{name: ct, kind: volume, modalities: [CT], slice_thickness_mm: [0.5, 2.5], min_slices: 20}",
    "{name: note, kind: text, document_types: [18842-5]}",
    "{name: all, kind: study, parts: [{name: facts, kind: facts}, {name: film, kind: image, modalities: [DX]}]}",
)
TRIGGERS = (
    "{kind: schedule, cadence_hours: 4}",
    "{kind: schedule, events: [admission, discharge]}",
    "{kind: document, document_types: [18842-5]}",
    "{kind: study}",
)

BEYOND = (
    "must be given from low to high",
    "is declared twice",
    "is listed twice",
    "sources: same must",
    "offset must be below hours",
    "needs numbers of one unit",
    "log needs values above 0",
    "has no logarithm",
    "no feature has the name",
    "is never missing where the model answers",
    "is not under code_sets",
    "the set has a prefix",
    "is not a unit of UCUM",
    "missing.default must be one of",
    "an answer becomes one by one_hot",
    "must not be below min_age_years",
    "is no regular expression",
    "must have entries of different names",
    "must be a multiple of step_hours",
    "slice_thickness_mm must be two numbers, from low to high",
)
"""What the refusals say that rest on several values, or on what a unit or a pattern is."""

REMOVED = object()
WRONG: tuple[Any, ...] = (
    *(None, True, False, 3, 3.5, -1, 0, "", "x", "refuse", "log", "last", "alert"),
    *([], ["x"], [1, 2], {}, {"x": 1}),
)
KEYS = (
    *("colour", "unit", "answers", "code", "code_set", "system", "codes", "prefix", "subject", "missing_of"),
    *("window", "conditions", "one_hot", "transform", "missing", "analyte", "hours", "first_hours", "since"),
    *("offset", "events", "parts", "views", "document_types"),
)


def schema(name: str) -> Mapping[str, Any]:
    """Read a schema as it is installed."""
    content: Mapping[str, Any] = json.loads((files("inference.schema") / f"{name}.schema.json").read_text("utf-8"))
    return content


PARSERS: Mapping[str, Callable[[object], object]] = {"features": parse_features, "model": parse_manifest}
VALIDATORS = {name: Draft202012Validator(schema(name)) for name in PARSERS}


def models() -> list[dict[str, Any]]:
    base = yaml.safe_load(MODEL)
    others = [base | {"inputs": [yaml.safe_load(one)]} for one in INPUTS]
    others += [base | {"trigger": yaml.safe_load(one)} for one in TRIGGERS]
    return [base, *others, base | {"runner": {"kind": "onnx", "transform": "softmax"}}]


GOOD = {"features": [yaml.safe_load(one) for one in FEATURES], "model": models()}


def refusal(name: str, content: object) -> str | None:
    try:
        PARSERS[name](content)
    except Problem as problem:
        return problem.detail
    return None


def agree(name: str, content: object) -> None:
    refused = refusal(name, content)
    accepted = VALIDATORS[name].is_valid(content)
    if refused is None:
        assert accepted, [error.message for error in VALIDATORS[name].iter_errors(content)]
    elif accepted:
        assert any(words in refused for words in BEYOND), refused


@pytest.mark.parametrize("name", PARSERS)
def test_a_schema_is_a_schema_with_a_name(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))
    assert schema(name)["$id"] == f"urn:ausculta:schema:{name}"


@pytest.mark.parametrize(("name", "content"), [(name, content) for name, all_of in GOOD.items() for content in all_of])
def test_good_files_are_accepted_by_both(name: str, content: object) -> None:
    assert refusal(name, content) is None
    assert list(VALIDATORS[name].iter_errors(content)) == []


@pytest.mark.parametrize("path", sorted(MODELS.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_files_of_the_shipped_models_are_accepted(path: Path) -> None:
    assert list(VALIDATORS[path.stem].iter_errors(yaml.safe_load(path.read_text()))) == []


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        *(("features", content, ()) for content in GOOD["features"]),
        ("model", GOOD["model"][0], ()),
        *(("model", content, ("inputs",)) for content in GOOD["model"][1 : len(INPUTS) + 1]),
        *(("model", content, ("trigger",)) for content in GOOD["model"][len(INPUTS) + 1 : -1]),
        ("model", GOOD["model"][-1], ("runner",)),
    ],
)
def test_every_change_of_one_value_is_judged_alike(name: str, content: Any, part: tuple[str, ...]) -> None:
    """Each value removed, each replaced by one of every kind, and each key added to each mapping."""

    def places(whole: Any) -> list[tuple[Any, Any]]:
        return list(_places(whole[part[0]] if part else whole))

    for number, (parent, key) in enumerate(places(content)):
        news: list[tuple[Any, Any]] = [(key, other) for other in (REMOVED, *WRONG)]
        if isinstance(parent, dict) and key == next(iter(parent)):
            news += [(other, value) for other in KEYS for value in (1, ["x"])]
        for place, value in news:
            changed = deepcopy(content)
            where, _ = places(changed)[number]
            if value is REMOVED:
                del where[place]
            else:
                where[place] = deepcopy(value)
            agree(name, changed)


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_files_that_are_changed_in_several_places_are_judged_alike(name: str, data: st.DataObject) -> None:
    content = deepcopy(data.draw(st.sampled_from(GOOD[name])))
    for _ in range(data.draw(st.integers(2, 4))):
        parent, key = data.draw(st.sampled_from(list(_places(content))))
        parent[key] = deepcopy(data.draw(st.sampled_from(WRONG)))
    agree(name, content)


def _places(content: Any) -> Any:
    for key in list(content) if isinstance(content, dict) else range(len(content)):
        yield content, key
        if isinstance(content[key], dict | list):
            yield from _places(content[key])


def found(name: str, *path: str) -> set[Any]:
    """Return the ``enum`` at a place of a schema."""
    place: Any = schema(name)
    for step in path:
        place = place[step]
    return set(place["enum"])


def test_the_words_of_the_schemas_are_those_of_the_parsers() -> None:
    properties = "$defs", "source", "properties"
    assert found("features", "$defs", "window", "properties", "take") == set(get_args(Take))
    assert found("features", *properties, "analyte") == set(ANALYTES)
    assert found("features", *properties, "status", "items") == set(STATUSES)
    of = "items", "properties"
    conditions = "$defs", "conditions", "properties", "conditions", *of, "status", "items"
    assert found("features", *conditions) == set(VERIFICATIONS)
    medications = "$defs", "medications", "properties", "medications", *of, "types", "items"
    assert found("features", *medications) == set(MEDICATIONS)
    assert found("model", "$defs", "output", "properties", "kind") == set(get_args(OutputKind))
    hours = schema("features")["$defs"]["window"]["properties"]["hours"]
    assert hours["maximum"] == MOST_HOURS


@pytest.mark.parametrize("kind", get_args(InputKind))
def test_each_kind_of_input_has_its_rules_in_the_schema(kind: str) -> None:
    properties = set(schema("model")["$defs"][kind]["properties"])
    assert properties - {"name", "kind", "parts"} == _RULES[kind]  # type: ignore[index]


@pytest.mark.parametrize("key", ["1", "yes", "1.5", "2026-01-15"])
def test_an_answer_that_yaml_reads_as_no_text_is_refused_with_what_to_change(key: str) -> None:
    """Its spellings would be lost, and those of the registry, which keeps JSON, would not."""
    written = FEATURES[1].replace("alert: [LA1, a]", f"{key}: [LA1, a], alert: [b]")
    refused = refusal("features", yaml.safe_load(written))
    assert refused is not None
    assert re.search(r"answers: put the key .+ in quotation marks", refused)
