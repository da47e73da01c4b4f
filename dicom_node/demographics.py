"""Name, birth date and sex of a DICOM patient (PS3.3 section C.7.1.1) as plain values."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Final

from kernel.clock import YEARS

_SEX: Final[Mapping[str, str]] = {"M": "male", "F": "female", "O": "other"}
"""PatientSex to the codes of FHIR's administrative-gender."""


def sex_of(PatientSex: str) -> str | None:
    """Return ``male``, ``female`` or ``other``; None when not stated or unknown."""
    return _SEX.get(PatientSex)


def birth_date_of(PatientBirthDate: str) -> date | None:
    """Return the day of a DA value; None when it cannot be read."""
    try:
        day = datetime.strptime(PatientBirthDate, "%Y%m%d").date()  # noqa: DTZ007 - a calendar day has no zone
    except ValueError:
        return None
    return day if day.year in YEARS else None


def name_of(PatientName: str) -> tuple[str, tuple[str, ...]]:
    """Read the first component group of a PN value (PS3.5 section 6.2.1).

    Returns
    -------
    tuple
        Family name, empty when not stated, and the given names.
    """
    family, _, given = PatientName.split("=", maxsplit=1)[0].partition("^")
    return family, tuple(given.replace("^", " ").split())
