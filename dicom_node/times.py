"""Dates, times and offsets of a DICOM dataset (PS3.5 section 6.2) as Python's."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from kernel.clock import YEARS

_FARTHEST: Final = timedelta(hours=14)
"""The largest offset that the standard allows."""


def zone_of(offset: str) -> timezone | None:
    """Read Timezone Offset From UTC (0008,0201), ``&ZZXX`` (PS3.3 section C.12.1.1.8).

    Parameters
    ----------
    offset
        Such as ``+0100``.

    Returns
    -------
    timezone or None
        None when it is absent or malformed.
    """
    offset = offset.strip()
    if len(offset) != 5 or offset[0] not in "+-" or not offset[1:].isdigit():
        return None
    ahead = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
    if ahead > _FARTHEST:
        return None
    return timezone(ahead if offset[0] == "+" else -ahead)


def started(StudyDate: str, StudyTime: str, TimezoneOffsetFromUTC: str, *, zone: tzinfo = UTC) -> datetime | None:
    """Return when a study began.

    Parameters
    ----------
    StudyDate, StudyTime
        DA and TM.
    TimezoneOffsetFromUTC
        May be empty.
    zone
        Time zone of the site: of a study that states no offset.

    Returns
    -------
    datetime or None
        Aware; None when the date or the time cannot be read, or in no year that anything of a patient can be dated in.
    """
    try:
        day = datetime.strptime(StudyDate, "%Y%m%d")  # noqa: DTZ007 - the zone is added below
        clock = datetime.strptime(StudyTime.partition(".")[0].ljust(6, "0"), "%H%M%S")  # noqa: DTZ007 - as above
    except ValueError:
        return None
    if day.year not in YEARS:
        return None
    return datetime.combine(day.date(), clock.time(), tzinfo=zone_of(TimezoneOffsetFromUTC) or zone)
