"""Reads the resources of files, and the moments of a CSV file, into a spool."""

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final

import orjson

from fhir_adapter.bulk.lines import Line, entries, files, is_lines, line_of, lines, whole
from fhir_adapter.store.document import Document
from fhir_adapter.store.problems import Invalid
from fhir_adapter.store.search.index import patient_of
from fhir_adapter.store.times import EARLIEST, point, span
from fhir_adapter.store.validate import Validator
from kernel.errors import Category, Problem
from service.training.spool import Spool, Version
from service.triggers.contract import codes_of

TYPES: Final = frozenset({"Patient", "Observation"})
"""Types of the resources that features are made of."""


class Known(Enum):
    """Which time of a resource says when it became known."""

    #: ``meta.lastUpdated``: when the server that it comes from stored it.
    STORED = "stored"
    #: ``issued``, else the end of the time that it is about: for files whose ``meta.lastUpdated`` is of their making.
    ISSUED = "issued"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What was read, and what was left out."""

    read: int = 0
    #: Observations of no patient that a reference of the kind ``Patient/<id>`` names.
    of_nobody: int = 0


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


def read_resources(
    found: Iterable[tuple[str, dict[str, Any], bytes]], spool: Spool, codes: frozenset[str], known: Known
) -> Counts:
    """Add the Patients, and the Observations that have one of some codes, to a spool.

    Parameters
    ----------
    found
        What :func:`resources` yields.
    spool
        Where they are added.
    codes
        Codes of Observations and of their components, of whatever system.
    known
        Which of their times says when they became known.

    Raises
    ------
    Problem
        ``incorrect``, naming the file and the line, and what is missing there.
    """
    validator = Validator()  # that of the store: what the server would have refused is refused here too
    count = of_nobody = 0
    for place, resource, content in found:
        type_ = resource["resourceType"]
        if type_ not in TYPES:
            continue
        if type_ == "Observation" and not _is_read(resource, codes):
            continue
        try:
            validator.check(Document(exact=resource, plain=resource))
            patient, since = patient_of(resource), _known(resource, known)
        except Invalid as invalid:
            issue = invalid.issues[0]
            raise Problem(Category.INCORRECT, f"{place}: {issue.expression}: {issue.text}") from invalid
        except Problem as problem:
            raise Problem(problem.category, f"{place}: {problem.detail}") from problem
        if patient is None:
            of_nobody += 1
            continue
        count += 1
        version = Version(
            type=type_, id=resource["id"], known=since, place=spool.next_place(), line=place, content=content
        )
        spool.add(patient, version)
    return Counts(read=count, of_nobody=of_nobody)


def _is_read(observation: dict[str, Any], codes: frozenset[str]) -> bool:
    """Return whether an Observation may have one of some codes; one of a wrong shape may, and is refused later."""
    try:
        parts = (observation, *observation.get("component", ()))
        return not codes.isdisjoint(codes_of(*(part.get("code") for part in parts)))
    except (AttributeError, TypeError):
        return True


def _known(resource: dict[str, Any], known: Known) -> datetime:
    if known is Known.STORED:
        instant = point(resource.get("meta", {}).get("lastUpdated"))
        if instant is None:
            raise Problem(Category.INCORRECT, "no meta.lastUpdated says when it was stored; see --known")
        return instant
    if resource["resourceType"] == "Patient":
        return EARLIEST
    instant = point(resource.get("issued"))
    if instant is not None:
        return instant
    period = resource.get("effectivePeriod", {})
    for text in (resource.get("effectiveDateTime"), resource.get("effectiveInstant"), period.get("end")):
        if text is not None:
            return point(text) or span(text)[1]
    raise Problem(Category.INCORRECT, "neither issued nor effective says when it became known")


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
