"""Reads the resources of files, and the moments of a CSV file, into a spool."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import orjson

from fhir_adapter.bulk.lines import Line, entries, files, is_lines, line_of, lines, whole
from fhir_adapter.stated import KINDS, may_state, stated_on
from fhir_adapter.store.document import Document
from fhir_adapter.store.problems import Invalid
from fhir_adapter.store.search.index import patient_of
from fhir_adapter.store.times import EARLIEST, point, span
from fhir_adapter.store.validate import Validator
from inference.features.records import StatedCodes
from kernel.errors import Category, Problem
from service.training.spool import Spool, Version
from service.triggers.contract import codes_of


class Known(Enum):
    """Which time of a resource says when it became known."""

    #: ``meta.lastUpdated``: when the server that it comes from stored it.
    STORED = "stored"
    #: ``issued``, else the end of the time that it is about: for files whose ``meta.lastUpdated`` is of their making.
    ISSUED = "issued"


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Which resources a table is made of, beside the Patients."""

    #: Codes of Observations and of their components, of whatever system.
    codes: frozenset[str]
    #: Conditions and medications.
    stated: StatedCodes
    #: Whether Encounters are read.
    admission: bool


def resources(paths: Iterable[Path], read: Callable[[Path, int], None]) -> Iterator[tuple[str, dict[str, Any], bytes]]:
    """Yield each resource of some files: its file and line, its JSON, and its bytes.

    Parameters
    ----------
    paths
        Files of one resource a line, files of one resource or Bundle, and folders of them.
    read
        Called with a file and how many of its bytes were read.

    Raises
    ------
    Problem
        ``incorrect``, naming the file and the line that cannot be read.
    """
    found = files(paths)
    if not found:
        raise Problem(Category.NOT_FOUND, "there are no .ndjson, .jsonl or .json files")
    for path in found:
        if not path.exists():
            raise Problem(Category.NOT_FOUND, f"there is no file {path.name}")
        for line in _lines(path, read):
            place = f"{path.name} line {line.number}"
            if line.problem:
                raise Problem(Category.INCORRECT, f"{place}: {line.problem}")
            yield place, orjson.loads(line.content), line.content


def _lines(path: Path, read: Callable[[Path, int], None]) -> Iterator[Line]:
    if is_lines(path):
        yield from lines(path, lambda size: read(path, size))
        return
    content = whole(path)
    line = line_of(1, content)
    if line.url.startswith("Bundle/"):
        yield from entries(orjson.loads(content))
    else:
        yield line
    read(path, path.stat().st_size)


def read_resources(found: Iterable[tuple[str, dict[str, Any], bytes]], spool: Spool, needs: Needs, known: Known) -> int:
    """Add the resources that a table is made of to a spool; return how many were left out because they name no patient.

    Parameters
    ----------
    found
        What :func:`resources` yields.
    spool
        Where they are added.
    needs
        Which resources are read.
    known
        Which of their times says when they became known.

    Raises
    ------
    Problem
        ``incorrect``, naming the file and the line, and what is missing there.
    """
    validator = Validator()  # that of the store: what the server would have refused is refused here too
    of_nobody = 0
    for place, resource, content in found:
        type_ = resource["resourceType"]
        form = _FORMS.get(type_)
        if form is None or not form.needed(type_, needs):
            continue
        if not _is_read(form, resource, needs):
            _end(resource, spool, known)
            continue
        try:
            validator.check(Document(exact=resource, plain=resource))
            owner, since = _owner(resource), _known(resource, known)
        except Invalid as invalid:
            issue = invalid.issues[0]
            raise Problem(Category.INCORRECT, f"{place}: {issue.expression}: {issue.text}") from invalid
        except Problem as problem:
            raise Problem(problem.category, f"{place}: {problem.detail}") from problem
        if owner is None:
            of_nobody += 1
            spool.add_end(type_, resource["id"], since)
            continue
        version = Version(
            type=type_, id=resource["id"], known=since, place=spool.next_place(), line=place, content=content
        )
        spool.add(owner, version)
    return of_nobody


def _owner(resource: dict[str, Any]) -> str | None:
    return f"Medication/{resource['id']}" if resource["resourceType"] == "Medication" else patient_of(resource)


def _end(resource: dict[str, Any], spool: Spool, known: Known) -> None:
    """Let the versions before end where a resource that is not read replaces them: it has other codes now."""
    try:
        if resource["meta"]["versionId"] != "1":
            spool.add_end(resource["resourceType"], resource["id"], _known(resource, known))
    except (AttributeError, KeyError, TypeError, ValueError, Problem):
        return  # it is not checked, for it is not read


