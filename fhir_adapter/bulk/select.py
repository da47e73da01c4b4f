"""Reads the resources of an export, page by page, as they were when its time was fixed.

Every version is kept, so a later change takes nothing away: of each resource the newest version of that time is read.
Filters are asked of the index, which knows the newest versions alone: what was changed since is judged by how it is
now, and exported as it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import orjson
from sqlalchemy import and_, bindparam, func, or_, select

from fhir_adapter.store.search.comparisons import Names
from fhir_adapter.store.search.compartments import PATIENT
from fhir_adapter.store.search.conditions import Tag, matching
from fhir_adapter.store.search.index import rows
from fhir_adapter.store.search.parameters import of
from fhir_adapter.store.search.query import Query
from fhir_adapter.store.search.shapes import Shape
from fhir_adapter.store.versions import COLUMNS, StoredVersion, stored
from kernel.columns import Instant
from kernel.db import Database
from kernel.statements import Statement
from kernel.tables import resource_heads, resource_versions

PAGE: Final = 500
_HEADS: Final = resource_heads.c
_VERSIONS: Final = resource_versions.c
_SUBJECTS: Final = frozenset({"subject", "patient", "beneficiary", "individual"})


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is exported of one type."""

    type: str
    #: Number of the newest version when the time of the export was fixed.
    as_of: int
    since: datetime | None = None
    #: A resource meets one of them at least; every one does when there are none.
    filters: tuple[Query, ...] = ()
    #: Whether only what concerns a patient belongs to it.
    of_patients: bool = False
    #: References of the only patients; None for all.
    patients: frozenset[str] | None = None
    #: Resources with this tag are left out, unless a filter asks for the tag.
    hidden: Tag | None = None


def pages(database: Database, selection: Selection) -> Iterator[list[StoredVersion]]:
    """Yield the resources of a selection, deletions included where there is a ``since``, in the order of their ids.

    Parameters
    ----------
    database
        Where they are stored; no connection is held between two pages.
    selection
        What to read.
    """
    after = ""
    statement = _statement(
        selection.type,
        tuple(tuple(criterion.shape for criterion in query.criteria) for query in selection.filters),
        selection.since is not None,
        selection.hidden,
    )
    values = [value for query in selection.filters for it in query.criteria for value in it.arguments]
    bound = {f"v{place}": value for place, value in enumerate(values)} | {
        "of_type": selection.type,
        "as_of": selection.as_of,
        "most": PAGE,
    }
    if selection.since is not None:
        bound["since"] = selection.since
    while True:
        with database.read() as connection:
            found: list[Any] = statement.run(connection, bound | {"after": after}).all()
        if found:
            yield [stored(row) for row in found if _belongs(row, selection)]
        if len(found) < PAGE:
            return
        after = found[-1].id


@lru_cache(maxsize=256)
def _statement(kind: str, filters: tuple[tuple[Shape, ...], ...], has_since: bool, hidden: Tag | None) -> Statement:  # noqa: FBT001 - of a cache
    names = Names()
    earlier = resource_versions.alias()
    newest = select(func.max(earlier.c.version)).where(earlier.c.key == _HEADS.key, earlier.c.seq <= bindparam("as_of"))
    statement = (
        select(*COLUMNS)
        .select_from(resource_heads)
        .join(resource_versions, and_(_VERSIONS.key == _HEADS.key, _VERSIONS.version == newest.scalar_subquery()))
    )
    conditions: list[Any] = [_HEADS.type == kind, _HEADS.id > bindparam("after")]
    met = [
        and_(*(matching(kind, resource_heads, shape, names, hidden=hidden) for shape in shapes)) for shapes in filters
    ]
    if met:
        conditions.append(or_(*met, _VERSIONS.content.is_(None)) if has_since else or_(*met))
    for place, one in enumerate(met if len(met) > 1 else ()):
        statement = statement.add_columns(one.label(f"f{place}"))
    conditions.append(
        _VERSIONS.last_updated >= bindparam("since", type_=Instant) if has_since else _VERSIONS.content.is_not(None)
    )
    return Statement(statement.where(*conditions).order_by(_HEADS.id).limit(bindparam("most")))


def _belongs(row: Any, selection: Selection) -> bool:
    """Return whether a row that was read is exported: what only the content of that time says."""
    if row.content is None:
        return not selection.of_patients or _concerns(row.patient, selection.patients)
    resource: Any = None
    if selection.filters or (selection.hidden is not None and selection.hidden[0].encode() in row.content):
        resource = orjson.loads(row.content)
        if not _is_wanted(row, resource, selection):
            return False
    if not selection.of_patients or _concerns(row.patient, selection.patients):
        return True
    if set(PATIENT[selection.type]) <= _SUBJECTS:
        return False
    return any(_concerns(it, selection.patients) for it in _patients(resource or orjson.loads(row.content)))


def _is_wanted(row: Any, resource: Any, selection: Selection) -> bool:
    is_hidden = selection.hidden is not None and _has_tag(resource, selection.hidden)
    if not selection.filters:
        return not is_hidden
    for place, query in enumerate(selection.filters):
        if len(selection.filters) > 1 and not getattr(row, f"f{place}"):
            continue
        if is_hidden and selection.hidden is not None and not query.asks_for(*selection.hidden):
            continue
        if all(criterion.holds is None or criterion.holds(resource) for criterion in query.criteria):
            return True
    return False


def _has_tag(resource: Any, tag: Tag) -> bool:
    tags = resource.get("meta", {}).get("tag", ())
    return any((it.get("system"), it.get("code")) == tag for it in tags)


def _concerns(patient: str | None, patients: frozenset[str] | None) -> bool:
    return patient is not None and (patients is None or patient in patients)


def _patients(resource: Any) -> Iterator[str]:
    """Yield the patients in whose compartments a resource is."""
    numbers = _compartment(resource["resourceType"])
    for number, value, _ in rows(resource).values:
        if number in numbers and value.startswith("Patient/"):
            yield value


@lru_cache(maxsize=256)
def _compartment(kind: str) -> frozenset[int]:
    parameters = of(kind)
    return frozenset(number for name in PATIENT[kind] for number in parameters[name].numbers)
