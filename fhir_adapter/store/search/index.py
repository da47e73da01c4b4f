"""The index rows of a resource (R4, search.html#token, #reference, #date, #string)."""

import hashlib
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

from fhir_adapter.store.document import Json
from fhir_adapter.store.search.parameters import Kind, Parameter, indexed
from fhir_adapter.store.times import EARLIEST, LATEST, span
from kernel.errors import Problem

Row = dict[str, Any]
"""A row of ``resource_index`` or ``resource_dates`` without the resource's key."""


@dataclass(frozen=True, kw_only=True)
class IndexRows:
    """What the index holds of one resource; each row once."""

    #: Of tokens, references and strings.
    values: Sequence[Row]
    #: Of dates.
    dates: Sequence[Row]


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
    values: dict[tuple[Any, ...], Row] = {}
    dates: dict[tuple[Any, ...], Row] = {}
    for parameter, number, paths in _prepared(resource["resourceType"]):
        found, row_of = (dates, _dates) if parameter.kind == "date" else (values, _values)
        for first, below in paths:
            if first not in resource:
                continue
            for value in _at(resource[first], below):
                for row in row_of(parameter, number, value):
                    found[tuple(row.values())] = row
    return IndexRows(values=list(values.values()), dates=list(dates.values()))


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


def _values(parameter: Parameter, number: int, value: Any) -> Iterator[Row]:
    for system, text in _VALUES[parameter.kind](parameter, value):
        yield {"param": number, "value": key_of(text), "system": key_of(system)}


def _token(parameter: Parameter, value: Any) -> Iterator[tuple[str, str]]:
    if type(value) is not dict:
        yield "", str(value).lower() if type(value) is bool else str(value)
    elif "coding" in value:
        for coding in value["coding"]:
            yield from _token(parameter, coding)
    else:
        code = value.get("code", value.get("value"))
        if code is not None:
            yield value.get("system", ""), code


def _reference(parameter: Parameter, value: Any) -> Iterator[tuple[str, str]]:
    reference = local(value.get("reference", "")) if type(value) is dict else ""
    if reference and not reference.startswith("#"):
        target = reference.rsplit("/", 2)[-2] if "/" in reference else ""
        if not parameter.restrict_to_targets or target in parameter.targets:
            yield "", reference


def _string(parameter: Parameter, value: Any) -> Iterator[tuple[str, str]]:  # noqa: ARG001 - as the others
    if type(value) is str:
        yield "", fold(value)[:LONGEST_VALUE]
    elif type(value) is dict:
        for part in _NAME_PARTS:
            for text in _at(value, (part,)):
                yield "", fold(text)[:LONGEST_VALUE]


def _dates(parameter: Parameter, number: int, value: Any) -> Iterator[Row]:  # noqa: ARG001 - as the others
    try:
        if type(value) is dict:
            low = span(value["start"])[0] if "start" in value else EARLIEST
            high = span(value["end"])[1] if "end" in value else LATEST
        else:
            low, high = span(value)
    except Problem:
        return  # valid R4, but no time that can be compared
    yield {"param": number, "low": seconds(low), "high": seconds(high)}


_VALUES: Final[Mapping[Kind, Any]] = {"token": _token, "reference": _reference, "string": _string}


@cache
def _prepared(kind: str) -> tuple[tuple[Parameter, int, tuple[tuple[str, tuple[str, ...]], ...]], ...]:
    """Return the parameters of a type: each with its number and its paths, of which the first name is apart."""
    return tuple(
        (parameter, number_of(kind, parameter.name), tuple(_split(path) for path in parameter.paths))
        for parameter in indexed(kind)
    )


def _split(path: str) -> tuple[str, tuple[str, ...]]:
    first, *below = path.split(".")
    return first, tuple(below)
