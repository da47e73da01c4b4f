"""How a row of the index is compared with a value of a search, in SQL and, for what the index cannot say, in Python.

Both forms of a test stand side by side, and a property test holds that they agree.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, Final, TypeAlias

from sqlalchemy import BindParameter, ColumnElement, FromClause, and_, bindparam, not_, or_

from fhir_adapter.store.search.shapes import BOTH, PART, START, SYSTEM, VALUE, Table
from fhir_adapter.store.search.values import Measured

PREFIXES: Final = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
"""R4, search.html#prefix."""
BY_UNIT: Final = ":unit"
BY_CODE: Final = ":code"
"""What a quantity is compared by beside its number: what makes it comparable, or its unit as it is written."""

_Condition: TypeAlias = Callable[[FromClause, "Names"], ColumnElement[bool]]


class Names:
    """Names the parameters of a statement one after the other."""

    def __init__(self) -> None:
        self._places = count()

    def next(self, type_: Any = None) -> BindParameter[Any]:
        """Return the next parameter, of a type."""
        return bindparam(f"v{next(self._places)}", type_=type_)


def condition(table: Table, test: str, rows: FromClause, names: Names) -> ColumnElement[bool]:
    """Return the condition of a test for a row.

    Parameters
    ----------
    table
        Which table the row is of.
    test
        One of those of :class:`~fhir_adapter.store.search.shapes.Match`.
    rows
        Alias of the table.
    names
        Names the values of the test.
    """
    if table == "values":
        return _TEXTS[test](rows, names)
    if table == "dates":
        return _of_date(test, rows.c.low, rows.c.high, names)
    prefix, colon, how = test.partition(":")
    if colon + how == BY_UNIT:
        return and_(rows.c.unit == names.next(), _of_number(prefix, rows.c.low, rows.c.high, names))
    compared = _of_number(prefix, rows.c.written_low, rows.c.written_high, names)
    if colon + how != BY_CODE:
        return compared
    return and_(compared, or_(rows.c.code == names.next(), rows.c.text == names.next()))


def meets(table: Table, test: str, arguments: Sequence[Any], row: Any) -> bool:
    """Return whether a row meets a test: the twin of :func:`condition`.

    Parameters
    ----------
    table, test
        As for :func:`condition`.
    arguments
        The values of the test.
    row
        Of :func:`fhir_adapter.store.search.index.values_at`.
    """
    if table == "values":
        return _meets_text(test, arguments, *row)
    if table == "dates":
        return _compare_dates(test, *row, *arguments)
    assert isinstance(row, Measured)
    prefix, colon, how = test.partition(":")
    if colon + how == BY_UNIT:
        unit, low, high = arguments
        return row.unit == unit and _compare_numbers(prefix, row.low, row.high, low, high)
    found = _compare_numbers(prefix, row.written_low, row.written_high, *arguments[:2])
    return found and (colon + how != BY_CODE or arguments[2] in {row.code, row.text})


def instant_matches(column: ColumnElement[Any], prefix: str, low: Any, high: Any) -> ColumnElement[bool]:
    """Return the comparison of an instant with a prefixed date (R4, search.html#date).

    Parameters
    ----------
    column
        Column that holds the instant.
    prefix
        One of :data:`PREFIXES`.
    low, high
        Start of the date and its end, which is excluded.
    """
    within = and_(column >= low, column < high)
    compared: ColumnElement[bool] = {
        "eq": within,
        "ap": within,
        "ne": not_(within),
        "gt": column >= high,
        "lt": column < low,
        "ge": column >= low,
        "le": column < high,
        "sa": column >= high,
        "eb": column < low,
    }[prefix]
    return compared


def _start(rows: FromClause, names: Names) -> ColumnElement[bool]:
    return and_(rows.c.value >= names.next(), rows.c.value < names.next())


def _both(rows: FromClause, names: Names) -> ColumnElement[bool]:
    return and_(rows.c.value == names.next(), rows.c.system == names.next())


_TEXTS: Final[Mapping[str, _Condition]] = {
    VALUE: lambda rows, names: rows.c.value == names.next(),
    SYSTEM: lambda rows, names: rows.c.system == names.next(),
    BOTH: _both,
    START: _start,
    PART: lambda rows, names: rows.c.value.like(names.next(), escape="\\"),
}


def _meets_text(test: str, arguments: Sequence[str], value: str, system: str) -> bool:
    if test == BOTH:
        return (value, system) == tuple(arguments)
    if test == START:
        return arguments[0] <= value < arguments[1]
    if test == PART:
        return part_of(arguments[0]) in value
    return arguments[0] == (value if test == VALUE else system)


def pattern_of(text: str) -> str:
    """Return the pattern that finds a text anywhere."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def part_of(pattern: str) -> str:
    """Return the text of a pattern of :func:`pattern_of`."""
    return pattern[1:-1].replace("\\_", "_").replace("\\%", "%").replace("\\\\", "\\")


def _of_date(prefix: str, row_low: Any, row_high: Any, names: Names) -> ColumnElement[bool]:
    low, high = names.next(), names.next()
    contained = and_(row_low >= low, row_high <= high)
    compared: ColumnElement[bool] = {
        "eq": contained,
        "ne": not_(contained),
        "gt": row_high > high,
        "lt": row_low < low,
        "ge": row_high > low,
        "le": row_low < high,
        "sa": row_low >= high,
        "eb": row_high <= low,
        "ap": and_(row_low < high, row_high > low),
    }[prefix]
    return compared


def _compare_dates(prefix: str, row_low: float, row_high: float, low: float, high: float) -> bool:
    contained = row_low >= low and row_high <= high
    return {
        "eq": contained,
        "ne": not contained,
        "gt": row_high > high,
        "lt": row_low < low,
        "ge": row_high > low,
        "le": row_low < high,
        "sa": row_low >= high,
        "eb": row_high <= low,
        "ap": row_low < high and row_high > low,
    }[prefix]


def _of_number(prefix: str, row_low: Any, row_high: Any, names: Names) -> ColumnElement[bool]:
    low, high = names.next(), names.next()
    contained = and_(row_low >= low, row_high < high)
    compared: ColumnElement[bool] = {
        "eq": contained,
        "ne": not_(contained),
        "gt": row_high > high,
        "lt": row_low < low,
        "ge": row_high >= high,
        "le": row_low <= low,
        "sa": row_low > high,
        "eb": row_high < low,
        "ap": and_(row_low <= high, row_high >= low),
    }[prefix]
    return compared


def _compare_numbers(prefix: str, row_low: float, row_high: float, low: float, high: float) -> bool:
    contained = row_low >= low and row_high < high
    return {
        "eq": contained,
        "ne": not contained,
        "gt": row_high > high,
        "lt": row_low < low,
        "ge": row_high >= high,
        "le": row_low <= low,
        "sa": row_low > high,
        "eb": row_high < low,
        "ap": row_low <= high and row_high >= low,
    }[prefix]
