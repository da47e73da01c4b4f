"""The index rows of a resource (R4, search.html#token, #reference, #date, #string)."""

import hashlib
import unicodedata
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, Final, TypeAlias

from fhir_adapter.store.document import Json
from fhir_adapter.store.search.parameters import Kind, indexed
from fhir_adapter.store.times import EARLIEST, LATEST, span
from kernel.errors import Problem

Value: TypeAlias = tuple[int, str, str]
"""A row of ``resource_index`` without the resource's key: number of the parameter, value, system."""
Span: TypeAlias = tuple[int, float, float]
"""A row of ``resource_dates`` without the resource's key: number of the parameter, start and end."""


@dataclass(frozen=True, kw_only=True)
class IndexRows:
    """What the index holds of one resource; each row once."""

    #: Of tokens, references and strings.
    values: Sequence[Value]
    #: Of dates.
    dates: Sequence[Span]


VALUE_COLUMNS: Final = ("param", "value", "key", "system")
DATE_COLUMNS: Final = ("key", "param", "low", "high")
"""Columns of the two tables in their order."""

LONGEST_VALUE: Final = 512
"""Most characters of a value in the index; four bytes each are within what PostgreSQL can index."""
_STEM: Final = LONGEST_VALUE - 64

_NAME_PARTS: Final = ("text", "family", "given", "prefix", "suffix")
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
    for element, rest, number, kind, targets in _prepared(resource["resourceType"]):
        found = resource.get(element)
        if found is None:
            continue
        for value in (found,) if not rest and type(found) is not list else _at(found, rest):
            if kind == "token":
                _add_tokens(values, number, value)
            elif kind == "reference":
                _add_reference(values, number, value, targets)
            elif kind == "date":
                if (span := _span(value)) is not None:
                    dates.append((number, *span))
            else:
                values += [(number, text, "") for text in _strings(value)]
    return IndexRows(values=list(dict.fromkeys(values)), dates=list(dict.fromkeys(dates)))


def value_rows(made: Iterable[tuple[int, IndexRows]]) -> list[tuple[int, str, int, str]]:
    """Return the rows of ``resource_index`` of resources by their keys, in the order in which the table keeps them."""
    return sorted([(number, value, key, system) for key, one in made for number, value, system in one.values])


def date_rows(made: Iterable[tuple[int, IndexRows]]) -> list[tuple[int, int, float, float]]:
    """Return the rows of ``resource_dates`` of resources by their keys."""
    return [(key, *row) for key, one in made for row in one.dates]


@cache
def number_of(kind: str, name: str) -> int:
    """Return how the index names a search parameter of a type: 31 bits that depend on the two names only.

    Parameters
    ----------
    kind
        Resource type.
    name
        Name of the search parameter.
    """
    return zlib.crc32(f"{kind}.{name}".encode()) & 0x7FFF_FFFF


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


def local(reference: str) -> str:
    """Return a reference without its version, as it is indexed."""
    return reference.split("/_history/", 1)[0]


def fold(text: str) -> str:
    """Return text in the form in which strings are compared: without case, accents and surrounding space."""
    decomposed = unicodedata.normalize("NFKD", text.strip())
    return "".join(character for character in decomposed if not unicodedata.combining(character)).casefold()


def key_of(text: str) -> str:
    """Return a text as the index holds it: a longer one than an index of PostgreSQL may hold by its start and digest.

    Parameters
    ----------
    text
        A code or a reference.
    """
    if len(text) <= LONGEST_VALUE:
        return text
    return text[:_STEM] + hashlib.sha256(text.encode()).hexdigest()


def seconds(moment: datetime) -> float:
    """Return an instant in the form of the index: seconds since 1970."""
    return moment.timestamp()


def _at(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if type(value) is list:
        for item in value:
            yield from _at(item, path)
    elif not path:
        if value is not None:
            yield value
    elif type(value) is dict and path[0] in value:
        yield from _at(value[path[0]], path[1:])


def _add_tokens(values: list[Value], number: int, value: Any) -> None:
    if type(value) is not dict:
        values.append((number, key_of(str(value).lower() if type(value) is bool else str(value)), ""))
    elif "coding" in value:
        for coding in value["coding"]:
            _add_tokens(values, number, coding)
    else:
        code = value.get("code", value.get("value"))
        if code is not None:
            values.append((number, key_of(code), key_of(value.get("system", ""))))


def _add_reference(values: list[Value], number: int, value: Any, targets: tuple[str, ...] | None) -> None:
    reference = local(value.get("reference", "")) if type(value) is dict else ""
    if reference and not reference.startswith("#"):
        target = reference.rsplit("/", 2)[-2] if "/" in reference else ""
        if targets is None or target in targets:
            values.append((number, key_of(reference), ""))


def _strings(value: Any) -> Iterator[str]:
    if type(value) is str:
        yield fold(value)[:LONGEST_VALUE]
    elif type(value) is dict:
        for part in _NAME_PARTS:
            for text in _at(value, (part,)):
                yield fold(text)[:LONGEST_VALUE]


def _span(value: Any) -> tuple[float, float] | None:
    """Return start and end of a date or a Period; None for valid R4 that is no time that can be compared."""
    try:
        if type(value) is not dict:
            return _span_of_text(value)
        low = span(value["start"])[0] if "start" in value else EARLIEST
        high = span(value["end"])[1] if "end" in value else LATEST
    except Problem:
        return None
    return seconds(low), seconds(high)


@lru_cache(maxsize=256)
def _span_of_text(text: str) -> tuple[float, float]:
    low, high = span(text)
    return seconds(low), seconds(high)


@cache
def _prepared(kind: str) -> tuple[tuple[str, tuple[str, ...], int, Kind, tuple[str, ...] | None], ...]:
    """Return for each path: its first step, the others, the parameter's number and kind, and the only types indexed."""
    return tuple(
        (
            path.split(".")[0],
            tuple(path.split(".")[1:]),
            number_of(kind, parameter.name),
            parameter.kind,
            parameter.targets if parameter.restrict_to_targets else None,
        )
        for parameter in indexed(kind)
        for path in parameter.paths
    )
