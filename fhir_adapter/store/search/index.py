"""The index rows of a resource (R4, search.html#token, #reference, #date, #string)."""

import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any, Final

from fhir_adapter.store.document import Json
from fhir_adapter.store.search.parameters import Kind, Parameter, indexed
from fhir_adapter.store.times import EARLIEST, LATEST, span
from kernel.errors import Problem

Row = dict[str, Any]
"""A row of ``resource_index`` without the resource's own type and id."""

_NAME_PARTS: Final = ("text", "family", "given", "prefix", "suffix")
_SUBJECTS: Final = ("subject", "patient", "for", "beneficiary", "individual")


def rows(resource: Json) -> list[Row]:
    """Return the index rows of a resource; each row once.

    Parameters
    ----------
    resource
        Plain JSON of a valid resource.
    """
    found: dict[tuple[Any, ...], Row] = {}
    for parameter, paths in _prepared(resource["resourceType"]):
        for path in paths:
            for value in _at(resource, path):
                for row in _ROWS[parameter.kind](parameter, value):
                    found[tuple(row.values())] = row
    return list(found.values())


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


def _row(parameter: Parameter, **columns: Any) -> Row:
    return {"param": parameter.name, "system": None, "value": None, "low": None, "high": None} | columns


def _token(parameter: Parameter, value: Any) -> Iterator[Row]:
    if type(value) is not dict:
        yield _row(parameter, value=str(value).lower() if type(value) is bool else str(value))
    elif "coding" in value:
        for coding in value["coding"]:
            yield from _token(parameter, coding)
    else:
        code = value.get("code", value.get("value"))
        if code is not None:
            yield _row(parameter, system=value.get("system"), value=code)


def _reference(parameter: Parameter, value: Any) -> Iterator[Row]:
    reference = local(value.get("reference", "")) if type(value) is dict else ""
    if reference and not reference.startswith("#"):
        target = reference.rsplit("/", 2)[-2] if "/" in reference else ""
        if not parameter.restrict_to_targets or target in parameter.targets:
            yield _row(parameter, value=reference)


def _date(parameter: Parameter, value: Any) -> Iterator[Row]:
    try:
        if type(value) is dict:
            low = span(value["start"])[0] if "start" in value else EARLIEST
            high = span(value["end"])[1] if "end" in value else LATEST
        else:
            low, high = span(value)
    except Problem:
        return  # valid R4, but no time that can be compared
    yield _row(parameter, low=seconds(low), high=seconds(high))


def _string(parameter: Parameter, value: Any) -> Iterator[Row]:
    if type(value) is str:
        yield _row(parameter, value=fold(value))
    elif type(value) is dict:
        for part in _NAME_PARTS:
            for text in _at(value, (part,)):
                yield _row(parameter, value=fold(text))


_ROWS: Final[Mapping[Kind, Any]] = {"token": _token, "reference": _reference, "date": _date, "string": _string}


@cache
def _prepared(kind: str) -> tuple[tuple[Parameter, tuple[tuple[str, ...], ...]], ...]:
    return tuple((parameter, tuple(tuple(path.split(".")) for path in parameter.paths)) for parameter in indexed(kind))
