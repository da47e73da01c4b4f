"""Runs a query as one statement over the index and returns a page of its matches.

The statement depends on the shape of the query only: which parameters, how many values, which prefixes. It is built
once for each shape; the values are its parameters.

A page ends at a position: what its last match is sorted by. A resource that is changed while a client pages through the
times of storage would move to the front, and be missed; so the position of one that was changed after the first page
is that which it had then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Select,
    Text,
    and_,
    func,
    literal_column,
    or_,
    select,
    type_coerce,
)

from fhir_adapter.store.problems import TooCostly
from fhir_adapter.store.search.comparisons import Names
from fhir_adapter.store.search.conditions import TABLES, Tag, matching, shown
from fhir_adapter.store.search.pairs import paired
from fhir_adapter.store.search.parameters import ID, LAST_UPDATED, of
from fhir_adapter.store.search.query import Criterion, Cursor, Query, SortKey
from fhir_adapter.store.search.shapes import Match, Shape
from fhir_adapter.store.versions import COLUMNS, IS_CURRENT, StoredVersion, stored
from kernel.statements import Statement
from kernel.tables import resource_heads, resource_versions

_HEADS = resource_heads.c
_VERSIONS = resource_versions.c
_NO_NUMBER: Final = -1e18
"""Sort key of a resource that has no value for the date or number it is sorted by: before all others."""
_FEW: Final = 1000
"""So many resources are sorted in less time than it takes to find some of them among all of a type."""
MOST_READ: Final = 20_000
"""Most resources that are read for what the index cannot say."""
MOST_BYTES: Final = 16 * 2**20
"""Bytes of the resources of a page, beyond which it ends before it holds the wanted number."""
_AT_A_TIME: Final = 200
_NEWEST: Final = select(func.coalesce(func.max(_VERSIONS.seq), 0)).scalar_subquery()


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of matches."""

    found: Sequence[StoredVersion]
    #: Start of the next page; None on the last one.
    cursor: Cursor | None


