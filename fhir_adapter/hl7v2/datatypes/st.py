"""ST, TX, FT: text (sections 2A.3.77, 2A.3.82, 2A.3.31), as a FHIR ``string`` (R4 datatypes.html#string)."""

import re
from typing import Final

_UNFIT: Final = re.compile(r"[^\S \r\n\t]|[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def string(text: str) -> str:
    """Return ``text`` without surrounding space, and with a blank for each character that FHIR's strings exclude."""
    if not text:
        return ""
    stripped = text.strip()
    return stripped if stripped.isprintable() and "\xa0" not in stripped else _UNFIT.sub(" ", stripped).strip()


def line(text: str) -> str:
    """Return ``text`` on one line with single blanks, as FHIR's ``code`` must be (R4 datatypes.html#code)."""
    return " ".join(string(text).split()) if text else ""
