"""The operators and functions of FHIRPath that are compiled, on lists of plain JSON values.

Numbers may be :class:`~decimal.Decimal` or what a JSON parser makes of them. Two times are compared as far as both are
stated (FHIRPath N1, section 6.1): where the precision of one ends before they differ, there is no answer.
"""

import calendar
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from kernel.errors import Category, Problem

Values: TypeAlias = list[Any]

_TIME: Final = re.compile(
    r"(?:(\d{4})(?:-(\d\d)(?:-(\d\d))?)?)?(?:T?(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?)?(Z|[+-]\d\d:\d\d)?"
)
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")
_EXACT: Final = 18
"""Most digits after the point of which a boundary is given."""


def number(value: object) -> Decimal | None:
    """Return a JSON number as it was written in decimal; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return value if isinstance(value, Decimal) else Decimal(str(value))


def truth(values: Values) -> bool | None:
    """Return a collection as a boolean; None when it is empty."""
    return None if not values else single(values) is True


def single(values: Values) -> Any:
    """Return the one value of a collection that is not empty.

    Raises
    ------
    Problem
        ``incorrect`` when there are several.
    """
    if len(values) > 1:
        raise Problem(Category.INCORRECT, "an operator is given several values, and takes one")
    return values[0]


def _logic_and(left: Values, right: Values) -> Values:
    """Return ``left and right``."""
    first, second = truth(left), truth(right)
    if first is False or second is False:
        return [False]
    return [] if first is None or second is None else [True]


def _logic_or(left: Values, right: Values) -> Values:
    """Return ``left or right``."""
    first, second = truth(left), truth(right)
    if first or second:
        return [True]
    return [] if first is None or second is None else [False]


def _logic_xor(left: Values, right: Values) -> Values:
    """Return ``left xor right``."""
    first, second = truth(left), truth(right)
    return [] if first is None or second is None else [first is not second]


def _logic_implies(left: Values, right: Values) -> Values:
    """Return ``left implies right``."""
    first, second = truth(left), truth(right)
    if first is False or second:
        return [True]
    return [] if first is None or second is None else [False]


LOGIC: Final[Mapping[str, Callable[[Values, Values], Values]]] = MappingProxyType(
    {"and": _logic_and, "or": _logic_or, "xor": _logic_xor, "implies": _logic_implies}
)
"""Operator -> its result for two collections of at most one boolean each."""


def _equal(left: Values, right: Values) -> Values:
    """Return whether two collections of texts, numbers or booleans are the same; nothing where one is empty."""
    if not left or not right:
        return []
    return [left == right if len(left) == len(right) else False]


def _equal_numbers(left: Values, right: Values) -> Values:
    """Return whether two collections of numbers are the same; nothing where one is empty."""
    if not left or not right:
        return []
    return [[number(it) for it in left] == [number(it) for it in right]]


def _equal_times(left: Values, right: Values) -> Values:
    """Return whether two times are the same; nothing where that cannot be said."""
    if not left or not right:
        return []
    if left == right:
        return [True]
    if len(left) != 1 or len(right) != 1:
        return [False]
    order = _order_of_times(left[0], right[0])
    return [] if order is None else [order == 0]


def _order_of_numbers(left: object, right: object) -> int | None:
    """Return -1, 0 or 1; None where one is no number."""
    first, second = number(left), number(right)
    return None if first is None or second is None else (first > second) - (first < second)


def _order_of_texts(left: object, right: object) -> int | None:
    """Return -1, 0 or 1; None where one is no text."""
    if not isinstance(left, str) or not isinstance(right, str):
        return None
    return (left > right) - (left < right)


def _order_of_times(left: object, right: object) -> int | None:
    """Return -1, 0 or 1; None where the precision of one, or a time zone that only one has, leaves it open."""
    first, second = _parts(left, padded=True), _parts(right, padded=True)
    if first is None or second is None:
        return None
    (one, one_zone), (other, other_zone) = first, second
    if (one_zone is None) is not (other_zone is None) and len(one) > 3 and len(other) > 3:
        return None
    one, other = _in_utc(one, one_zone), _in_utc(other, other_zone)
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            return -1 if mine < theirs else 1
    return 0 if len(one) == len(other) else None


EQUAL: Final[Mapping[str, Callable[[Values, Values], Values]]] = MappingProxyType(
    {"text": _equal, "boolean": _equal, "number": _equal_numbers, "time": _equal_times}
)
"""Kind of values -> whether two collections are the same; nothing where one is empty or it cannot be said."""
ORDER: Final[Mapping[str, Callable[[object, object], int | None]]] = MappingProxyType(
    {"text": _order_of_texts, "number": _order_of_numbers, "time": _order_of_times}
)
"""Kind of values -> -1, 0 or 1 for two of them; None where it cannot be said."""


def ordered(order: Callable[[object, object], int | None], operator: str) -> Callable[[Values, Values], Values]:
    """Return a comparison of two single values.

    Parameters
    ----------
    order
        Says which of two values is greater.
    operator
        ``<``, ``<=``, ``>`` or ``>=``.
    """
    wanted = {"<": {-1}, "<=": {-1, 0}, ">": {1}, ">=": {0, 1}}[operator]

    def compare(left: Values, right: Values) -> Values:
        if not left or not right:
            return []
        found = order(single(left), single(right))
        return [] if found is None else [found in wanted]

    return compare


def arithmetic(operator: str, *, whole: bool) -> Callable[[Values, Values], Values]:
    """Return ``+``, ``-``, ``*`` or ``/`` of two single numbers; nothing for a division by zero.

    Parameters
    ----------
    operator
        The operator.
    whole
        Whether the result is an integer.
    """

    def compute(left: Values, right: Values) -> Values:
        if not left or not right:
            return []
        first, second = number(single(left)), number(single(right))
        if first is None or second is None:
            return []
        try:
            result = _ARITHMETIC[operator](first, second)
            return [int(result) if whole else result]
        except InvalidOperation:
            return []
        except ZeroDivisionError:
            return []

    return compute


_ARITHMETIC: Final[Mapping[str, Callable[[Decimal, Decimal], Decimal]]] = MappingProxyType(
    {
        "+": lambda left, right: left + right,
        "-": lambda left, right: left - right,
        "*": lambda left, right: left * right,
        "/": lambda left, right: left / right,
    }
)


def low_boundary(value: object, type_: str) -> Any:
    """Return the least value that one of this precision may stand for; None where it has none.

    Parameters
    ----------
    value
        A decimal, date, dateTime, instant or time.
    type_
        Its FHIR type.
    """
    return _boundary(value, type_, high=False)


def high_boundary(value: object, type_: str) -> Any:
    """Return the greatest value that one of this precision may stand for; None where it has none.

    Parameters
    ----------
    value
        A decimal, date, dateTime, instant or time.
    type_
        Its FHIR type.
    """
    return _boundary(value, type_, high=True)


def resource_key(resource: Mapping[str, Any]) -> str | None:
    """Return the key of a resource, ``Type/id``; None of one without an id."""
    identifier = resource.get("id")
    return f"{resource.get('resourceType', '')}/{identifier}" if isinstance(identifier, str) else None


def reference_key(reference: object, type_: str) -> str | None:
    """Return the key of the resource that a Reference names by type and id; None where it names none so.

    Parameters
    ----------
    reference
        A Reference.
    type_
        The type that it must name; empty for any.
    """
    text = reference.get("reference") if isinstance(reference, dict) else None
    if not isinstance(text, str):
        return None
    parts = text.partition("/_history/")[0].split("/")
    if len(parts) != 2 or not parts[0].isalpha() or not _ID.fullmatch(parts[1]):
        return None
    return None if type_ and parts[0] != type_ else "/".join(parts)


def _boundary(value: object, type_: str, *, high: bool) -> Any:
    if type_ in {"decimal", "integer", "positiveInt", "unsignedInt"}:
        return _decimal_boundary(value, high=high)
    found = _parts(value)
    if found is None:
        return None
    parts, _ = found
    text = str(value)
    if type_ == "time":
        return _clock(parts, high=high)
    year, month, day = (*parts[:3], *((12, 0) if high else (1, 1))[len(parts[:3]) - 1 :])[:3]
    if not day:
        day = calendar.monthrange(year, month)[1]
    date = f"{year:04}-{month:02}-{day:02}"
    if type_ == "date":
        return date
    zone = _zone_of(text) or ("-12:00" if high else "+14:00")
    return f"{date}T{_clock(parts[3:], high=high)}{zone}"


def _decimal_boundary(value: object, *, high: bool) -> Decimal | None:
    exact = number(value)
    if exact is None or not exact.is_finite():
        return None
    exponent = exact.as_tuple().exponent
    scale = min(0, exponent) if isinstance(exponent, int) else 0
    if -scale >= _EXACT:
        return exact
    half = Decimal((0, (5,), scale - 1))
    return exact + half if high else exact - half


def _clock(parts: tuple[int, ...], *, high: bool) -> str:
    least, greatest = (0, 0, 0, 0), (23, 59, 59, 999_999)
    hour, minute, second, micro = (*parts, *(greatest if high else least)[len(parts) :])
    return f"{hour:02}:{minute:02}:{second:02}.{micro // 1000:03}"


def _parts(value: object, *, padded: bool = False) -> tuple[tuple[int, ...], timedelta | None] | None:
    """Return the parts of a time that are stated, and its offset; padded, seconds have milliseconds (section 6.1)."""
    match = _TIME.fullmatch(value) if isinstance(value, str) and value else None
    if match is None:
        return None
    *numbers, fraction, zone = match.groups()
    parts = [int(it) for it in numbers if it is not None]
    if fraction is not None:
        parts.append(int(fraction[:6].ljust(6, "0")))
    elif padded and numbers[-1] is not None:
        parts.append(0)
    return tuple(parts), _offset(zone)


def _offset(zone: str | None) -> timedelta | None:
    if zone is None:
        return None
    if zone == "Z":
        return timedelta(0)
    hours, minutes = int(zone[1:3]), int(zone[4:])
    return timedelta(hours=hours, minutes=minutes) * (-1 if zone[0] == "-" else 1)


def _in_utc(parts: tuple[int, ...], zone: timedelta | None) -> tuple[int, ...]:
    known = len(parts)
    if zone is None or known <= 3:
        return parts
    year, month, day, hour, minute, second, micro = (*parts, *(0,) * (7 - known))
    try:
        moment = datetime(year, month, day, hour, minute, second, micro) - zone  # noqa: DTZ001 - so it is in UTC
    except (ValueError, OverflowError):
        return parts
    whole = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond)
    return whole[:known]


def _zone_of(text: str) -> str:
    match = _TIME.fullmatch(text)
    return (match[8] or "") if match else ""
