"""On HL7's example resources the compiled paths find what fhirpathpy finds, an engine that others wrote."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fhirpathpy
import orjson
from fhirpathpy.models import models

from inference.views.closures import compile_tree
from inference.views.compiled import Names, NotCompiledError
from inference.views.grammar import parse_path
from inference.views.scope import Scope
from kernel.errors import Problem

Json = dict[str, Any]
R4: Any = models["r4"]
NAME = re.compile(r"[a-z][A-Za-z0-9]*")
CHOICE = re.compile(r"([a-z][A-Za-z]*?)([A-Z][A-Za-z0-9]*)")
DEFINITIONS = {"CapabilityStatement", "CodeSystem", "ConceptMap", "ExampleScenario", "ImplementationGuide", "Library"}
DEFINITIONS |= {"OperationDefinition", "PlanDefinition", "SearchParameter", "StructureDefinition", "StructureMap"}
DEFINITIONS |= {"TestReport", "TestScript", "ValueSet"}
"""They take most of the time, and nobody makes tables of them."""
TEXT = re.compile(r"'[^']*'")


def examples(shared: Path) -> Iterator[Json]:
    for path in sorted((shared / "data" / "fhir-r4-examples").glob("*.json")):
        resource = without_extensions(orjson.loads(path.read_bytes()))
        if resource["resourceType"] not in DEFINITIONS and resource["resourceType"] in {
            k for k, v in R4["type2Parent"].items() if v in {"Resource", "DomainResource"}
        }:
            yield resource


def without_extensions(value: Any) -> Any:
    """Leave out the extensions of primitives that have a value: fhirpathpy counts such a one as two elements."""
    if isinstance(value, list):
        return [without_extensions(it) for it in value]
    if not isinstance(value, dict):
        return value
    return {k: without_extensions(v) for k, v in value.items() if not (k.startswith("_") and k[1:] in value)}


def step(type_: str, key: str) -> tuple[str, str] | None:
    """Return how FHIRPath names a child in JSON, and its type."""
    plain = R4["pathsDefinedElsewhere"].get(f"{type_}.{key}", f"{type_}.{key}")
    match = CHOICE.fullmatch(key)
    for split in [key[:at] for at in range(len(key) - 1, 0, -1) if key[at].isupper()] if match else []:
        if key[len(split) :] in R4["choiceTypePaths"].get(f"{type_}.{split}", ()):
            kind = R4["path2Type"][f"{type_}.{key}"]
            return f"{split}.ofType({kind})", kind
    kind = R4["path2Type"].get(plain, plain)
    return (key, kind) if NAME.fullmatch(key) else None


def expressions(element: Json, type_: str, path: str = "") -> Iterator[str]:
    """Yield expressions that lead to something in an element."""
    for key, value in element.items():
        if key in {"resourceType", "contained", "resource", "text"} or (named := step(type_, key)) is None:
            continue
        name, kind = named
        here = f"{path}.{name}" if path else name
        yield from (
            here,
            f"{here}.first()",
            f"{here}.exists()",
            f"{here}.count()",
            f"{here}[1]",
            f"{here}.empty().not()",
        )
        first = value[0] if isinstance(value, list) else value
        if isinstance(first, dict):
            yield from criteria(first, here, kind)
            yield from expressions(first, kind, here)
        else:
            yield from comparisons(first, here, kind)


def criteria(element: Json, path: str, kind: str) -> Iterator[str]:
    for key, value in element.items():
        kind_of_it = R4["path2Type"].get(f"{kind}.{key}")
        if kind_of_it in {"string", "code", "uri"} and isinstance(value, str) and not {"'", "\\"} & set(value):
            yield f"{path}.where({key} = '{value}')"
            yield f"{path}.where({key} != '{value}').count()"
            yield f"{path}.where({key} = '{value}' and {key}.exists()).first().{key}"
            yield f"{path}.exists({key} = '{value}')"


def comparisons(value: Any, path: str, kind: str) -> Iterator[str]:
    if kind in {"integer", "decimal", "positiveInt", "unsignedInt"}:
        yield from (f"{path}.first() > 1", f"{path}.first() <= 5.5", f"{path}.first() + 1", f"{path}.first() * 2 - 1")
    if kind == "boolean":
        yield from (
            f"{path} = true",
            f"{path} and false",
            f"{path} or true",
            f"{path} xor true",
            f"{path} implies false",
        )
    if kind in {"code", "string"} and isinstance(value, str) and "'" not in value and "\\" not in value:
        yield from (f"{path} = '{value}'", f"{path}.first() != 'x'", f"{path}.join(',')")


def found(evaluate: Callable[[], list[Any]]) -> list[Any] | str:
    """Return what an expression finds, as JSON; or that several values stand where one is allowed."""
    try:
        values = evaluate()
    except (Problem, TypeError):  # fhirpathpy fails to word its own error
        return "several"
    return [orjson.loads(orjson.dumps(it, default=float)) for it in values]


def test_every_path_of_every_example(shared: Path) -> None:
    compared: set[str] = set()
    not_compiled: set[str] = set()
    different = []
    for resource in examples(shared):
        kind = resource["resourceType"]
        names = Names(type=kind, resource=kind, constants={})
        for text in expressions(resource, kind):
            shape = f"{kind} " + TEXT.sub("''", text)
            if shape in compared:
                continue
            compared.add(shape)
            try:
                closure = compile_tree(parse_path(text), names).evaluate
            except NotCompiledError:
                not_compiled.add(shape.partition(".")[0])
                continue
            mine = found(partial(closure, [resource], Scope(resource, 0)))
            theirs = found(partial(fhirpathpy.evaluate, resource, text, model=R4))
            if mine != theirs:
                different.append((kind, resource["id"], text, mine, theirs))
    assert different == []
    assert len(compared) > 5_000
    assert not_compiled <= {"Bundle entry", "Parameters parameter"}  # of resources of any type within another one
