"""DT, DTM, TS, TM: dates and times (sections 2A.3.21, 2A.3.22, 2A.3.76) to FHIR ``date``, ``dateTime``, ``time``.

The precision and the offset of the message are kept. A time without an offset gets that of the given zone. Without a
zone it is cut to its date, because FHIR has no time without an offset and a guess could be wrong by hours.
"""

import re
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from kernel.clock import YEARS

_MOMENT: Final = re.compile(
    r"(?P<year>\d{4})(?:(?P<month>\d\d)(?:(?P<day>\d\d)"
    r"(?:(?P<hour>\d\d)(?P<minute>\d\d)?(?:(?P<second>\d\d)(?P<fraction>\.\d{1,6})?)?)?)?)?(?P<offset>[+-]\d{4})?"
)
_TIME: Final = re.compile(r"(?P<hour>\d\d)(?P<minute>\d\d)?(?:(?P<second>\d\d)(?P<fraction>\.\d{1,6})?)?([+-]\d{4})?")

_KEPT: Final = 512
"""How many times are kept as they were read: the values of a message share a few."""

_WIDTHS: Final = MappingProxyType(
    {
        "fraction": timedelta(0),
        "second": timedelta(seconds=1),
        "minute": timedelta(minutes=1),
        "hour": timedelta(hours=1),
        "day": timedelta(days=1),
        "month": timedelta(days=31),
        "year": timedelta(days=366),
    }
)
"""The finest part of a DTM -> how long it may mean."""


@lru_cache(maxsize=_KEPT)
def date_time(text: str, zone: tzinfo | None) -> str | None:
    """Return a FHIR dateTime.

    Parameters
    ----------
    text
        ``YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]``.
    zone
        Time zone of a time without an offset; None when it is not known.

    Returns
    -------
    str or None
        None when the text is not a valid date or time, or no year that anything of a patient can be dated in.
    """
    found = _MOMENT.fullmatch(text.strip())
    if not found:
        return None
    part = found.groupdict()
    try:
        moment = datetime(  # noqa: DTZ001 - the zone is decided below
            int(part["year"]),
            int(part["month"] or 1),
            int(part["day"] or 1),
            int(part["hour"] or 0),
            int(part["minute"] or 0),
            int(part["second"] or 0),
        )
    except ValueError:
        return None
    if moment.year not in YEARS:
        return None
    day = "-".join(filter(None, (part["year"], part["month"], part["day"])))
    if not part["hour"]:
        return day
    suffix = _colon(part["offset"]) if part["offset"] else _offset_at(moment, zone)
    return f"{day}T{moment:%H:%M:%S}{part['fraction'] or ''}{suffix}" if suffix else day


def lost_time(text: str, result: str) -> bool:
    """Return whether :func:`date_time` removed the time of day.

    Parameters
    ----------
    text
        What was given to :func:`date_time`.
    result
        What it returned.
    """
    return "T" not in result and len(text.strip().split("+")[0].split("-")[0]) > 8


def period(start: str, end: str) -> dict[str, str]:
    """Return a FHIR Period of what is known, without an end that is before its start (R4 invariant per-1).

    Parameters
    ----------
    start, end
        FHIR dates or dateTimes; empty where unknown.
    """
    if start and end and _after(start, end):
        end = ""
    return {name: moment for name, moment in (("start", start), ("end", end)) if moment}


def _after(first: str, second: str) -> bool:
    if "T" in first and "T" in second:
        return datetime.fromisoformat(first) > datetime.fromisoformat(second)
    shared = min(len(first), len(second), len("2026-01-15"))
    return first[:shared] > second[:shared]


@lru_cache(maxsize=_KEPT)
def placed(text: str, zone: tzinfo | None) -> str:
    """Return a DTM with its offset, or as it was sent when no zone is known; empty when it is not valid.

    Parameters
    ----------
    text
        ``YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]``.
    zone
        Time zone of a time without an offset; None when it is not known.
    """
    text = text.strip()
    found = _MOMENT.fullmatch(text)
    if found is None or date_time(text, zone) is None:
        return ""
    if found["offset"] or zone is None:
        return text
    start, _ = interval(text)
    return text + _offset_at(start, zone).replace(":", "")


@lru_cache(maxsize=_KEPT)
def interval(text: str) -> tuple[datetime, datetime]:
    """Return the first instant that a DTM may mean and the end of its precision; naive without an offset.

    Parameters
    ----------
    text
        As :func:`placed` returns it, not empty.
    """
    part = _MOMENT.fullmatch(text)
    assert part is not None
    start = datetime(
        int(part["year"]),
        int(part["month"] or 1),
        int(part["day"] or 1),
        int(part["hour"] or 0),
        int(part["minute"] or 0),
        int(part["second"] or 0),
        int((part["fraction"] or ".0")[1:].ljust(6, "0")),
        tzinfo=offset(text),
    )
    return start, start + next(width for name, width in _WIDTHS.items() if part[name])


def date(text: str) -> str | None:
    """Return a FHIR date: the part of the text up to the day."""
    found = date_time(text, None)
    return found.split("T")[0] if found else None


def time(text: str) -> str | None:
    """Return a FHIR time; it has no offset."""
    found = _TIME.fullmatch(text.strip())
    if not found or int(found["hour"]) > 23 or int(found["minute"] or 0) > 59 or int(found["second"] or 0) > 59:
        return None
    return f"{found['hour']}:{found['minute'] or '00'}:{found['second'] or '00'}{found['fraction'] or ''}"


@lru_cache(maxsize=_KEPT)
def offset(text: str) -> tzinfo | None:
    """Return the offset that a DTM carries."""
    found = _MOMENT.fullmatch(text.strip())
    suffix = _colon(found["offset"]) if found and found["offset"] else ""
    if not suffix:
        return None
    minutes = int(suffix[1:3]) * 60 + int(suffix[4:6])
    return timezone(timedelta(minutes=-minutes if suffix[0] == "-" else minutes))


def _colon(sent: str) -> str:
    """Return ``+hh:mm``, empty when no such offset exists (R4 datatypes.html#dateTime: up to 14:00)."""
    hours, minutes = int(sent[1:3]), int(sent[3:5])
    return f"{sent[:3]}:{sent[3:]}" if minutes < 60 and hours * 60 + minutes <= 14 * 60 else ""


def _offset_at(moment: datetime, zone: tzinfo | None) -> str:
    if zone is None:
        return ""
    placed = moment.replace(tzinfo=zone).strftime("%z")
    return f"{placed[:3]}:{placed[3:5]}"
