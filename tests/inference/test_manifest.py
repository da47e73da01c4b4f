"""``model.yaml``: inputs by kind with their selection rules, triggers by event, and the first form of both."""

from typing import Any

import pytest

from inference.manifest import Manifest, parse_manifest
from inference.yaml_mapping import read_yaml
from kernel.errors import Problem

OUTPUT = {"name": "x", "system": "urn:test", "code": "x", "display": "X", "kind": "score", "future": False, "bands": []}
DECLARED: dict[str, Any] = {
    "name": "toy",
    "version": "1.0.0",
    "title": "A toy",
    "intended_use": "Tests",
    "owner": "Tests",
    "demonstration": True,
    "users": ["tests"],
    "trigger": {"kind": "codes", "codes": ["8867-4"]},
    "inputs": [{"name": "facts", "kind": "facts"}],
    "runner": "score",
    "outputs": [OUTPUT],
    "limits": {},
    "change_plan": {"acceptance": ["none"]},
}
IMAGE = {"name": "image", "kind": "image", "modalities": ["DX"]}


def declared(**changes: Any) -> Manifest:
    return parse_manifest(DECLARED | changes)


def first_form(**changes: Any) -> Manifest:
    return parse_manifest({key: value for key, value in DECLARED.items() if key != "inputs"} | changes)


def test_facts_of_the_first_form_are_triggered_by_codes() -> None:
    trigger = {"kind": "facts", "codes": ["8867-4"]}
    assert first_form(trigger=trigger, limits={"views": []}) == declared()


def test_a_manifest_of_the_first_format_keeps_its_image_rules() -> None:
    limits = {"min_age_years": 18, "views": ["PA", "AP"], "min_side": 28, "min_contrast": 0.02}
    old = first_form(trigger={"kind": "image", "modalities": ["CR"], "body_parts": ["CHEST"]}, limits=limits)
    rules = {"modalities": ["CR"], "body_parts": ["CHEST"], "views": ["PA", "AP"], "min_side": 28, "min_contrast": 0.02}
    assert old == declared(trigger={"kind": "study"}, inputs=[IMAGE | rules], limits={"min_age_years": 18})


@pytest.mark.parametrize(
    "one",
    [
        {"name": "trend", "kind": "series", "hours": 24, "step_hours": 1},
        IMAGE | {"views": ["PA"], "series_description": "chest"},
        IMAGE | {"sop_classes": ["1.2.840.10008.5.1.4.1.1.1"], "body_parts": ["CHEST"], "body_part_required": True},
        {"name": "ct", "kind": "volume", "modalities": ["CT"], "slice_thickness_mm": [0.5, 2.5], "min_slices": 20},
        {"name": "note", "kind": "text", "document_types": ["18842-5"]},
        {"name": "all", "kind": "study", "parts": [IMAGE, {"name": "facts", "kind": "facts"}]},
    ],
)
def test_every_kind_of_input_can_be_declared(one: dict[str, Any]) -> None:
    assert declared(inputs=[one]).input.kind == one["kind"]


@pytest.mark.parametrize(
    "trigger",
    [
        {"kind": "codes", "codes": ["8867-4"], "settle_seconds": 20},
        {"kind": "schedule", "cadence_hours": 4},
        {"kind": "schedule", "events": ["admission", "discharge"]},
        {"kind": "document", "document_types": ["18842-5"]},
        {"kind": "study"},
    ],
)
def test_every_kind_of_trigger_can_be_declared(trigger: dict[str, Any]) -> None:
    assert declared(trigger=trigger).trigger.kind == trigger["kind"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"inputs": []}, "model.yaml.inputs must have one entry"),
        ({"inputs": [{"name": "i", "kind": "sound"}]}, "model.yaml.inputs[0].kind must be one of"),
        ({"inputs": [{"name": "i", "kind": "image"}]}, "model.yaml.inputs[0].modalities is missing"),
        ({"inputs": [IMAGE | {"min_slices": 3}]}, "model.yaml.inputs[0].min_slices is not known"),
        ({"inputs": [IMAGE | {"series_description": "("}]}, "model.yaml.inputs[0].series_description is no regular"),
        ({"inputs": [{"name": "s", "kind": "study", "parts": []}]}, "model.yaml.inputs[0].parts must have"),
        (
            {"limits": {"min_age_years": 6, "max_age_years": 5}},
            "model.yaml.limits.max_age_years must not be below min_age_years",
        ),
        ({"trigger": {"kind": "schedule"}}, "model.yaml.trigger must have cadence_hours or events"),
        ({"trigger": {"kind": "schedule", "events": ["birth"]}}, "model.yaml.trigger.events must be of"),
        ({"outputs": [OUTPUT | {"system": "urn:my codes"}]}, "model.yaml.outputs[0].system is no uri of FHIR"),
        ({"outputs": [OUTPUT | {"kind": "class-set"}]}, "model.yaml.outputs[0].bands must name at least two classes"),
    ],
)
def test_a_wrong_declaration_is_refused_by_its_place(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Problem) as refused:
        declared(**changes)
    assert refused.value.detail.startswith(complaint)


def test_bands_of_a_probability_in_percent_are_refused() -> None:
    bands = [{"name": "low", "at_least": 0}, {"name": "high", "at_least": 50}]
    with pytest.raises(
        Problem, match=r"outputs\[0\]\.bands: at_least of a probability is from 0 to 1: 0\.5, and not 50"
    ):
        declared(outputs=[OUTPUT | {"kind": "probability", "bands": bands}])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"limits: {min_age_years: 18}\nname: m\nlimits: {}\n", "model.yaml, line 3: limits is given twice"),
        (b"runner: {kind: onnx,\n  kind: linear}\n", "model.yaml, line 2: kind is given twice"),
        (b"a:\n- {b: 1, 'b': 2}\n", "model.yaml, line 2: b is given twice"),
    ],
)
def test_a_key_that_is_given_twice_is_refused_because_the_first_would_be_lost(content: bytes, said: str) -> None:
    with pytest.raises(Problem) as refused:
        read_yaml("model.yaml", content)
    assert refused.value.detail == f"{said}; remove one"


def test_an_alias_stands_for_what_it_names() -> None:
    assert read_yaml("model.yaml", b"a: &a [1]\nb: [*a, *a]\n") == {"a": [1], "b": [[1], [1]]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'name: m\ntitle: "Sepsis \\e risk"\n', "model.yaml, line 2: a text holds a control character"),
        (b'users: ["a\\x7f"]\n', "model.yaml, line 1: a text holds a control character"),
        (
            "\n".join(
                ["a0: &a0 [1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9))]
            ).encode(),
            "model.yaml stands for more than 100000 values by its aliases (*)",
        ),
        (b"a: &a [*a]\n", "model.yaml stands for more than 100000 values by its aliases (*)"),
        (b"[" * 20_000, "model.yaml cannot be read"),
        (b"a: " + b"9" * 5000, "model.yaml cannot be read"),
    ],
)
def test_what_would_break_a_result_or_fill_the_memory_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(Problem) as refused:
        read_yaml("model.yaml", content)
    assert refused.value.detail.startswith(said)


def test_a_misspelt_key_is_named() -> None:
    misspelt = {key: value for key, value in DECLARED.items() if key != "owner"} | {"ownr": "Tests"}
    with pytest.raises(Problem, match=r"model\.yaml\.owner is missing; is ownr a misspelling of it\?"):
        parse_manifest(misspelt)