@dataclass(frozen=True, kw_only=True)
class _Form:
    """How resources of one type are read."""

    #: (type, needs) -> whether any of them is read.
    needed: Callable[[str, Needs], bool] = lambda _type, _needs: True
    #: (resource, needs) -> whether it is read.
    is_read: Callable[[dict[str, Any], Needs], bool] = lambda _resource, _needs: True
    #: When a resource says that it became known; None where it does not.
    said: Callable[[dict[str, Any]], datetime | None]
    #: What would have said so.
    missing: str = ""


def _is_read(form: _Form, resource: dict[str, Any], needs: Needs) -> bool:
    """Return whether a resource may have one of some codes; one of a wrong shape may, and is refused later."""
    try:
        return form.is_read(resource, needs)
    except (AttributeError, KeyError, TypeError):
        return True


def _has_code(observation: dict[str, Any], needs: Needs) -> bool:
    parts = (observation, *observation.get("component", ()))
    return not needs.codes.isdisjoint(codes_of(*(part.get("code") for part in parts)))


def _known(resource: dict[str, Any], known: Known) -> datetime:
    if known is Known.STORED:
        instant = point(resource.get("meta", {}).get("lastUpdated"))
        if instant is None:
            raise Problem(Category.INCORRECT, "no meta.lastUpdated says when it was stored; see --known")
        return instant
    form = _FORMS[resource["resourceType"]]
    said = form.said(resource)
    if said is None:
        raise Problem(Category.INCORRECT, f"{form.missing} says when it became known")
    return said


def _issued(observation: dict[str, Any]) -> datetime | None:
    instant = point(observation.get("issued"))
    if instant is not None:
        return instant
    period = observation.get("effectivePeriod", {})
    texts = (observation.get("effectiveDateTime"), observation.get("effectiveInstant"), period.get("end"))
    return next((point(text) or span(text)[1] for text in texts if text is not None), None)


def _began(encounter: dict[str, Any]) -> datetime:
    """Return when a stay began; one without a beginning is no admission."""
    start = encounter.get("period", {}).get("start")
    return EARLIEST if start is None else span(start)[0]


_STATEMENT: Final = _Form(
    needed=lambda type_, needs: KINDS[type_] in needs.stated.kinds,
    is_read=lambda resource, needs: may_state(resource, needs.stated.holds),
    said=stated_on,
    missing="none of recordedDate, authoredOn and dateAsserted",
)
_FORMS: Final[Mapping[str, _Form]] = MappingProxyType(
    {
        "Patient": _Form(said=lambda _: EARLIEST),
        "Observation": _Form(
            needed=lambda _, needs: bool(needs.codes),
            is_read=_has_code,
            said=_issued,
            missing="neither issued nor effective",
        ),
        **dict.fromkeys(KINDS, _STATEMENT),
        "Medication": _Form(needed=lambda _, needs: bool(needs.stated.kinds - {"condition"}), said=lambda _: EARLIEST),
        "Encounter": _Form(needed=lambda _, needs: needs.admission, said=_began),
    }
)
"""Type of the resources that features are made of -> how they are read."""


def read_moments(path: Path, spool: Spool) -> int:
    """Add the moments of a CSV file with the columns ``patient`` and ``time`` to a spool; return how many.

    Parameters
    ----------
    path
        The file.
    spool
        Where they are added.

    Raises
    ------
    Problem
        ``incorrect``, naming the line and what is wrong with it.
    """
    count = 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as source:
            table = csv.DictReader(source)
            missing = {"patient", "time"} - set(table.fieldnames or ())
            if missing:
                raise Problem(Category.INCORRECT, f"{path.name} line 1: there is no column {min(missing)}")
            for row in table:
                spool.add_moment(*_moment(row, f"{path.name} line {table.line_num}"))
                count += 1
    except (OSError, UnicodeDecodeError, csv.Error) as failure:
        raise Problem(Category.INCORRECT, f"{path.name} cannot be read", diagnostics=str(failure)) from failure
    return count


def _moment(row: dict[str, str | None], place: str) -> tuple[str, datetime]:
    patient, time = (row["patient"] or "").strip(), (row["time"] or "").strip()
    if not patient:
        raise Problem(Category.INCORRECT, f"{place}: the patient is missing")
    try:
        at = datetime.fromisoformat(time)
    except ValueError as failure:
        raise Problem(Category.INCORRECT, f"{place}: the time is not of the form 2026-01-15T11:00:00Z") from failure
    if at.tzinfo is None:
        raise Problem(Category.INCORRECT, f"{place}: the time has no time zone")
    return (patient if patient.startswith("Patient/") else f"Patient/{patient}"), at
