"""The character set of a message (HL7 v2 table 0211, section 2.14.9.18).

In this order: what MSH-18 declares; else strict UTF-8; else the fallback of the sender's settings. Which of the three
was used is recorded with the text, because a wrong guess changes names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from kernel.errors import Category, Problem

Source = Literal["declared", "assumed", "fallback"]

_LATIN: Final = {f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)}

CODECS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **_LATIN,
        **{f"ISO-{name.replace('/', '-')}": codec for name, codec in _LATIN.items()},
        "UNICODE": "utf-8",
        "UNICODE UTF-8": "utf-8",
        "UTF-8": "utf-8",
        "UTF8": "utf-8",
        "UNICODE UTF-16": "utf-16",
        "ISO IR87": "iso2022_jp",
        "ISO IR14": "iso2022_jp",
        "ISO IR159": "iso2022_jp_1",
        "GB 18030-2000": "gb18030",
        "GB18030": "gb18030",
        "KS X 1001": "euc_kr",
        "BIG-5": "big5",
        "WINDOWS-1252": "cp1252",
        "CP1252": "cp1252",
    }
)
"""Names of table 0211, and other spellings that senders use, to Python codecs. ASCII is absent: see :func:`decode`."""

_UNDECLARED: Final = frozenset({"", "ASCII", "US-ASCII", '""'})
_LONGEST: Final = 16_384
_END: Final = re.compile(rb"[\r\n]")
_UTF_16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff", b"M\x00S\x00H\x00", b"\x00M\x00S\x00H")


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The text of a message and how it was decoded."""

    #: The characters, without a byte order mark.
    text: str
    #: Python's name of the character set that was used.
    codec: str
    #: Whether the sender declared the character set, UTF-8 was assumed, or the fallback was used.
    source: Source


def first_segment(raw: bytes) -> bytes:
    """Return the bytes of the first segment, at most 16 KiB, without leading marks, blanks and line ends."""
    start = raw[: _LONGEST * 2].lstrip(b"\x0b\r\n\t \xef\xbb\xbf")[:_LONGEST]
    return _END.split(start, maxsplit=1)[0]


def declared(raw: bytes) -> str:
    """Return the first repetition of MSH-18 in upper case, empty when there is none."""
    line = first_segment(raw)
    fields = line.split(line[3:4]) if line.startswith(b"MSH") and len(line) > 3 else []
    if len(fields) < 18:
        return ""
    return fields[17].split(b"~")[0].split(b"^")[0].decode("ascii", "replace").strip().upper()


def decode(raw: bytes, fallback: str = "iso8859-1") -> Decoded:
    """Decode the bytes of one message.

    Many senders declare ASCII and send other characters. ASCII is a subset of UTF-8, so a declaration of ASCII is
    treated as none.

    Parameters
    ----------
    raw
        The message as it was received.
    fallback
        Python codec to use when nothing is declared and the bytes are not UTF-8.

    Raises
    ------
    Problem
        ``incorrect`` when MSH-18 names an unknown character set, or the bytes are not in the one it names.
    """
    if raw.startswith(_UTF_16_MARKS):
        return _strictly(raw, _utf_16(raw), "UNICODE UTF-16")
    name = declared(raw)
    if name in _UNDECLARED:
        try:
            return Decoded(text=raw.decode("utf-8-sig"), codec="utf-8", source="assumed")
        except UnicodeDecodeError:
            return Decoded(text=raw.decode(fallback, "replace"), codec=fallback, source="fallback")
    codec = CODECS.get(name)
    if codec is None:
        raise Problem(Category.INCORRECT, "MSH-18 names a character set that is not known here")
    return _strictly(raw, codec, name)


def _strictly(raw: bytes, codec: str, name: str) -> Decoded:
    try:
        return Decoded(text=raw.decode(codec).removeprefix("\ufeff"), codec=codec, source="declared")
    except UnicodeDecodeError as failure:
        raise Problem(
            Category.INCORRECT, f"MSH-18 says {name}, but the message is not in that character set"
        ) from failure


def _utf_16(raw: bytes) -> str:
    return {0x00: "utf-16-be", 0xFE: "utf-16-be"}.get(raw[0], "utf-16-le")
