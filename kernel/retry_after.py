"""``Retry-After``: how long a peer asks to wait, as seconds or as a date (RFC 9110 section 10.2.3)."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

SHORTEST: Final = timedelta(seconds=1)
LONGEST: Final = timedelta(hours=24)
"""A peer that asks for more is tried again after this time."""


def retry_after(value: str, now: datetime) -> timedelta | None:
    """Return how long to wait, between :data:`SHORTEST` and :data:`LONGEST`; None when the value says nothing.

    Parameters
    ----------
    value
        The header, as it was written; may be empty.
    now
        The current time; aware.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return _bounded(timedelta(seconds=int(text[:9]))) if len(text) < 10 else LONGEST
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return _bounded((at if at.tzinfo else at.replace(tzinfo=UTC)) - now)


def _bounded(length: timedelta) -> timedelta:
    return max(SHORTEST, min(length, LONGEST))
