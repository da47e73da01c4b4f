"""Runs a query as one statement over the index and returns a page of its matches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.sql.expression import ScalarSelect

from fhir_adapter.store.search.index import fold, seconds
from fhir_adapter.store.search.parameters import ID, LAST_UPDATED, TAG
from fhir_adapter.store.search.query import Criterion, Cursor, Query, TimeRange
from fhir_adapter.store.versions import CURRENT, StoredVersion, stored
from kernel.tables import resource_heads, resource_index

_HEADS = resource_heads.c
_NO_DATE = -1e18
"""Sort key of a resource that has no value for the date it is sorted by: before all others."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of matches."""

    found: Sequence[StoredVersion]
    #: Start of the next page; None on the last one.
    cursor: Cursor | None


def find(connection: Connection, query: Query, *, hidden_tag: tuple[str, str] | None = None) -> Page:
    """Return one page of the matches of a query, in its order.

    Parameters
    ----------
    connection
        Open connection to the database.
    query
        Resource type, criteria, order, page size and, from the second page on, where the page starts.
    hidden_tag
        System and code: resources with this tag are left out, unless the query asks for the tag.
    """
    key = _sort_key(query)
    statement = matching(query).add_columns(key.label("sort_key"))
    if hidden_tag is not None and not _asks_for(query, *hidden_tag):
        tags = resource_index.alias()
        tagged = and_(tags.c.system == hidden_tag[0], tags.c.value == hidden_tag[1])
        statement = statement.where(not_(exists().where(filtered(tags, query.type, TAG), tagged)))
    if query.after is not None:
        bound = literal(query.after.key)
        beyond = key < bound if query.descending else key > bound
        statement = statement.where(or_(beyond, and_(key == bound, _HEADS.id > query.after.id)))
    order = key.desc() if query.descending else key.asc()
    found = connection.execute(statement.order_by(order, _HEADS.id).limit(query.count + 1)).all()
    rows = found[: query.count]
    more = len(found) > query.count and rows
    cursor = Cursor(key=rows[-1].sort_key, id=rows[-1].id) if more else None
    return Page(found=[stored(row) for row in rows], cursor=cursor)


def _asks_for(query: Query, system: str, code: str) -> bool:
    asked = [pair for criterion in query.criteria if criterion.parameter.name == TAG for pair in criterion.values]
    return any(pair in {(system, code), (None, code)} for pair in asked)


def matching(query: Query) -> Select[Any]:
    """Return the statement for all current versions that a query matches."""
    statement = CURRENT.where(_HEADS.type == query.type, _HEADS.deleted.is_(False))
    criteria = sorted(query.criteria, key=_breadth)
    for place, criterion in enumerate(criteria):
        statement = statement.where(_condition(query.type, criterion, drives=place == 0))
    return statement


def _breadth(criterion: Criterion) -> int:
    """Estimate how many resources match a criterion; the search starts from the most selective one."""
    if criterion.parameter.name in {ID, "identifier"}:
        return 0
    return {"reference": 1, "token": 2, "string": 2, "date": 3}[criterion.parameter.kind]


def _condition(kind: str, criterion: Criterion, *, drives: bool) -> ColumnElement[bool]:
    parameter = criterion.parameter
    if parameter.name == ID:
        return _HEADS.id.in_([code for _, code in criterion.values])
    if parameter.name == LAST_UPDATED:
        return or_(*(instant_matches(_HEADS.last_updated, span) for span in criterion.ranges))
    index = resource_index.alias()
    if drives and parameter.kind != "date":
        match = and_(index.c.type == kind, index.c.param == parameter.name, _any(index, criterion))
        return _HEADS.id.in_(select(index.c.id).where(match))
    return exists().where(filtered(index, kind, parameter.name), _any(index, criterion))


def filtered(index: FromClause, kind: str, name: str) -> ColumnElement[bool]:
    """Return the condition for the rows that one resource has for a parameter.

    The name is compared through ``coalesce`` so that SQLite cannot use an index on it. With the index SQLite would read
    every resource with this value for each candidate, instead of the few rows of the candidate.

    Parameters
    ----------
    index
        Alias of the search index.
    kind
        Resource type.
    name
        Name of the search parameter.
    """
    return and_(index.c.type == kind, index.c.id == _HEADS.id, func.coalesce(index.c.param, "") == name)


def _any(index: FromClause, criterion: Criterion) -> ColumnElement[bool]:
    values = [_value(index, criterion.parameter.kind, system, code) for system, code in criterion.values]
    return or_(*values, *(_within(index, span) for span in criterion.ranges))


def _value(index: FromClause, kind: str, system: str | None, code: str | None) -> ColumnElement[bool]:
    if kind == "string":
        return index.c.value.startswith(fold(code or ""), autoescape=True)
    conditions: list[ColumnElement[bool]] = []
    if code is not None:
        conditions.append(index.c.value == code)
    if system is not None:
        conditions.append(index.c.system == system if system else index.c.system.is_(None))
    return and_(*conditions)


def _within(index: FromClause, span: TimeRange) -> ColumnElement[bool]:
    low, high = seconds(span.low), seconds(span.high)
    contained = and_(index.c.low >= low, index.c.high <= high)
    return {
        "eq": contained,
        "ne": not_(contained),
        "gt": index.c.high > high,
        "lt": index.c.low < low,
        "ge": index.c.high > low,
        "le": index.c.low < high,
        "sa": index.c.low >= high,
        "eb": index.c.high <= low,
    }[span.prefix]


def instant_matches(column: ColumnElement[Any], span: TimeRange) -> ColumnElement[bool]:
    """Return the comparison of an instant with a prefixed date (R4, search.html#date).

    Parameters
    ----------
    column
        Column that holds the instant.
    span
        Range of the date, its end excluded, and the prefix.
    """
    within = and_(column >= span.low, column < span.high)
    return {
        "eq": within,
        "ne": not_(within),
        "gt": column >= span.high,
        "lt": column < span.low,
        "ge": column >= span.low,
        "le": column < span.high,
        "sa": column >= span.high,
        "eb": column < span.low,
    }[span.prefix]


def _sort_key(query: Query) -> ColumnElement[Any]:
    if query.sort == LAST_UPDATED:
        return type_coerce(_HEADS.last_updated, BigInteger)  # in microseconds, as it is stored
    index = resource_index.alias()
    newest: ScalarSelect[Any] = (
        select(func.max(index.c.low)).where(filtered(index, query.type, query.sort)).scalar_subquery()
    )
    return func.coalesce(newest, _NO_DATE)
