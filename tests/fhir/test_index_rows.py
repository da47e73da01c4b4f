"""The index rows of a resource are those of its search parameters, read one parameter after the other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from fhir_adapter.store.document import Document
from fhir_adapter.store.problems import Invalid
from fhir_adapter.store.search.index import LONGEST_VALUE, fold, key_of, local, number_of, rows, seconds
from fhir_adapter.store.search.parameters import Parameter, indexed
from fhir_adapter.store.times import EARLIEST, LATEST, span
from fhir_adapter.store.validate import Validator
from kernel.errors import Problem

from .examples import observation
from .mutations import mutated


def simply(resource: dict[str, Any]) -> tuple[set[Any], set[Any]]:
    """Return the values and the dates, each parameter and path by itself."""
    values: set[Any] = set()
    dates: set[Any] = set()
    for parameter in indexed(resource["resourceType"]):
        number = number_of(resource["resourceType"], parameter.name)
        for path in parameter.paths:
            for value in at(resource, path.split(".")):
                if parameter.kind == "date":
                    dates |= {(number, *it) for it in spans(value)}
                else:
                    values |= {
                        (number, key_of(text), key_of(system))
                        for system, text in TEXTS[parameter.kind](parameter, value)
                    }
    return values, dates


def at(value: Any, path: list[str]) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from at(item, path)
    elif not path:
        if value is not None:
            yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from at(value[path[0]], path[1:])


def tokens(parameter: Parameter, value: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        yield "", str(value).lower() if isinstance(value, bool) else str(value)
    elif "coding" in value:
        for coding in value["coding"]:
            yield from tokens(parameter, coding)
    elif (code := value.get("code", value.get("value"))) is not None:
        yield value.get("system", ""), code


def references(parameter: Parameter, value: Any) -> Iterator[tuple[str, str]]:
    reference = local(value.get("reference", "")) if isinstance(value, dict) else ""
    if reference and not reference.startswith("#"):
        target = reference.rsplit("/", 2)[-2] if "/" in reference else ""
        if not parameter.restrict_to_targets or target in parameter.targets:
            yield "", reference


def strings(_parameter: Parameter, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield "", fold(value)[:LONGEST_VALUE]
    else:
        for part in ("text", "family", "given", "prefix", "suffix"):
            for text in at(value, [part]):
                yield "", fold(text)[:LONGEST_VALUE]


def spans(value: Any) -> Iterator[tuple[float, float]]:
    try:
        if isinstance(value, dict):
            low = span(value["start"])[0] if "start" in value else EARLIEST
            high = span(value["end"])[1] if "end" in value else LATEST
        else:
            low, high = span(value)
    except Problem:
        return
    yield seconds(low), seconds(high)


TEXTS = {"token": tokens, "reference": references, "string": strings}


def test_the_rows_are_those_of_each_parameter_read_by_itself(shared: Path) -> None:
    validator, compared = Validator(), 0
    for path in sorted((shared / "data" / "fhir-r4-examples").glob("*.json")):
        example = orjson.loads(path.read_bytes())
        for resource in (example, *(mutated(example, f"{path.name} {number}") for number in range(4))):
            try:
                validator.check(Document(exact=resource, plain=resource))
            except Invalid:
                continue
            found = rows(resource)
            assert (set(found.values), set(found.dates)) == simply(resource), path.name
            assert (len(found.values), len(found.dates)) == (len(set(found.values)), len(set(found.dates)))
            compared += 1
    assert compared > 500


def test_a_value_that_is_named_twice_is_one_row() -> None:
    coding = {"system": "http://loinc.org", "code": "8867-4"}
    found = rows(observation(code={"coding": [coding, coding]}, component=[{"code": {"coding": [coding]}}]))
    named = [row for row in found.values if row[1] == "8867-4"]
    assert len(named) == len(set(named)) == len(("code", "combo-code", "component-code"))


def test_a_long_code_is_kept_by_its_start_and_digest() -> None:
    found = rows(observation(code={"coding": [{"system": "s" * 600, "code": "c" * 600}]}))
    assert (number_of("Observation", "code"), key_of("c" * 600), key_of("s" * 600)) in found.values
