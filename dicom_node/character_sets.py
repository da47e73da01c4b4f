"""Text in the character sets of PS3.3 section C.12.1.1.2 that the DICOM library does not read in full."""

import re
from typing import Final

from pydicom.charset import CODES_TO_ENCODINGS, python_encoding
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

_ESCAPES: Final = re.compile(r"\x1b[$(),\-.][()\-]?.")
"""Escape sequences of code extensions (PS3.5 section 6.1.2.5) that the decoder leaves in the text."""
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")

_LATIN_9: Final = "iso8859_15"


def add_latin_9() -> None:
    """Make the DICOM library read ISO-IR 203, which it takes for ASCII."""
    python_encoding.update({"ISO_IR 203": _LATIN_9, "ISO 2022 IR 203": _LATIN_9})
    CODES_TO_ENCODINGS[b"\x1b-b"] = _LATIN_9


def plain(text: str) -> str:
    """Return a decoded text without escape sequences and control characters."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


_ASCII: Final = frozenset({"", "ISO_IR 6", "ISO 2022 IR 6"})
"""Values of SpecificCharacterSet by which nothing beyond ASCII is declared."""


def is_undeclared(dataset: Dataset) -> bool:
    """Return whether a header does not declare the character set of what it holds beyond ASCII."""
    declared = dataset.get("SpecificCharacterSet") or ""
    values = declared if isinstance(declared, MultiValue) else [declared]
    return all(str(value).strip() in _ASCII for value in values)


def undeclared(text: str) -> str:
    """Return a text whose character set is not declared: UTF-8 when its bytes are that, else as it was decoded.

    The DICOM library decodes such a text as Latin-1, which any bytes are; hardly any other text is valid UTF-8.
    """
    try:
        return text if text.isascii() else text.encode("iso8859_1").decode("utf-8")
    except UnicodeError:
        return text
