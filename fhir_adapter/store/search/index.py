"""The index rows of a resource (R4, search.html): what stands at the branches of its type's search parameters."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

from fhir_adapter.store.document import Json
from fhir_adapter.store.search.pairs import pair_rows
from fhir_adapter.store.search.parameters import Branch, Kind, branches_of
from fhir_adapter.store.search.paths import Steps, at, steps
from fhir_adapter.store.search.values import (
    LONGEST_VALUE,
    Measured,
    fold,
    key_of,
    local,
    number,
    period,
    quantity,
    strings,
)

Value: TypeAlias = tuple[int, str, str]
"""A row of ``resource_index`` without the resource's key: number of the branch, value, system.

The system of a string is the text as it was written, when that is another one.
"""
Span: TypeAlias = tuple[int, float, float]
"""A row of ``resource_dates`` without the resource's key: number of the branch, start and end."""


@dataclass(frozen=True, kw_only=True)
class IndexRows:
    """What the index holds of one resource; each row once."""

    #: Of tokens, references, strings and URIs.
    values: Sequence[Value]
    #: Of dates.
    dates: Sequence[Span]
    #: Of numbers and quantities, each after the number of its branch.
    measures: Sequence[tuple[int, Measured]]


VALUE_COLUMNS: Final = ("param", "value", "key", "system")
DATE_COLUMNS: Final = ("key", "param", "low", "high")
MEASURE_COLUMNS: Final = ("param", "unit", "low", "key", "high", "written_low", "written_high", "code", "text")
"""Columns of the three tables in their order."""

_SUBJECTS: Final = ("subject", "patient", "for", "beneficiary", "individual")


def rows(resource: Json) -> IndexRows:
    """Return the index rows of a resource.

    Parameters
    ----------
    resource
        Plain JSON of a valid resource.
    """
    values: list[Value] = []
    dates: list[Span] = []
    measures: list[tuple[int, Measured]] = []
    plan = _plan(resource["resourceType"])
    for element, found in resource.items():
        for rest, branch, kind, add in plan.get(element, ()):
            for value in (found,) if rest is None and type(found) is not list else at(found, rest or ()):
                if add is not None:
                    before = len(values)
                    add(values, branch, value)
                    if len(values) == before:  # it is there, and has nothing to compare: only a text, say
                        values.append((branch.number, "", ""))
                elif kind == "date":
                    if (span := period(value)) is not None:
                        dates.append((branch.number, *span))
                elif (measured := number(value) if kind == "number" else quantity(value)) is not None:
                    measures.append((branch.number, measured))
    values += [
        (branch, "true" if _is_deceased(resource) else "false", "")
        for branch in _DERIVED.get(resource["resourceType"], ())
    ]
    values += pair_rows(resource["resourceType"], tuple(values))
    return IndexRows(
        values=list(dict.fromkeys(values)), dates=list(dict.fromkeys(dates)), measures=list(dict.fromkeys(measures))
    )


def value_rows(made: Iterable[tuple[int, IndexRows]]) -> list[tuple[int, str, int, str]]:
    """Return the rows of ``resource_index`` of resources by their keys, in the order in which the table keeps them."""
    return sorted([(number, value, key, system) for key, one in made for number, value, system in one.values])


def date_rows(made: Iterable[tuple[int, IndexRows]]) -> list[tuple[int, int, float, float]]:
    """Return the rows of ``resource_dates`` of resources by their keys."""
    return [(key, *row) for key, one in made for row in one.dates]


def measure_rows(made: Iterable[tuple[int, IndexRows]]) -> list[tuple[Any, ...]]:
    """Return the rows of ``resource_measures`` of resources by their keys, in the order of the table."""
    return sorted(
        (branch, it.unit, it.low, key, it.high, it.written_low, it.written_high, it.code, it.text)
        for key, one in made
        for branch, it in one.measures
    )


