"""A second opinion: fhir.resources on the official examples and on changes of them.

Both agree, or the difference is listed in :data:`DIFFERENCES` with the sentence of the standard that decides it.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class
from pydantic import ValidationError

from fhir_adapter.store import document
from fhir_adapter.validation.records import Fault
from fhir_adapter.validation.structure import Checks
from fhir_adapter.validation.table import r4
from kernel.errors import Problem

from .mutations import mutated

DIFFERENCES: dict[str, str] = {
    # Refused here, accepted there, by what the first fault says.
    "code-invalid": "terminologies.html#required: the concept in this element SHALL be from the specified value set",
    "invariant": "conformance-rules.html#constraints: all resources and data types SHALL conform to the constraints",
    "not-supported": "references.html#contained: a contained resource is one of the resource types of R4",
    "a reference to": "references.html: the target SHALL be one of the types that the definition lists",
    "type and reference": "references.html#Reference.type: if both are populated, both SHALL be consistent",
    "the value has the wrong JSON type": "json.html#primitive: numbers and booleans are JSON numbers and booleans, "
    "all other primitive types are JSON strings",
    "a JSON object": "json.html: an element with elements of its own is a JSON object",
    "the element does not repeat": "json.html#repeating: only an element that may repeat is a JSON array",
    "the value is no id": "datatypes.html#id: A to Z, a to z, 0 to 9, '-' and '.', at most 64 characters",
    "the value is no uri": r"datatypes.html#uri: \S*, and no primitive value is empty",
    "the value is no url": r"datatypes.html#url: \S*, and no primitive value is empty",
    "the value is no canonical": r"datatypes.html#canonical: \S*, and no primitive value is empty",
    "the value is no markdown": "datatypes.html#markdown: strings SHALL NOT be empty",
    "the value is no code": "datatypes.html#code: no leading or trailing white space, single spaces only",
    "the value is no base64Binary": "datatypes.html#base64Binary: base64 as RFC 4648 defines it",
    "the value is no date": "datatypes.html#date: dates SHALL be valid dates",
    "the value is no instant": "datatypes.html#instant: a time zone and seconds SHALL be present",
    "the value is no time": "datatypes.html#time: seconds SHALL be present",
    "the value is no integer": "datatypes.html#integer: a signed integer of 32 bits",
    "the value is no unsignedInt": "datatypes.html#unsignedInt: 0 to 2,147,483,647",
    "the value is no positiveInt": "datatypes.html#positiveInt: 1 to 2,147,483,647",
    "null only": "json.html#primitive: null only where the other array has a value",
    "an array and the array": "json.html#primitive: both arrays have a place for each repetition",
    "what stands beside": "json.html#primitive: the property with '_' has the id and extensions",
    # Accepted here, refused there, by what the library says.
    "theirs: extension value": "json.html#primitive and extensibility.html: the value of an extension is a primitive "
    "like any other, and may have an extension itself (_valueDecimal)",
    "theirs: type": "resourcelist.html: R4 has resource types that R4B, which the library implements, has not",
}

CHANGES = 6
"""Changes of each example; `AT_MOST` keeps the largest out."""
AT_MOST = 30_000


@pytest.fixture(scope="module")
def checks() -> Checks:
    return Checks(r4())


def examples(shared: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((shared / "data" / "fhir-r4-examples").glob("*.json")):
        yield path.name, json.loads(path.read_bytes())


def theirs(resource: dict[str, Any]) -> str:
    """Return why the library refuses; empty when it accepts."""
    try:
        model = get_fhir_model_class(resource["resourceType"])
    except (LookupError, ValueError):
        return "theirs: type"
    try:
        model.model_validate(resource)
    except ValidationError as failure:
        steps = [str(step) for error in failure.errors(include_input=False) for step in error["loc"]]
        return "theirs: extension value" if any(it.startswith("_value") for it in steps) else "theirs: other"
    except (KeyError, LookupError, TypeError, AttributeError, ValueError):
        return "theirs: other"
    return ""


def reason(faults: list[Fault]) -> str:
    fault = faults[0]
    if fault.code in DIFFERENCES:
        return fault.code
    return next((it for it in DIFFERENCES if fault.text.startswith(it)), f"not listed: {fault.code} {fault.text}")


def outcome(checks: Checks, resource: dict[str, Any]) -> str:
    """Return ``agreed``, or the key of the difference."""
    faults, refused = checks.resource(resource), theirs(resource)
    if (faults is None) == (not refused):
        return "agreed"
    return reason(faults) if faults else refused


def test_on_all_official_examples_both_agree_or_the_standard_decides(checks: Checks, shared: Path) -> None:
    outcomes = Counter(outcome(checks, resource) for _, resource in examples(shared))
    assert set(outcomes) <= {"agreed", *DIFFERENCES}
    assert outcomes == {"agreed": 471, "a reference to": 2, "invariant": 1, "theirs: type": 1}


def test_on_changed_examples_both_agree_or_the_standard_decides(checks: Checks, shared: Path) -> None:
    outcomes: Counter[str] = Counter()
    for name, resource in examples(shared):
        if len(json.dumps(resource)) > AT_MOST or checks.resource(resource):
            continue
        for number in range(CHANGES):
            changed = mutated(resource, f"{name} {number}")
            try:
                read = document.of(changed).plain
            except Problem:
                continue  # empty objects and arrays never reach a validator
            outcomes[outcome(checks, read)] += 1
    assert outcomes["agreed"] > 2000
    assert {key for key in outcomes if key not in DIFFERENCES} == {"agreed"}
