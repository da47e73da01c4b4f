"""Reads one parameter of a search: its name with modifier and chain, and its values (R4, search.html).

What is not supported is refused and not ignored, because the client would get the answer to another search.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from fhir_adapter.store.search.comparisons import meets
from fhir_adapter.store.search.index import values_at
from fhir_adapter.store.search.parameters import ID, LAST_UPDATED, Branch, Kind, Parameter, Whole, of, types
from fhir_adapter.store.search.paths import at, steps
from fhir_adapter.store.search.query import Criterion
from fhir_adapter.store.search.shapes import (
    VALUE,
    Every,
    Match,
    Missing,
    Own,
    Referred,
    Refers,
    Shape,
    Some,
    Table,
)
from fhir_adapter.store.search.single import (
    AFTER_ANY_TEXT,
    Reading,
    Tests,
    date_range,
    divided,
    prefixed,
    references_of,
    tests_of,
    token_of,
    unescaped,
)
from fhir_adapter.store.search.texts import mentions
from fhir_adapter.store.search.values import key_of
from kernel.errors import Category, Problem

_TABLES: Final[Mapping[Kind, Table]] = {
    "date": "dates",
    "number": "measures",
    "quantity": "measures",
    "token": "values",
    "string": "values",
    "reference": "values",
    "uri": "values",
}
_BREADTH: Final[Mapping[Kind, int]] = {"reference": 1, "token": 2, "string": 2, "uri": 2, "date": 3}
_MODIFIERS: Final[Mapping[Kind, frozenset[str]]] = {
    "token": frozenset({"", "not", "text", "in", "of-type"}),
    "string": frozenset({"", "exact", "contains"}),
    "reference": frozenset({"", "identifier"}),
    "uri": frozenset({"", "below", "above"}),
    "date": frozenset({""}),
    "number": frozenset({""}),
    "quantity": frozenset({""}),
    "composite": frozenset({""}),
}


def criterion(kind: str, name: str, value: str, reading: Reading) -> Criterion:
    """Return the condition of one parameter.

    Parameters
    ----------
    kind
        Resource type that is searched.
    name
        Name of the parameter with modifier and chain.
    value
        Its values, separated by commas.
    reading
        What else the reading depends on.

    Raises
    ------
    Problem
        ``incorrect`` for a parameter, modifier, prefix or value that is not served.
    """
    if name.startswith("_has:"):
        return _referred(kind, name, value, reading)
    own, dot, rest = name.partition(".")
    head, _, modifier = own.partition(":")
    parameter = of(kind).get(head)
    if parameter is None:
        raise unknown(kind, name)
    if dot:
        return _refers(parameter, modifier, rest, value, reading)
    texts = [text for text in divided(value, ",") if text]
    if not texts:
        raise Problem(Category.INCORRECT, f"search parameter '{head}' has no value")
    if modifier == "missing":
        return _missing(parameter, texts)
    if parameter.kind == "reference" and modifier in of_any():
        texts, modifier = [text if "/" in text else f"{modifier}/{text}" for text in texts], ""
    if modifier not in _MODIFIERS[parameter.kind]:
        raise NotServed(f"the modifier of '{head}' is not supported")
    if head in {ID, LAST_UPDATED}:
        return _own(head, modifier, texts)
    if parameter.kind == "composite":
        return _composite(parameter, texts, reading)
    return _matching(parameter, modifier, texts, reading)


class NotServed(Problem):
    """A parameter, or a form of it, that this server does not have; it may be ignored on request.

    Parameters
    ----------
    detail
        What is not supported.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(Category.INCORRECT, detail)


def unknown(kind: str, name: str) -> NotServed:
    """Return the problem of a parameter that a type does not have.

    Parameters
    ----------
    kind
        Resource type.
    name
        What was sent; only what a name may hold is repeated.
    """
    shown = re.sub(r"[^A-Za-z0-9_:.\-]", "", name)[:40]
    return NotServed(f"search parameter '{shown}' is not supported for {kind}")


@cache
def of_any() -> frozenset[str]:
    """Return the names of all types that can be searched."""
    return frozenset(types())


def compartment(kind: str, names: Sequence[str], reference: str) -> Criterion:
    """Return the condition that a resource is in the compartment of another (R4, compartmentdefinition.html).

    Parameters
    ----------
    kind
        Type of the resource.
    names
        Its parameters that name the other.
    reference
        The other, ``Patient/1``.
    """
    numbers = tuple(dict.fromkeys(number for name in names for number in of(kind)[name].numbers))
    shape = Match("values", numbers, (VALUE,))
    return Criterion(
        name="_compartment", shape=shape, arguments=(key_of(reference),), texts=((None, reference),), breadth=1
    )