@dataclass(frozen=True, kw_only=True)
class _Form:
    """All of a query that its statement depends on."""

    type: str
    shapes: tuple[Shape, ...]
    hidden: Tag | None
    sort: tuple[SortKey, ...]
    continues: bool
    #: Whether few resources match the first criterion.
    starts_narrow: bool
    #: Those that were changed after the first page, by the position that they had then.
    changed: bool = False


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

    Raises
    ------
    TooCostly
        When the index says too little, and too many resources would have to be read.
    """
    criteria = _ordered(query)
    form = _form(connection, query, criteria, hidden_tag)
    values = [value for criterion in criteria for value in criterion.arguments]
    tests = [criterion.holds for criterion in criteria if criterion.holds is not None]
    if not tests:
        rows = _page(connection, form, values, query.after, query.count + 1)
        return _cut(rows, query.count)
    found: list[Any] = []
    after, read = query.after, 0
    while True:
        rows = _page(connection, form, values, after, max(_AT_A_TIME, query.count) + 1)
        page = _cut(rows, max(_AT_A_TIME, query.count))
        for row in rows[: len(page.found)]:
            resource = orjson.loads(row.content)
            if all(test(resource) for test in tests):
                found.append(row)
        read += len(page.found)
        after, form = page.cursor, replace(form, continues=True)
        if len(found) > query.count or after is None:
            return _cut(found, query.count, after)
        if read >= MOST_READ:
            raise TooCostly(f"more than {MOST_READ} resources would have to be read for this search")


def total(connection: Connection, query: Query, *, hidden_tag: Tag | None = None) -> int:
    """Return how many resources match a query, on all pages.

    Parameters
    ----------
    connection, query, hidden_tag
        As for :func:`find`.

    Raises
    ------
    TooCostly
        As :func:`find`.
    """
    criteria = _ordered(query)
    if any(criterion.holds is not None for criterion in criteria):
        number, rest = 0, replace(query, count=MOST_READ, after=None)
        while True:
            page = find(connection, rest, hidden_tag=hidden_tag)
            number += len(page.found)
            if page.cursor is None:
                return number
            rest = replace(rest, after=page.cursor)
    form = replace(_form(connection, query, criteria, hidden_tag), sort=(), continues=False, starts_narrow=False)
    values = [value for criterion in criteria for value in criterion.arguments]
    return int(_count_all(form).run(connection, _named(values)).scalar())


def _form(connection: Connection, query: Query, criteria: Sequence[Criterion], hidden_tag: Tag | None) -> _Form:
    return _Form(
        type=query.type,
        shapes=tuple(criterion.shape for criterion in criteria),
        hidden=None if hidden_tag is None or query.asks_for(*hidden_tag) else hidden_tag,
        sort=query.sort,
        continues=query.after is not None,
        starts_narrow=bool(criteria) and _is_narrow(connection, query.type, criteria[0]),
    )


def _ordered(query: Query) -> Sequence[Criterion]:
    """Return the criteria with that first which is expected to match the fewest."""
    return sorted(paired(query.type, query.criteria), key=lambda criterion: criterion.breadth)


def _page(connection: Connection, form: _Form, values: Sequence[Any], after: Cursor | None, most: int) -> list[Any]:
    """Return the rows of one page, and of those that were changed since the first page was read."""
    found = _run(connection, form, values, after, most)
    if after is None or not _by_storage(form.sort):
        return found
    changed = _run(connection, replace(form, changed=True), values, after, most)
    if not changed:
        return found
    # What is changed between the two statements is in both.
    each = {row.key: row for row in (*found, *changed)}
    merged = sorted(each.values(), key=lambda row: (row.k0, row.key), reverse=form.sort[0].descending)
    return merged[:most]


def _run(connection: Connection, form: _Form, values: Sequence[Any], after: Cursor | None, most: int) -> list[Any]:
    bound = [*values]
    if after is not None:
        bound += [*([after.as_of] if _by_storage(form.sort) else ()), *after.keys, after.key]
    found: list[Any] = []
    size = 0
    for row in _statement(form).stream(connection, _named([*bound, most])):
        found.append(row if after is None else row._replace(as_of=after.as_of))
        size += len(row.content)
        if size > MOST_BYTES and len(found) > 1:
            break
    return found


def _named(values: Sequence[Any]) -> dict[str, Any]:
    return {f"v{place}": value for place, value in enumerate(values)}


def _cut(rows: Sequence[Any], count: int, beyond: Cursor | None = None) -> Page:
    """Return the page of rows; there is a next one when there are more, or when it is known where to go on."""
    taken = rows[: min(count, _fitting(rows))]
    if len(rows) > len(taken) and taken:
        last = taken[-1]
        keys = tuple(getattr(last, f"k{place}") for place in range(len(last) - len(_ROW)))
        beyond = Cursor(keys=keys, key=last.key, as_of=last.as_of)
    return Page(found=[stored(row) for row in taken], cursor=beyond)


def _fitting(rows: Sequence[Any]) -> int:
    """Return how many rows a page may hold by their bytes, one at least."""
    sizes = [len(row.content) for row in rows]
    if sum(sizes) <= MOST_BYTES:
        return len(rows)
    return max(1, sum(1 for size in accumulate(sizes) if size <= MOST_BYTES))


_ROW: Final = (*(column.name for column in COLUMNS), "as_of")


def _by_storage(sort: Sequence[SortKey]) -> bool:
    return len(sort) == 1 and sort[0].name == LAST_UPDATED


def _is_narrow(connection: Connection, kind: str, criterion: Criterion) -> bool:
    """Return whether at most :data:`_FEW` resources match; what concerns one person or identifier is not counted."""
    if criterion.name == ID:
        return False
    if criterion.breadth < 2:
        return True
    if not isinstance(criterion.shape, Match) or criterion.shape.negated:
        return False
    few = _count_few(kind, criterion.shape).run(connection, _named(criterion.arguments))
    return int(few.scalar()) <= _FEW


@lru_cache(maxsize=1024)
def _count_few(kind: str, shape: Match) -> Statement:
    heads = matching(kind, resource_heads, shape, Names(), drives=True)
    few = select(_HEADS.key).where(heads).limit(_FEW + 1)
    return Statement(select(func.count()).select_from(few.subquery()))


@lru_cache(maxsize=1024)
def _count_all(form: _Form) -> Statement:
    names = Names()
    conditions = [*_conditions(form, names)]
    return Statement(select(func.count()).select_from(resource_heads).where(*conditions))


def _conditions(form: _Form, names: Names) -> Iterator[ColumnElement[bool]]:
    yield _HEADS.deleted.is_(False)
    if not form.starts_narrow:
        # With the type SQLite walks through its resources in their order, and stops when the page is full. Where few
        # match the first criterion, whose number names the type too, they are read and sorted instead.
        yield _HEADS.type == form.type
    for place, shape in enumerate(form.shapes):
        yield matching(form.type, resource_heads, shape, names, drives=place == 0, hidden=form.hidden)
    yield from shown(form.type, resource_heads, form.hidden)


@lru_cache(maxsize=2048)
def _statement(form: _Form) -> Statement:
    names = Names()
    conditions = [*_conditions(form, names)]
    as_of = names.next() if form.continues and _by_storage(form.sort) else None
    earlier = resource_versions.alias()
    if form.changed:
        keys: list[ColumnElement[Any]] = [type_coerce(earlier.c.last_updated, BigInteger)]
    else:
        keys = [_sort_key(form.type, it) for it in form.sort]
    named = [key.label(f"k{place}") for place, key in enumerate(keys)]
    heads: FromClause = resource_heads
    if as_of is not None and form.changed:
        before = select(func.max(_EARLIER.c.version)).where(_EARLIER.c.key == _HEADS.key, _EARLIER.c.seq <= as_of)
        was = and_(earlier.c.key == _HEADS.key, earlier.c.version == before.scalar_subquery())
        heads = heads.join(earlier, and_(was, earlier.c.content.is_not(None)))
        conditions.append(_HEADS.key.in_(select(_EARLIER.c.key).where(_EARLIER.c.seq > as_of)))
    elif as_of is not None:
        heads = heads.join(resource_versions, IS_CURRENT)
        conditions.append(_VERSIONS.seq <= as_of)
    if form.continues:
        conditions.append(_beyond([*zip(keys, form.sort, strict=True)], _first_descends(form.sort), names))
    chosen = select(_HEADS.type, _HEADS.id, _HEADS.key, _HEADS.version, *named).select_from(heads).where(*conditions)
    chosen = chosen.order_by(*_order(keys, _HEADS.key, form.sort)).limit(names.next())
    return Statement(_with_content(chosen, form))


def _order(keys: Sequence[ColumnElement[Any]], key: ColumnElement[Any], sort: Sequence[SortKey]) -> Iterator[Any]:
    for by, it in zip(keys, sort, strict=True):
        yield by.desc() if it.descending else by.asc()
    yield key.desc() if _first_descends(sort) else key.asc()


def _with_content(chosen: Select[Any], form: _Form) -> Select[Any]:
    """Return the select of the versions of a page: what is sorted before it holds numbers only, not their content."""
    page = chosen.subquery()
    as_of = _NEWEST if not form.continues else literal_column("0", Integer)
    keys = [page.c[f"k{place}"] for place in range(len(form.sort))]
    columns = [page.c.get(column.name, column) for column in COLUMNS]
    of_page = and_(_VERSIONS.key == page.c.key, _VERSIONS.version == page.c.version)
    statement = select(*columns, as_of.label("as_of"), *keys).select_from(page).join(resource_versions, of_page)
    return statement.order_by(*_order(keys, page.c.key, form.sort))


_EARLIER: Final[FromClause] = resource_versions.alias("any_version")


def _first_descends(sort: Sequence[SortKey]) -> bool:
    return bool(sort) and sort[0].descending


def _beyond(keys: Sequence[tuple[ColumnElement[Any], SortKey]], last_descends: bool, names: Names) -> Any:  # noqa: FBT001
    """Return the condition that a row comes after a position, by each key and then by its number."""
    bounds = [names.next() for _ in keys]
    number = names.next()
    after: Any = _HEADS.key < number if last_descends else _HEADS.key > number
    for (key, by), bound in reversed([*zip(keys, bounds, strict=True)]):
        beyond = key < bound if by.descending else key > bound
        after = or_(beyond, and_(key == bound, after))
    return after


def _sort_key(kind: str, by: SortKey) -> ColumnElement[Any]:
    if by.name == LAST_UPDATED:
        return type_coerce(_HEADS.last_updated, BigInteger)  # in microseconds, as it is stored
    if by.name == ID:
        return _HEADS.id
    parameter = of(kind)[by.name]
    table = {"date": "dates", "number": "measures", "quantity": "measures"}.get(parameter.kind, "values")
    rows = TABLES[table].alias()
    column = rows.c.value if table == "values" else rows.c.low
    first = func.max(column) if by.descending else func.min(column)
    of_parameter = or_(*(rows.c.param == number for number in parameter.numbers))
    found = select(first).where(of_parameter, rows.c.key == _HEADS.key).scalar_subquery()
    if table == "values":
        return type_coerce(func.coalesce(found, ""), Text)
    return func.coalesce(found, _NO_NUMBER)
