"""The SQL of a shape: which heads of resources meet it."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, and_, exists, false, func, literal, not_, or_, select, true

from fhir_adapter.store.search.comparisons import Names, condition, instant_matches
from fhir_adapter.store.search.parameters import TAG, numbers_of
from fhir_adapter.store.search.shapes import Every, Match, Missing, Own, Referred, Refers, Shape, Some
from kernel.tables import resource_dates, resource_heads, resource_index, resource_measures

TABLES: Final[dict[str, FromClause]] = {
    "values": resource_index,
    "dates": resource_dates,
    "measures": resource_measures,
}

Tag = tuple[str, str]
"""System and code."""


def matching(
    kind: str, heads: FromClause, shape: Shape, names: Names, *, drives: bool = False, hidden: Tag | None = None
) -> ColumnElement[bool]:
    """Return the condition that a resource meets a shape.

    Parameters
    ----------
    kind
        Resource type.
    heads
        The table of heads, or an alias of it.
    shape
        The shape.
    names
        Names the values of the statement.
    drives
        Whether the search starts from what the index holds, instead of asking it for each resource.
    hidden
        Resources with this tag are left out of chains.
    """
    match shape:
        case Match():
            return _match(heads, shape, names, drives=drives)
        case Missing():
            return _missing(heads, shape, names)
        case Own(column="id"):
            return heads.c.id.in_([names.next() for _ in shape.tests])
        case Own():
            column = heads.c.last_updated
            return or_(
                *(
                    instant_matches(column, prefix, names.next(column.type), names.next(column.type))
                    for prefix in shape.tests
                )
            )
        case Refers():
            return heads.c.key.in_(_that_refer(shape, names, hidden))
        case Referred():
            return and_(heads.c.type == shape.of, heads.c.id.in_(_that_are_named(shape, names, hidden)))
        case Every() | Some():
            met = [matching(kind, heads, it, names, drives=drives, hidden=hidden) for it in shape.conditions]
            return and_(true(), *met) if isinstance(shape, Every) else or_(false(), *met)


def shown(kind: str, heads: FromClause, hidden: Tag | None) -> Sequence[ColumnElement[bool]]:
    """Return the condition that a resource does not have a tag, where there is such a tag.

    Parameters
    ----------
    kind
        Resource type.
    heads
        The table of heads, or an alias of it.
    hidden
        System and code.
    """
    if hidden is None:
        return ()
    tags = resource_index.alias()
    system, code = hidden
    has_it = and_(tags.c.value == literal(code), tags.c.key == heads.c.key, tags.c.system == literal(system))
    return (not_(exists().where(_of(tags, numbers_of(kind, TAG)), has_it)),)


def of_head(rows: FromClause, kind: str, name: str) -> ColumnElement[bool]:
    """Return the condition for the rows that a head has for a parameter.

    Parameters
    ----------
    rows
        Alias of a table of the index.
    kind
        Resource type.
    name
        Name of the search parameter.
    """
    return and_(_of(rows, numbers_of(kind, name)), rows.c.key == resource_heads.c.key)


def _of(rows: FromClause, numbers: Sequence[int]) -> ColumnElement[bool]:
    return or_(*(rows.c.param == number for number in numbers))


def _match(heads: FromClause, shape: Match, names: Names, *, drives: bool) -> ColumnElement[bool]:
    rows = TABLES[shape.table].alias()
    tests = [condition(shape.table, test, rows, names) for test in shape.tests]
    # Each branch with each test by itself is one look-up in the index.
    found = or_(*(and_(rows.c.param == number, test) for number in shape.numbers for test in tests))
    if drives and not shape.negated:
        return heads.c.key.in_(select(rows.c.key).where(found))
    is_there = exists().where(rows.c.key == heads.c.key, found)
    return not_(is_there) if shape.negated else is_there


def _missing(heads: FromClause, shape: Missing, names: Names) -> ColumnElement[bool]:
    rows = TABLES[shape.table].alias()
    conditions = [_of(rows, shape.numbers), rows.c.key == heads.c.key]
    if shape.starts:
        spans = [and_(rows.c.value >= names.next(), rows.c.value < names.next()) for _ in range(shape.starts)]
        conditions.append(or_(*spans))
    is_there = exists().where(*conditions)
    return not_(is_there) if shape.is_missing else is_there


def _heads_of(kind: str, conditions: Sequence[Shape], names: Names, hidden: Tag | None) -> tuple[FromClause, Any]:
    """Return an alias of the heads and the condition for those of a type that meet shapes."""
    heads = resource_heads.alias()
    met = [matching(kind, heads, it, names, drives=place == 0, hidden=hidden) for place, it in enumerate(conditions)]
    if not (conditions and _names_type(conditions[0])):
        met.insert(0, heads.c.type == kind)
    return heads, and_(heads.c.deleted.is_(False), *met, *shown(kind, heads, hidden))


def _names_type(shape: Shape) -> bool:
    """Return whether a shape that drives a search is met by resources of one type alone: its numbers name it.

    With the type as a condition too, SQLite walks through all resources of the type.
    """
    return isinstance(shape, Refers) or (isinstance(shape, Match) and not shape.negated)


def _that_refer(shape: Refers, names: Names, hidden: Tag | None) -> Any:
    rows = resource_index.alias()
    named = []
    for target, conditions in shape.targets:
        heads, met = _heads_of(target, conditions, names, hidden)
        # Each step is a table of its own before the statement: nested ones overflow the stack of SQLite's parser.
        found = select((literal(f"{target}/") + heads.c.id).label("reference")).where(met).cte()
        named.append(rows.c.value.in_(select(found.c.reference)))
    return select(rows.c.key).where(or_(*(and_(rows.c.param == it, or_(*named)) for it in shape.numbers)))


def _that_are_named(shape: Referred, names: Names, hidden: Tag | None) -> Any:
    rows = resource_index.alias()
    heads, met = _heads_of(shape.source, shape.conditions, names, hidden)
    start = f"{shape.of}/"
    of_type = and_(rows.c.value >= literal(start), rows.c.value < literal(start + "\U0010ffff"))
    keys = select(heads.c.key).where(met).cte()
    named = select(func.substr(rows.c.value, len(start) + 1).label("id")).where(
        _of(rows, shape.numbers), of_type, rows.c.key.in_(select(keys.c.key))
    )
    return select(named.cte().c.id)