def _own(name: str, modifier: str, texts: Sequence[str]) -> Criterion:
    if modifier:
        raise Problem(Category.INCORRECT, f"{name} takes no modifier")
    if name == ID:
        ids_sent = tuple(unescaped(text) for text in texts)
        ids = tuple((None, text) for text in ids_sent)
        return Criterion(name=name, shape=Own("id", (VALUE,) * len(texts)), arguments=ids_sent, texts=ids, breadth=0)
    dates = [prefixed(text) for text in texts]
    spans = [date_range(prefix, text) for prefix, text in dates]
    return Criterion(
        name=name,
        shape=Own("last_updated", tuple(prefix for prefix, _ in dates)),
        arguments=tuple(end for found in spans for end in found),
        breadth=3,
    )


def _missing(parameter: Parameter, texts: Sequence[str]) -> Criterion:
    if list(texts) not in (["true"], ["false"]) or not parameter.branches:
        raise Problem(Category.INCORRECT, f"'{parameter.name}:missing' is true or false, of elements that are indexed")
    targets = parameter.targets if parameter.restricted else ()
    shape = Missing(_TABLES[parameter.kind], parameter.numbers, texts[0] == "true", len(targets))
    arguments = [end for target in targets for end in (f"{target}/", f"{target}/{AFTER_ANY_TEXT}")]
    return Criterion(name=parameter.name, shape=shape, arguments=tuple(arguments), breadth=4)


def _matching(parameter: Parameter, modifier: str, texts: Sequence[str], reading: Reading) -> Criterion:
    if modifier == "text":
        holds = mentions(parameter.branches, [unescaped(text) for text in texts])
        return Criterion(name=parameter.name, shape=Every(()), arguments=(), breadth=4, holds=holds)
    if modifier == "of-type":
        return _of_type(parameter, texts)
    named = tuple(pair for text in texts for pair in _named(parameter, modifier, text, reading))
    tests = [it for text in texts for it in tests_of(parameter, modifier, text, reading)]
    numbers = tuple(it.identifiers for it in parameter.branches) if modifier == "identifier" else parameter.numbers
    breadth = 0 if parameter.name == "identifier" else _BREADTH.get(parameter.kind, 3)
    return Criterion(
        name=parameter.name,
        shape=_match(_TABLES[parameter.kind], numbers, tests, negated=modifier == "not"),
        arguments=tuple(value for _, values in tests for value in values),
        texts=named,
        breadth=4 if modifier in {"not", "contains"} else breadth,
    )


def _match(table: Table, numbers: tuple[int, ...], tests: Tests, *, negated: bool = False) -> Shape:
    return Match(table, numbers, tuple(test for test, _ in tests), negated) if tests else Some(())


def _named(parameter: Parameter, modifier: str, text: str, reading: Reading) -> Iterator[tuple[str | None, str | None]]:
    """Yield what a token or a reference names, for those who look at the criterion."""
    if parameter.kind == "token" and modifier in {"", "not"}:
        yield token_of(text)
    elif parameter.kind == "reference" and not modifier:
        yield from ((None, reference) for reference in references_of(parameter, text, reading))


def _of_type(parameter: Parameter, texts: Sequence[str]) -> Criterion:
    wanted = [tuple(unescaped(part) for part in divided(text, "|")) for text in texts]
    if any(len(parts) != 3 or not all(parts) for parts in wanted):
        raise Problem(Category.INCORRECT, "of-type takes system|code|value")

    def holds(resource: Mapping[str, Any]) -> bool:
        for branch in parameter.branches:
            for value in at(resource, steps(branch.path)):
                types = value.get("type", {}).get("coding", ()) if isinstance(value, dict) else ()
                named = {(it.get("system", ""), it.get("code", ""), value.get("value", "")) for it in types}
                if not named.isdisjoint(wanted):
                    return True
        return False

    return Criterion(
        name=parameter.name,
        shape=Match("values", parameter.numbers, (VALUE,) * len(wanted)),
        arguments=tuple(key_of(parts[2]) for parts in wanted),
        holds=holds,
    )


