"""FHIR dates as spans: ``2026-01`` is a month and ``12:00:00Z`` a second (R4, search.html#date).

A partial date means every instant within it. Bounds are half open, ``[start, end)``, and in UTC; a date without a time
zone is read as UTC, because search must compare it; no other code may do so. An instant or an end that its offset or
its precision moves out of the years 1 to 9999 stops at :data:`EARLIEST` or :data:`LATEST`.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from kernel.errors import Category, Problem

EARLIEST: Final = datetime(1, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9999, 12, 31, tzinfo=UTC)

_DATE_TIME: Final = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d\d)(-(?P<day>\d\d)"
    r"(T(?P<hour>\d\d):(?P<minute>\d\d)(:(?P<second>\d\d)(\.(?P<fraction>\d+))?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?"
)
_PLAIN: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
"""What Python reads as this module does, unless it raises."""
_PARTS: Final = ("year", "month", "day", "hour", "minute", "second")


def span(text: str) -> tuple[datetime, datetime]:
    """Return the half-open span of a FHIR date, dateTime or instant.

    Raises
    ------
    Problem
        ``incorrect`` when ``text`` is not a date.
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise Problem(Category.INCORRECT, "not a FHIR date or time")
    numbers = [int(match[part]) for part in _PARTS if match[part] is not None]
    precision = len(numbers)
    try:
        if precision == 6:
            numbers[5] = min(numbers[5], 59)  # a leap second, which Python's datetime does not have
        year, month, day, hour, minute, second = numbers + [1, 1, 1, 0, 0, 0][precision:]
        start = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        start = _moved(start, -_offset(match["zone"]))
        if match["fraction"]:
            digits = match["fraction"][:6]
            start = _moved(start, timedelta(microseconds=int(digits.ljust(6, "0"))))
            return start, _moved(start, timedelta(microseconds=10 ** (6 - len(digits))))
        return start, _end(start, precision)
    except ValueError as failure:
        raise Problem(Category.INCORRECT, "not a FHIR date or time") from failure


def point(text: str | None) -> datetime | None:
    """Return the instant of a FHIR dateTime; None for a date without a time or a time without a zone."""
    if text and _PLAIN.fullmatch(text):
        try:
            instant = datetime.fromisoformat(text)
            return instant if instant.tzinfo is UTC else instant.astimezone(UTC)
        except (ValueError, OverflowError):
            pass  # a leap second, no date, or an end of the calendar
    match = _DATE_TIME.fullmatch(text) if text else None
    if text is None or match is None or match["zone"] is None:
        return None
    return span(text)[0]


def _offset(zone: str | None) -> timedelta:
    if zone in {None, "Z"}:
        return timedelta()
    assert zone is not None
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
    return -offset if zone[0] == "-" else offset


def _end(start: datetime, precision: int) -> datetime:
    if precision == 1:
        return start.replace(year=start.year + 1) if start.year < 9999 else LATEST
    if precision == 2 and (start.year, start.month) == (9999, 12):
        return LATEST
    if precision == 2:
        return (start + timedelta(days=31)).replace(day=1)
    steps = {3: timedelta(days=1), 5: timedelta(minutes=1), 6: timedelta(seconds=1)}
    return _moved(start, steps[precision])


def _moved(moment: datetime, by: timedelta) -> datetime:
    try:
        return moment + by
    except OverflowError:
        return max(moment, LATEST) if by > timedelta() else EARLIEST
