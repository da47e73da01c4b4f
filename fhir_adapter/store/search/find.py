"""Runs a query as one statement over the index and returns a page of its matches.

The statement depends on the shape of the query only: which parameters, how many values, which prefixes. It is built
once for each shape; the values are its parameters.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    bindparam,
    exists,
    func,
    not_,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.sql.expression import ScalarSelect

from fhir_adapter.store.search.index import LONGEST_VALUE, fold, key_of, number_of, seconds
from fhir_adapter.store.search.parameters import ID, LAST_UPDATED, TAG
from fhir_adapter.store.search.query import Criterion, Cursor, Query, TimeRange
from fhir_adapter.store.versions import CURRENT, StoredVersion, stored
from kernel.statements import Statement
from kernel.tables import resource_dates, resource_heads, resource_index

_HEADS = resource_heads.c
_NO_DATE: Final = -1e18
"""Sort key of a resource that has no value for the date it is sorted by: before all others."""
_FEW: Final = 1000
"""So many resources are sorted in less time than it takes to find some of them among all of a type."""
_AFTER_ANY_TEXT: Final = "\U0010ffff"

Tag: TypeAlias = tuple[str, str]
"""System and code."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of matches."""

    found: Sequence[StoredVersion]
    #: Start of the next page; None on the last one.
    cursor: Cursor | None


def find(connection: Connection, query: Query, *, hidden_tag: Tag | None = None) -> Page:
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
    hidden = None if hidden_tag is None or _asks_for(query, *hidden_tag) else hidden_tag
    criteria = tuple(sorted(query.criteria, key=_breadth))
    shape = _Shape(
        type=query.type,
        criteria=tuple(_shape(criterion) for criterion in criteria),
        hides=hidden is not None,
        sort=query.sort,
        descending=query.descending,
        continues=query.after is not None,
        starts_narrow=bool(criteria) and _is_narrow(connection, query.type, criteria[0]),
    )
    values = [value for criterion in criteria for value in _values(criterion)]
    values += (key_of(hidden[1]), key_of(hidden[0])) if hidden is not None else ()
    values += (query.after.key, query.after.key, query.after.id) if query.after is not None else ()
    values.append(query.count + 1)
    found = _statement(shape).run(connection, {f"v{place}": value for place, value in enumerate(values)}).all()
    rows = found[: query.count]
    more = len(found) > query.count and rows
    cursor = Cursor(key=rows[-1].sort_key, id=rows[-1].id) if more else None
    return Page(found=[stored(row) for row in rows], cursor=cursor)


def _asks_for(query: Query, system: str, code: str) -> bool:
    asked = [pair for criterion in query.criteria if criterion.parameter.name == TAG for pair in criterion.values]
    return any(pair in {(system, code), (None, code)} for pair in asked)


def _breadth(criterion: Criterion) -> int:
    """Estimate how many resources match a criterion; the search starts from the most selective one."""
    if criterion.parameter.name in {ID, "identifier"}:
        return 0
    return {"reference": 1, "token": 2, "string": 2, "date": 3}[criterion.parameter.kind]


@dataclass(frozen=True, kw_only=True)
class _CriterionShape:
    """A criterion without its values."""

    name: str
    kind: str
    #: For each value: whether it has a code, and its system: any (None), none (False) or one (True).
    values: tuple[tuple[bool, bool | None], ...]
    #: The prefix of each date.
    prefixes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """All of a query that its statement depends on."""

    type: str
    criteria: tuple[_CriterionShape, ...]
    hides: bool
    sort: str
    descending: bool
    continues: bool
    #: Whether few resources match the first criterion.
    starts_narrow: bool


def _shape(criterion: Criterion) -> _CriterionShape:
    return _CriterionShape(
        name=criterion.parameter.name,
        kind=criterion.parameter.kind,
        values=tuple((code is not None, None if system is None else bool(system)) for system, code in criterion.values),
        prefixes=tuple(span.prefix for span in criterion.ranges),
    )


def _values(criterion: Criterion) -> Iterator[Any]:
    """Yield the values of a criterion in the order in which :func:`_statement` names them."""
    if criterion.parameter.name == LAST_UPDATED:
        for span in criterion.ranges:
            yield from (span.low, span.high)
        return
    for system, code in criterion.values:
        if criterion.parameter.kind == "string":
            start = fold(code or "")[:LONGEST_VALUE]
            yield from (start, start + _AFTER_ANY_TEXT)
            continue
        if criterion.parameter.name == ID:
            yield code or ""
            continue
        if code is not None:
            yield key_of(code)
        if system:
            yield key_of(system)
    for span in criterion.ranges:
        yield from (seconds(span.low), seconds(span.high))


def _is_narrow(connection: Connection, kind: str, criterion: Criterion) -> bool:
    """Return whether at most :data:`_FEW` resources match; what concerns one person or identifier is not counted."""
    if criterion.parameter.name in {ID, LAST_UPDATED}:
        return False
    if _breadth(criterion) < 2:
        return True
    values = {f"v{place}": value for place, value in enumerate(_values(criterion))}
    return int(_count_few(kind, _shape(criterion)).run(connection, values).scalar()) <= _FEW


@lru_cache(maxsize=512)
def _count_few(kind: str, criterion: _CriterionShape) -> Statement:
    names = _Names()
    index: FromClause = (resource_dates if criterion.kind == "date" else resource_index).alias()
    found = [
        *(_within(index, prefix, names) for prefix in criterion.prefixes),
        *(_value(index, criterion.kind, *value, names=names) for value in criterion.values),
    ]
    few = select(index.c.key).where(index.c.param == number_of(kind, criterion.name), or_(*found)).limit(_FEW + 1)
    return Statement(select(func.count()).select_from(few.subquery()))