def _refers(parameter: Parameter, modifier: str, rest: str, value: str, reading: Reading) -> Criterion:
    """Return a chained condition: of the resource that a reference names (R4, search.html#chaining)."""
    if parameter.kind != "reference":
        raise Problem(Category.INCORRECT, f"'{parameter.name}' is no reference, so nothing can be chained to it")
    targets = [modifier] if modifier else list(parameter.targets)
    if not targets:
        raise Problem(Category.INCORRECT, f"'{parameter.name}' may name any type: write '{parameter.name}:Type.…'")
    first = re.split(r"[.:]", rest, maxsplit=1)[0]
    known = [target for target in targets if target in of_any() and (first in of(target) or first == "_has")]
    if not known:
        raise unknown(targets[0], rest)
    inner = [_exactly(criterion(target, rest, value, reading.below)) for target in known]
    return Criterion(
        name=f"{parameter.name}.",
        shape=Refers(parameter.numbers, tuple((target, (it.shape,)) for target, it in zip(known, inner, strict=True))),
        arguments=tuple(argument for it in inner for argument in it.arguments),
        breadth=1 if all(it.breadth == 0 for it in inner) else 3,
    )


def _referred(kind: str, name: str, value: str, reading: Reading) -> Criterion:
    """Return a condition of the resources that name this one (R4, search.html#has)."""
    parts = name.split(":", 3)
    if len(parts) != 4 or parts[1] not in of_any():
        raise Problem(Category.INCORRECT, "_has is written _has:Type:reference:parameter")
    _, source, reference, rest = parts
    parameter = of(source).get(reference)
    if parameter is None or parameter.kind != "reference":
        raise unknown(source, reference)
    if parameter.targets and kind not in parameter.targets:
        raise Problem(Category.INCORRECT, f"'{reference}' of {source} does not name a {kind}")
    inner = _exactly(criterion(source, rest, value, reading.below))
    return Criterion(
        name="_has",
        shape=Referred(kind, source, parameter.numbers, (inner.shape,)),
        arguments=inner.arguments,
        breadth=3,
    )


def _exactly(found: Criterion) -> Criterion:
    if found.holds is not None:
        raise Problem(Category.INCORRECT, f"'{found.name}' is not supported in a chain in this form")
    return found


def _composite(parameter: Parameter, texts: Sequence[str], reading: Reading) -> Criterion:
    """Return the condition that one element holds all components (R4, search.html#combining)."""
    shapes: list[Shape] = []
    arguments: list[Any] = []
    wanted: list[tuple[Whole, list[Tests]]] = []
    for text in texts:
        values = divided(text, "$")
        for whole in parameter.wholes:
            if len(values) != len(whole.components):
                shown = f"'{parameter.name}' takes {len(whole.components)} values with $ between them"
                raise Problem(Category.INCORRECT, shown)
            tests: list[Tests] = [
                list(tests_of(Parameter(parameter.name, part.kind, part.branches), "", value, reading))
                for part, value in zip(whole.components, values, strict=True)
            ]
            parts = [
                _match(_TABLES[part.kind], tuple(dict.fromkeys(it.number for it in part.branches)), found)
                for part, found in zip(whole.components, tests, strict=True)
            ]
            shapes.append(Every(tuple(parts)))
            arguments += [value for found in tests for _, values_of in found for value in values_of]
            wanted.append((whole, tests))
    return Criterion(
        name=parameter.name,
        shape=shapes[0] if len(shapes) == 1 else Some(tuple(shapes)),
        arguments=tuple(arguments),
        holds=_one_holds(wanted) if any(whole.on for whole in parameter.wholes) else None,
    )


def _one_holds(wanted: Sequence[tuple[Whole, list[Tests]]]) -> Callable[[Mapping[str, Any]], bool]:
    """Return whether one element of a resource has all components, which its index rows alone do not say."""

    def holds(resource: Mapping[str, Any]) -> bool:
        return any(
            all(
                any(_has(resource, element, whole.on, part.kind, branch, tests) for branch in part.branches)
                for part, tests in zip(whole.components, found, strict=True)
            )
            for whole, found in wanted
            for element in (at(resource, steps(whole.on)) if whole.on else (resource,))
        )

    return holds


def _has(resource: Any, element: Any, on: str, kind: Kind, branch: Branch, tests: Tests) -> bool:
    below = branch.path.removeprefix(f"{on}/") if on else branch.path
    start = element if branch.path.startswith(f"{on}/") or not on else resource
    return any(
        meets(_TABLES[kind], test, arguments, row)
        for value in at(start, steps(below))
        for row in values_at(kind, branch, value)
        for test, arguments in tests
    )
