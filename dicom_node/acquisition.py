"""When an image was taken: the most specific date and time that its header states (PS3.3 sections C.7.6.1 and C.8)."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, tzinfo
from typing import Final

from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM

from dicom_node.times import zone_of
from kernel.clock import YEARS

OF_THE_EXPOSURE: Final = ("Acquisition",)
"""What tells when a derived image was taken: its other dates tell when it was derived."""
_ANY: Final = ("Acquisition", "Content", "Series", "Study")

_DATE_TIME: Final = re.compile(r"(\d{8})(\d{2,6}(?:\.\d{1,6})?)?([+-]\d{4})?", re.ASCII)
"""A DT value (PS3.5 section 6.2) that states the day."""


def acquired_at(dataset: Dataset, zone: tzinfo = UTC, *, kinds: Sequence[str] = _ANY) -> datetime | None:
    """Return when an image was taken.

    The first date that can be read counts, and the first time that is stated with the same date; a day without a time
    counts from its beginning.

    Parameters
    ----------
    dataset
        The header of the image.
    zone
        Time zone of the site: of a header that states no offset.
    kinds
        The attributes that count, by the beginning of their keywords, the most specific first.

    Returns
    -------
    datetime or None
        Aware, in the offset that holds for it; None when no date can be read, or none lies in a year that anything of a
        patient can be dated in.
    """
    zone = zone_of(str(dataset.get("TimezoneOffsetFromUTC") or "")) or zone
    stated = [
        _date_time(str(dataset.get("AcquisitionDateTime") or ""), zone),
        *((_day(dataset, f"{kind}Date"), _time(dataset.get(f"{kind}Time")), zone) for kind in kinds),
    ]
    plausible = [one for one in stated if one[0] is not None]
    first = plausible[0][0] if plausible else None
    if first is None:
        return None
    found = next(((clock, its_zone) for day, clock, its_zone in plausible if day == first and clock is not None), None)
    clock, its_zone = found or (time(), zone)
    return datetime.combine(first, clock, tzinfo=its_zone)


def _date_time(text: str, zone: tzinfo) -> tuple[date | None, time | None, tzinfo]:
    match = _DATE_TIME.fullmatch(text.strip())
    if match is None:
        return None, None, zone
    day, clock, offset = match.groups()
    return _plausible(day), _time(clock), zone_of(offset or "") or zone


def _day(dataset: Dataset, keyword: str) -> date | None:
    return _plausible(dataset.get(keyword))


def _plausible(value: object) -> date | None:
    try:
        day = DA(value)
    except (TypeError, ValueError):
        return None
    return date(day.year, day.month, day.day) if day is not None and day.year in YEARS else None


def _time(value: object) -> time | None:
    try:
        clock = TM(value)
    except (TypeError, ValueError):
        return None
    return None if clock is None else time(clock.hour, clock.minute, clock.second, clock.microsecond)
