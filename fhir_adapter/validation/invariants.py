"""The invariants of a structure, as functions of its JSON.

Each is compiled from its FHIRPath (:mod:`fhir_adapter.validation.fhirpath`), except those in :data:`WRITTEN`: the
invariants of elements that occur most, for speed, and those that compare dates or quantities of different precision.
``dom-2`` to ``dom-5`` and ``ref-1`` concern a resource as a whole (:mod:`fhir_adapter.validation.contained`), ``txt-1``
and ``txt-2`` are :mod:`fhir_adapter.validation.narrative`, and ``ele-1`` is checked for every element.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from fhir_adapter.store.times import span
from fhir_adapter.validation.fhirpath import compile_expression
from fhir_adapter.validation.fhirpath_functions import UnsupportedError
from fhir_adapter.validation.records import Constraint, Definitions, Structure

Json: TypeAlias = Mapping[str, Any]
Holds: TypeAlias = Callable[[Any], bool]

_DATE_LENGTH: Final = len("2026-01-31")
_UCUM: Final = "http://unitsofmeasure.org"
ELSEWHERE: Final = frozenset({"dom-2", "dom-3", "dom-4", "dom-5", "ref-1", "txt-1", "txt-2", "ele-1"})
"""Checked by other modules than this one."""
UNCHECKED: Final[Mapping[str, str]] = {
    "ctm-1": "it resolves a reference, and the target may be on another server",
    "sdf-8": "it compares a snapshot with the resource around it",
    "sdf-8a": "it compares a differential with the resource around it",
}
"""Invariants of R4 with severity ``error`` that are not checked, and why."""


class Invariant(NamedTuple):
    """One rule, ready to be checked."""

    key: str
    human: str
    holds: Holds


def has_choice(value: Json, stem: str) -> bool:
    """Return whether an object has a choice of types, or the extensions of one.

    Parameters
    ----------
    value
        The object.
    stem
        The element's name without ``[x]``.
    """
    length = len(stem)
    for name in value:
        if name.startswith(stem) and name[length : length + 1].isupper():
            return True
        if name[:1] == "_" and name.startswith(stem, 1) and name[length + 1 : length + 2].isupper():
            return True
    return False


def _has(value: Json, name: str) -> bool:
    return name in value or f"_{name}" in value


def _together(name: str, needed: str) -> Holds:
    return lambda it: not _has(it, name) or _has(it, needed)


def _ext_1(extension: Json) -> bool:
    # A second name beside url is enough to tell, and most extensions have no third.
    return ("extension" in extension) != has_choice(extension, "value")


def _codings(concept: Json) -> set[tuple[str, str]]:
    return {(it.get("system", ""), it.get("code", "")) for it in concept.get("coding", ())}


def _obs_6(observation: Json) -> bool:
    return "dataAbsentReason" not in observation or not has_choice(observation, "value")


def _obs_7(observation: Json) -> bool:
    if "component" not in observation or not has_choice(observation, "value"):
        return True
    own = _codings(observation.get("code", {}))
    return not any(own & _codings(it.get("code", {})) for it in observation["component"])


def _not_before(earlier: str, later: str) -> Holds:
    """Compare two dates as spans: R4 lets one be a month and the other an instant."""

    def holds(value: Json) -> bool:
        first, second = value.get(earlier), value.get(later)
        if first is None or second is None:
            return True
        if len(first) == len(second) and (len(first) <= _DATE_LENGTH or first[-1] == second[-1] == "Z"):
            return bool(first <= second)
        return span(first)[0] < span(second)[1]

    return holds


def _rng_2(range_: Json) -> bool:
    low, high = range_.get("low", {}), range_.get("high", {})
    if any(low.get(name) != high.get(name) for name in ("unit", "system", "code")):
        return True  # FHIRPath compares quantities of different units only after a conversion
    return "value" not in low or "value" not in high or bool(low["value"] <= high["value"])


def _ras_1(probability: Any) -> bool:
    # The element is a decimal or a Range.
    ends = [probability.get(end) if type(probability) is dict else None for end in ("low", "high")]
    return all(end is None or (end.get("code") == "%" and end.get("system") == _UCUM) for end in ends)


def _ras_2(prediction: Json) -> bool:
    return bool(prediction.get("probabilityDecimal", 0) <= 100)


def _any_of(*names: str) -> Holds:
    return lambda it: any(_has(it, name) for name in names)


def _not_both(first: str, second: str) -> Holds:
    return lambda it: not (_has(it, first) and _has(it, second))


def _bdl_2(bundle: Json) -> bool:
    return bundle.get("type") == "searchset" or not any("search" in it for it in bundle.get("entry", ()))


def _exactly_in(name: str, types: frozenset[str]) -> Holds:
    """Each entry has the element in a Bundle of one of these types, and none has it in any other."""

    def holds(bundle: Json) -> bool:
        expected = bundle.get("type") in types
        return all((name in it) is expected for it in bundle.get("entry", ()))

    return holds


def _bdl_7(bundle: Json) -> bool:
    if bundle.get("type") == "history":
        return True
    named = [
        (it["fullUrl"], it.get("resource", {}).get("meta", {}).get("versionId", ""))
        for it in bundle.get("entry", ())
        if "fullUrl" in it
    ]
    return len(set(named)) == len(named)


def _ig_1(definition: Json) -> bool:
    known = {it.get("id") for it in definition.get("grouping", ())}
    return all(it["groupingId"] in known for it in definition.get("resource", ()) if "groupingId" in it)


def _ig_2(guide: Json) -> bool:
    known = set(guide.get("fhirVersion", ()))
    resources = guide.get("definition", {}).get("resource", ())
    return all(version in known for it in resources for version in it.get("fhirVersion", ()))


WRITTEN: Final[Mapping[str, Holds]] = {
    "att-1": _together("data", "contentType"),
    "bdl-2": _bdl_2,
    "bdl-3": _exactly_in("request", frozenset({"batch", "transaction", "history"})),
    "bdl-4": _exactly_in("response", frozenset({"batch-response", "transaction-response", "history"})),
    "bdl-5": _any_of("resource", "request", "response"),
    "bdl-7": _bdl_7,
    "bdl-8": lambda it: "/_history/" not in it.get("fullUrl", ""),
    "cpt-2": _together("value", "system"),
    "ext-1": _ext_1,
    "ig-1": _ig_1,
    "ig-2": _ig_2,
    "inv-1@Task": _not_before("authoredOn", "lastModified"),
    "mdd-1": _not_before("whenPrepared", "whenHandedOver"),
    "obs-3": lambda it: _has(it, "low") or _has(it, "high") or _has(it, "text"),
    "obs-6": _obs_6,
    "obs-7": _obs_7,
    "pat-1": _any_of("name", "telecom", "address", "organization"),
    "per-1": _not_before("start", "end"),
    "qty-3": _together("code", "system"),
    "prr-1": _together("orderDetail", "code"),
    "ras-1": _ras_1,
    "ras-2": _ras_2,
    "rng-2": _rng_2,
    "sev-1": _not_both("name", "query"),
}
"""Key -> function of an element of the right structure."""

WRITTEN_FOR_PROFILES: Final[Mapping[str, Holds]] = {
    # Of vital signs. Its FHIRPath has no result for a Period, of which the rule says nothing.
    "vs-1": lambda it: type(it) is not str or len(it) >= _DATE_LENGTH,
}
"""Key -> function of an element, for rules of profiles that are shipped."""


def of_structure(structure: Structure, definitions: Definitions) -> tuple[Invariant, ...]:
    """Return the invariants of a structure.

    Parameters
    ----------
    structure
        The structure.
    definitions
        Where the names of choices come from.
    """
    own = [Constraint(key="ext-1", human=_EXT_1, expression="")] if structure.base == "Extension" else []
    is_resource = structure.base in definitions.resources
    constraints = (*own, *structure.constraints)
    return tuple(_compiled(constraints, structure.base, definitions, is_resource=is_resource))


_EXT_1: Final = "Must have either extensions or value[x], not both"


def of_constraints(constraints: tuple[Constraint, ...], definitions: Definitions) -> tuple[Invariant, ...]:
    """Return the invariants that an element has beside those of its type.

    Parameters
    ----------
    constraints
        The element's constraints.
    definitions
        Where the names of choices come from.
    """
    return tuple(_compiled(constraints, "", definitions, is_resource=False))


def _compiled(
    constraints: tuple[Constraint, ...], structure: str, definitions: Definitions, *, is_resource: bool
) -> Iterator[Invariant]:
    for constraint in constraints:
        key = constraint.key
        if key in ELSEWHERE:
            continue
        holds = WRITTEN.get(f"{key}@{structure}") or WRITTEN.get(key) or WRITTEN_FOR_PROFILES.get(key)
        if holds is not None:
            yield Invariant(key, constraint.human, holds)
        elif is_resource or "%resource" not in constraint.expression:
            compiled = expression(constraint, definitions)
            if compiled is not None:
                yield Invariant(key, constraint.human, compiled)


def expression(constraint: Constraint, definitions: Definitions) -> Holds | None:
    """Return the function of a constraint's FHIRPath; None when it cannot be compiled.

    Parameters
    ----------
    constraint
        The constraint.
    definitions
        Where the names of choices come from.
    """
    try:
        holds = compile_expression(constraint.expression, definitions.choices)
    except UnsupportedError:
        return None
    return lambda value: holds(value, value)
