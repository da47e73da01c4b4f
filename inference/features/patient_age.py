"""The age of a patient, also where only the year or the month of birth is known: then it lies between two bounds."""

from calendar import monthrange
from dataclasses import dataclass
from datetime import date
from typing import Final

from inference.contract import Subject

_YEAR: Final = 4


@dataclass(frozen=True, kw_only=True)
class Age:
    """Completed years of age; both are the same where the age is known."""

    youngest: int
    oldest: int


def age_in_years(birth: date, on: date) -> int:
    """Return completed years of age.

    Parameters
    ----------
    birth
        Day of birth.
    on
        Day on which the age is wanted.
    """
    return on.year - birth.year - ((on.month, on.day) < (birth.month, birth.day))


def age_of(subject: Subject, on: date) -> Age | None:
    """Return the age that a patient may have; None when nothing is known of the birth.

    Parameters
    ----------
    subject
        The patient.
    on
        Day on which the age is wanted.
    """
    if subject.birth_date is not None:
        first = last = subject.birth_date
    elif subject.birth_period:
        first, last = _bounds(subject.birth_period)
    else:
        return None
    return Age(youngest=age_in_years(last, on), oldest=age_in_years(first, on))


def known_only_as(subject: Subject) -> str:
    """Say how little is known of the birth, where the day is needed."""
    return f"date of birth is known only as {subject.birth_period}"


def _bounds(period: str) -> tuple[date, date]:
    """Return the first and the last day of ``YYYY`` or ``YYYY-MM``."""
    year, month = int(period[:_YEAR]), int(period[_YEAR + 1 :] or 0)
    first, last = (month, month) if month else (1, 12)
    return date(year, first, 1), date(year, last, monthrange(year, last)[1])