class _Names:
    """Names the parameters of a statement one after the other."""

    def __init__(self) -> None:
        self._places = count()

    def next(self, type_: Any = None) -> BindParameter[Any]:
        return bindparam(f"v{next(self._places)}", type_=type_)


@lru_cache(maxsize=512)
def _statement(shape: _Shape) -> Statement:
    names = _Names()
    key = _sort_key(shape)
    statement: Select[Any] = CURRENT.add_columns(key.label("sort_key")).where(_HEADS.deleted.is_(False))
    if not shape.starts_narrow:
        # With the type SQLite walks through its resources in their order, and stops when the page is full. Where few
        # match the first criterion, whose number names the type too, they are read and sorted instead.
        statement = statement.where(_HEADS.type == shape.type)
    for place, criterion in enumerate(shape.criteria):
        statement = statement.where(_condition(shape.type, criterion, names, drives=place == 0))
    if shape.hides:
        tags = resource_index.alias()
        tagged = and_(tags.c.value == names.next(), tags.c.system == names.next())
        statement = statement.where(not_(exists().where(of_head(tags, shape.type, TAG), tagged)))
    if shape.continues:
        bound = names.next(), names.next()
        beyond = key < bound[0] if shape.descending else key > bound[0]
        statement = statement.where(or_(beyond, and_(key == bound[1], _HEADS.id > names.next())))
    order = key.desc() if shape.descending else key.asc()
    return Statement(statement.order_by(order, _HEADS.id).limit(names.next()))


def _condition(kind: str, criterion: _CriterionShape, names: _Names, *, drives: bool) -> ColumnElement[bool]:
    if criterion.name == ID:
        return _HEADS.id.in_([names.next() for _ in criterion.values])
    if criterion.name == LAST_UPDATED:
        return or_(*(_instant_matches(_HEADS.last_updated, prefix, names) for prefix in criterion.prefixes))
    if criterion.kind == "date":
        dates = resource_dates.alias()
        within = or_(*(_within(dates, prefix, names) for prefix in criterion.prefixes))
        if drives:
            return _HEADS.key.in_(select(dates.c.key).where(dates.c.param == number_of(kind, criterion.name), within))
        return exists().where(of_head(dates, kind, criterion.name), within)
    index = resource_index.alias()
    found = or_(*(_value(index, criterion.kind, *value, names=names) for value in criterion.values))
    if drives:
        return _HEADS.key.in_(select(index.c.key).where(index.c.param == number_of(kind, criterion.name), found))
    return exists().where(of_head(index, kind, criterion.name), found)


def of_head(index: FromClause, kind: str, name: str) -> ColumnElement[bool]:
    """Return the condition for the rows that a head has for a parameter.

    Parameters
    ----------
    index
        Alias of the search index or of the dates.
    kind
        Resource type.
    name
        Name of the search parameter.
    """
    return and_(index.c.param == number_of(kind, name), index.c.key == _HEADS.key)


def _value(index: FromClause, kind: str, has_code: bool, system: bool | None, *, names: _Names) -> ColumnElement[bool]:  # noqa: FBT001 - of a shape
    if kind == "string":
        return and_(index.c.value >= names.next(), index.c.value < names.next())
    conditions: list[ColumnElement[bool]] = []
    if has_code:
        conditions.append(index.c.value == names.next())
    if system is not None:
        conditions.append(index.c.system == (names.next() if system else ""))
    return and_(*conditions)


def _within(dates: FromClause, prefix: str, names: _Names) -> ColumnElement[bool]:
    low, high = names.next(), names.next()
    contained = and_(dates.c.low >= low, dates.c.high <= high)
    compared: ColumnElement[bool] = {
        "eq": contained,
        "ne": not_(contained),
        "gt": dates.c.high > high,
        "lt": dates.c.low < low,
        "ge": dates.c.high > low,
        "le": dates.c.low < high,
        "sa": dates.c.low >= high,
        "eb": dates.c.high <= low,
    }[prefix]
    return compared


def _instant_matches(column: ColumnElement[Any], prefix: str, names: _Names) -> ColumnElement[bool]:
    low, high = names.next(column.type), names.next(column.type)
    return _compared(column, prefix, low, high)


def instant_matches(column: ColumnElement[Any], span: TimeRange) -> ColumnElement[bool]:
    """Return the comparison of an instant with a prefixed date (R4, search.html#date).

    Parameters
    ----------
    column
        Column that holds the instant.
    span
        Range of the date, its end excluded, and the prefix.
    """
    return _compared(column, span.prefix, span.low, span.high)


def _compared(column: ColumnElement[Any], prefix: str, low: Any, high: Any) -> ColumnElement[bool]:
    within = and_(column >= low, column < high)
    compared: ColumnElement[bool] = {
        "eq": within,
        "ne": not_(within),
        "gt": column >= high,
        "lt": column < low,
        "ge": column >= low,
        "le": column < high,
        "sa": column >= high,
        "eb": column < low,
    }[prefix]
    return compared


def _sort_key(shape: _Shape) -> ColumnElement[Any]:
    if shape.sort == LAST_UPDATED:
        return type_coerce(_HEADS.last_updated, BigInteger)  # in microseconds, as it is stored
    dates = resource_dates.alias()
    newest: ScalarSelect[Any] = (
        select(func.max(dates.c.low)).where(of_head(dates, shape.type, shape.sort)).scalar_subquery()
    )
    return func.coalesce(newest, _NO_DATE)
