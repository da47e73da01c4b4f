"""Name, birth date and sex of a DICOM patient (PS3.3 section C.7.1.1) as plain values."""

import re
from collections.abc import Mapping
from datetime import date
from typing import Final

from kernel.clock import YEARS

_SEX: Final[Mapping[str, str]] = {"M": "male", "F": "female", "O": "other"}
"""PatientSex to the codes of FHIR's administrative-gender."""
_BIRTH: Final = re.compile(r"([0-9]{4})(?:([0-9]{2})([0-9]{2})?)?")


def sex_of(PatientSex: str) -> str | None:
    """Return ``male``, ``female`` or ``other``; None when not stated or unknown."""
    return _SEX.get(PatientSex)


def birth_of(PatientBirthDate: str) -> str:
    """Return a DA value as ``YYYY-MM-DD``; empty when it cannot be read.

    A year or a month alone, which DA does not know and some modalities write, is returned as ``YYYY`` or ``YYYY-MM``.
    """
    found = _BIRTH.fullmatch(PatientBirthDate.strip())
    if not found:
        return ""
    parts = [part for part in found.groups() if part]
    try:
        day = date(*(int(part) for part in [*parts, "1", "1"][:3]))
    except ValueError:
        return ""
    return "-".join(parts) if day.year in YEARS else ""


def name_of(PatientName: str) -> tuple[str, tuple[str, ...]]:
    """Read the first component group of a PN value (PS3.5 section 6.2.1).

    Returns
    -------
    tuple
        Family name, empty when not stated, and the given names.
    """
    family, _, given = PatientName.split("=", maxsplit=1)[0].partition("^")
    return family, tuple(given.replace("^", " ").split())
