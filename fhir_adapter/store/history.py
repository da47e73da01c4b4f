"""The versions of one resource, of a type or of all, newest first (FHIR R4, http.html#history).

A page of a type or of the system goes back in the order of arrival, ``resource_versions.seq``. A version that was
committed before the first page was read keeps its place, so that the pages hold it exactly once whatever is written
meanwhile. On PostgreSQL a version may be committed after one with a higher number; when that happens after its page was
read, it is as new to the client as those written later, and the next history has it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, bindparam, exists, func, select

from fhir_adapter.store.versions import COLUMNS, StoredVersion, stored
from kernel.errors import Category, Problem
from kernel.statements import Statement
from kernel.tables import resource_heads, resource_versions

MOST_LOOKED_AT: Final = 50_000
"""Versions of all types that one page of a type's history looks at; a page may therefore be short and have a next."""

MOST_BYTES: Final = 16 * 2**20
"""Bytes of the versions of a page, beyond which it ends before it holds the wanted number."""

_HEADS: Final = resource_heads.c
_VERSIONS: Final = resource_versions.c
_LATEST: Final = 2**31 - 1
"""Greatest number of a version."""
_FIRST_INSTANT: Final = datetime(1, 1, 2, tzinfo=UTC)
_CLOCKS: Final = timedelta(hours=1)
"""Times of versions are in the order of their arrival, but for the clocks of several machines."""
_NEWEST: Final = Statement(select(func.coalesce(func.max(_VERSIONS.seq), 0)))
_TIME_AT: Final = Statement(
    select(_VERSIONS.last_updated).where(_VERSIONS.seq < bindparam("before")).order_by(_VERSIONS.seq.desc()).limit(1)
)


@dataclass(frozen=True, kw_only=True)
class Past:
    """Which versions are wanted."""

    #: Most versions on a page.
    count: int
    #: Where the page starts: a version of one resource, or a place in the order of arrival; None for the newest.
    before: int | None = None
    #: Only versions made at this instant or later.
    since: datetime | None = None
    #: Only versions that were current at some point of this span.
    at: tuple[datetime, datetime] | None = None


@dataclass(frozen=True, kw_only=True)
class PastPage:
    """One page of versions."""

    found: Sequence[StoredVersion]
    #: ``before`` of the next page; None on the last.
    onward: int | None


def first_of(rows: Iterable[Any], count: int) -> tuple[list[Any], bool]:
    """Return the rows of one page, one at least if there is one, and whether there are more.

    Parameters
    ----------
    rows
        Rows with ``content``; no more of them are taken than the page holds, and one.
    count
        Most rows of the page.
    """
    taken: list[Any] = []
    size = 0
    for row in rows:
        size += len(row.content or b"")
        if len(taken) == count or (taken and size > MOST_BYTES):
            return taken, True
        taken.append(row)
    return taken, False


def of_resource(connection: Connection, kind: str, resource_id: str, past: Past) -> PastPage:
    """Return a page of the versions of a resource, deletions included.

    Parameters
    ----------
    connection
        A connection that can read.
    kind, resource_id
        Resource type and logical id.
    past
        Which versions.

    Raises
    ------
    Problem
        ``not-found`` when the resource was never stored.
    """
    key = connection.execute(select(_HEADS.key).where(_HEADS.type == kind, _HEADS.id == resource_id)).scalar()
    if key is None:
        raise Problem(Category.NOT_FOUND, "there is no such resource")
    values = _values(past) | {"of_key": key, "before": min(past.before or _LATEST, _LATEST), "count": past.count + 1}
    rows, more = first_of(_of_resource(past.at is not None).stream(connection, values), past.count)
    return PastPage(found=[stored(row) for row in rows], onward=rows[-1].version if more else None)


def of_type(connection: Connection, kind: str, past: Past) -> PastPage:
    """Return a page of the versions of a type, or of all types.

    Parameters
    ----------
    connection
        A connection that can read.
    kind
        Resource type; empty for all.
    past
        Which versions.
    """
    before = past.before or int(_NEWEST.run(connection).scalar() or 0) + 1
    bottom = before - MOST_LOOKED_AT
    values = _values(past) | {"before": before, "bottom": bottom, "count": past.count + 1}
    values |= {"of_type": kind} if kind else {}
    rows, more = first_of(_of_type(bool(kind), past.at is not None).stream(connection, values), past.count)
    found = [stored(row) for row in rows]
    if more:
        return PastPage(found=found, onward=rows[-1].seq)
    return PastPage(found=found, onward=bottom if _goes_on(connection, bottom, past) else None)


def _goes_on(connection: Connection, bottom: int, past: Past) -> bool:
    """Return whether there may be wanted versions below a place in the order of arrival."""
    if bottom <= 1:
        return False
    newest_below = _TIME_AT.run(connection, {"before": bottom}).scalar()
    return newest_below is not None and (past.since is None or newest_below > past.since - _CLOCKS)


def _values(past: Past) -> dict[str, Any]:
    values: dict[str, Any] = {"since": past.since or _FIRST_INSTANT}
    return values if past.at is None else values | {"low": past.at[0], "high": past.at[1]}


def _wanted(with_span: bool) -> list[ColumnElement[bool]]:  # noqa: FBT001 - of a cache
    wanted = [_VERSIONS.last_updated >= bindparam("since")]
    if with_span:
        following = resource_versions.alias()
        ended = and_(
            following.c.key == _VERSIONS.key,
            following.c.version == _VERSIONS.version + 1,
            following.c.last_updated <= bindparam("low"),
        )
        wanted += [_VERSIONS.last_updated < bindparam("high"), ~exists().where(ended)]
    return wanted


@cache
def _of_resource(with_span: bool) -> Statement:  # noqa: FBT001 - of a cache
    rows = select(*COLUMNS).select_from(resource_versions).join(resource_heads, _HEADS.key == _VERSIONS.key)
    mine = (_VERSIONS.key == bindparam("of_key"), _VERSIONS.version < bindparam("before"))
    return Statement(
        rows.where(*mine, *_wanted(with_span)).order_by(_VERSIONS.version.desc()).limit(bindparam("count"))
    )


@cache
def _of_type(one_type: bool, with_span: bool) -> Statement:  # noqa: FBT001 - of a cache
    rows = select(_VERSIONS.seq).select_from(resource_versions)
    rows = rows.join(resource_heads, _HEADS.key == _VERSIONS.key)
    mine = [_VERSIONS.seq < bindparam("before"), _VERSIONS.seq >= bindparam("bottom")]
    mine += [_HEADS.type == bindparam("of_type")] if one_type else []
    page = rows.where(*mine, *_wanted(with_span)).order_by(_VERSIONS.seq.desc()).limit(bindparam("count"))
    # Places are sorted without what is stored at them, so that no more is read than the page holds.
    whole = resource_versions.alias()
    columns = [whole.c[it.name] if it.table is resource_versions else it for it in COLUMNS]
    read = select(*columns, whole.c.seq).select_from(whole).join(resource_heads, _HEADS.key == whole.c.key)
    return Statement(read.where(whole.c.seq.in_(page)).order_by(whole.c.seq.desc()))