def patient_of(resource: Json) -> str | None:
    """Return the reference of the patient whom a resource concerns, None when it concerns no single patient."""
    if resource["resourceType"] == "Patient":
        return f"Patient/{resource['id']}" if "id" in resource else None
    for name in _SUBJECTS:
        subject = resource.get(name)
        if isinstance(subject, dict):
            reference = local(subject.get("reference", ""))
            if reference.startswith("Patient/"):
                return reference
    return None


def values_at(kind: Kind, branch: Branch, value: Any) -> Iterator[Any]:
    """Yield what the index holds of one element: value and system, start and end, or a :class:`Measured`.

    Parameters
    ----------
    kind
        Of the parameter.
    branch
        Where the element stands.
    value
        The element.
    """
    if kind == "date":
        found = period(value)
        yield from (found,) if found is not None else ()
    elif kind in {"number", "quantity"}:
        measured = number(value) if kind == "number" else quantity(value)
        yield from (measured,) if measured is not None else ()
    else:
        added: list[Value] = []
        _ADD[kind](added, branch, value)
        yield from ((text, system) for number, text, system in added if number == branch.number)


def _add_token(values: list[Value], branch: Branch, value: Any) -> None:
    if type(value) is not dict:
        values.append((branch.number, key_of(str(value).lower() if type(value) is bool else str(value)), ""))
    elif "coding" in value:
        values += [
            (branch.number, key_of(coding["code"]), key_of(coding.get("system", "")))
            for coding in value["coding"]
            if "code" in coding
        ]
    else:
        code = value.get("code", value.get("value"))
        if code is not None:
            values.append((branch.number, key_of(code), key_of(value.get("system", ""))))


def _add_reference(values: list[Value], branch: Branch, value: Any) -> None:
    if type(value) is str:  # a canonical, with or without its version
        values.append((branch.number, key_of(value), ""))
        url, bar, _ = value.partition("|")
        if bar:
            values.append((branch.number, key_of(url), ""))
    elif "resourceType" in value:
        if "id" in value:
            values.append((branch.number, f"{value['resourceType']}/{value['id']}", ""))
    else:
        reference = local(value.get("reference", ""))
        is_found = bool(reference) and not reference.startswith("#")
        values.append((branch.number, key_of(reference) if is_found else "", ""))
        identifier = value.get("identifier")
        if identifier is not None and "value" in identifier:
            values.append((branch.identifiers, key_of(identifier["value"]), key_of(identifier.get("system", ""))))


def _add_string(values: list[Value], branch: Branch, value: Any) -> None:
    for text in strings(value):
        folded = fold(text)[:LONGEST_VALUE]
        values.append((branch.number, folded, "" if text == folded else text[:LONGEST_VALUE]))


def _add_uri(values: list[Value], branch: Branch, value: Any) -> None:
    if type(value) is str:
        values.append((branch.number, key_of(value), ""))
        url, bar, _ = value.partition("|")
        if bar and branch.type == "canonical":
            values.append((branch.number, key_of(url), ""))


_Add: TypeAlias = Callable[[list[Value], Branch, Any], None]
_ADD: Final[Mapping[str, _Add]] = {
    "token": _add_token,
    "reference": _add_reference,
    "string": _add_string,
    "uri": _add_uri,
}


def _is_deceased(patient: Json) -> bool:
    return "deceasedDateTime" in patient or patient.get("deceasedBoolean") is True


_DERIVED: Final = {
    "Patient": tuple(branch.number for _, branch in branches_of("Patient") if branch.path == "!deceased")
}
"""Type -> branches whose value is computed."""


@cache
def _plan(kind: str) -> Mapping[str, Sequence[tuple[Steps | None, Branch, Kind, _Add | None]]]:
    """Return for each element of a type: the further steps of each branch below it, and what adds its rows.

    The steps are None where the element itself is meant, and it is not in a list.
    """
    plan: dict[str, list[tuple[Steps | None, Branch, Kind, _Add | None]]] = {}
    for how, branch in branches_of(kind):
        if branch.path.startswith("!"):
            continue
        first, *rest = steps(branch.path)
        below = (first.of_itself, *rest) if first.of_itself.is_limited else tuple(rest)
        plan.setdefault(first.name, []).append((below or None, branch, how, _ADD.get(how)))
    return plan
