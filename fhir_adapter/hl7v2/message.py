"""A lazy parser of HL7 v2 messages: segments are split at once, fields and components on access.

Positions are those of the standard: ``message.first("PID").field(5).component(1)`` is PID-5.1. An absent value is an
empty string, never an exception. The grammar is section 2.5. Common deviations are accepted: LF and CRLF as segment
terminators, a byte order mark, blank segments, and line breaks inside a text field.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from fhir_adapter.hl7v2.charset import Source, decode
from fhir_adapter.hl7v2.escape import STANDARD, Delimiters, unescape
from kernel.errors import Category, Problem

NULL: Final = '""'
"""A field with this content deletes the stored value (section 2.5.3); an empty field leaves it unchanged."""

_LINES: Final = re.compile(r"[\r\n]+")
_LONGEST_START: Final = 12
"""MSH-1 and MSH-2 are within so many characters."""
_PADDING: Final = "\ufeff\x0b\x1c\r\n\t \x00"


class Element:
    """One repetition of a field."""

    __slots__ = ("_components", "delimiters", "raw")

    def __init__(self, raw: str, delimiters: Delimiters) -> None:
        self.raw = raw
        self.delimiters = delimiters
        self._components: list[str] | None = None

    def __bool__(self) -> bool:
        return bool(self.raw) and self.raw != NULL

    @property
    def text(self) -> str:
        """The whole repetition as text: unescaped, component separators included."""
        return "" if self.raw == NULL else unescape(self.raw, self.delimiters)

    def component(self, number: int, subcomponent: int = 1) -> str:
        """Return the unescaped text of a component; empty when absent or null.

        Parameters
        ----------
        number
            Component, from 1.
        subcomponent
            Subcomponent, from 1.
        """
        if self._components is None:
            self._components = self.raw.split(self.delimiters.component)
        if number > len(self._components):
            return ""
        found = self._components[number - 1]
        if not found:
            return ""
        mark = self.delimiters.subcomponent
        if mark and mark in found:
            parts = found.split(mark)
            found = parts[subcomponent - 1] if subcomponent <= len(parts) else ""
        elif subcomponent > 1:
            return ""
        return "" if found == NULL else unescape(found, self.delimiters).strip()

    def part(self, number: int) -> "Element":
        """Return component ``number`` as an element of its own, its subcomponents read as components."""
        parts = self.raw.split(self.delimiters.component)
        raw = parts[number - 1] if number <= len(parts) else ""
        inner = self.delimiters.subcomponent
        return Element(raw.replace(inner, self.delimiters.component) if inner else raw, self.delimiters)


_NOTHING: Final = Element("", STANDARD)
"""An absent field: whatever the delimiters, none of its parts has content."""


class Segment:
    """One segment; its fields are split on first access."""

    __slots__ = ("_delimiters", "_fields", "_text", "name")

    def __init__(self, text: str, delimiters: Delimiters) -> None:
        self.name = text[:3]
        self._text = text
        self._delimiters = delimiters
        self._fields: list[str] | None = None

    @property
    def fields(self) -> list[str]:
        """Raw fields by number; 0 is the segment's name, and MSH-1 is the separator itself (section 2.14.9.1)."""
        if self._fields is None:
            split = self._text.split(self._delimiters.field)
            self._fields = [split[0], self._delimiters.field, *split[1:]] if self.name == "MSH" else split
        return self._fields

    def raw(self, number: int) -> str:
        """Return a whole field as it was sent; empty when absent."""
        fields = self.fields
        return fields[number] if number < len(fields) else ""

    def is_null(self, number: int) -> bool:
        """Return whether the sender deletes the field's content (``""``)."""
        return self.raw(number) == NULL

    def repetitions(self, number: int) -> list[Element]:
        """Return the repetitions of a field that have content."""
        raw = self.raw(number)
        if not raw or raw == NULL:
            return []
        found = (Element(text, self._delimiters) for text in raw.split(self._delimiters.repetition))
        return [element for element in found if element]

    def field(self, number: int) -> Element:
        """Return the first repetition of a field, an empty one when it is absent."""
        raw = self.raw(number)
        return Element(raw.partition(self._delimiters.repetition)[0], self._delimiters) if raw else _NOTHING

    def get(self, number: int, component: int = 1, subcomponent: int = 1) -> str:
        """Return the unescaped text at a position of the first repetition; empty when absent or null.

        Parameters
        ----------
        number
            Field, from 1.
        component, subcomponent
            Position within the field, from 1.
        """
        fields = self._fields or self.fields
        raw = fields[number] if number < len(fields) else ""
        if not raw:
            return ""
        if component == 1 and subcomponent == 1 and not _has_delimiter(raw, self._delimiters):
            return "" if raw == NULL else raw.strip()
        return self.field(number).component(component, subcomponent)


def _has_delimiter(raw: str, marks: Delimiters) -> bool:
    """Return whether a field has more than one part or an escape sequence; most have not."""
    return (
        marks.component in raw
        or marks.repetition in raw
        or (marks.escape != "" and marks.escape in raw)
        or (marks.subcomponent != "" and marks.subcomponent in raw)
    )


@lru_cache(maxsize=32)
def _begins(separator: str) -> re.Pattern[str]:
    return re.compile(rf"\s*[A-Z][A-Z0-9]{{2}}(?:{re.escape(separator)}|$)")


def _segments(text: str, separator: str) -> list[str]:
    """Split a message into segments; a line that does not begin like a segment continues the text before it."""
    begins = _begins(separator)
    found: list[list[str]] = []
    for line in _LINES.split(text):
        if begins.match(line):
            found.append([line.lstrip()])
        elif found and line.strip():
            found[-1].append(line)
    return [lines[0] if len(lines) == 1 else "\n".join(lines) for lines in found]


class Message:
    """One message.

    Parameters
    ----------
    segments
        In order, MSH first.
    delimiters
        The delimiters that MSH-1 and MSH-2 declare.
    charset_source
        How the character set was determined.
    """

    __slots__ = ("charset_source", "delimiters", "segments")

    def __init__(self, segments: list[Segment], delimiters: Delimiters, charset_source: Source) -> None:
        self.segments = segments
        self.delimiters = delimiters
        self.charset_source = charset_source

    @classmethod
    def parse(cls, raw: bytes, fallback_charset: str = "iso8859-1") -> "Message":
        """Parse a message.

        Parameters
        ----------
        raw
            The content of one MLLP frame.
        fallback_charset
            Python codec for a message that declares no character set and is not UTF-8.

        Raises
        ------
        Problem
            ``incorrect`` when the message does not begin with MSH, its delimiters are not valid, MSH occurs twice, or
            the characters cannot be decoded.
        """
        decoded = decode(raw.strip(b"\x0b\x1c\r\n\t "), fallback_charset)
        text = decoded.text.strip(_PADDING)
        delimiters = read_delimiters(text, decoded.codec)
        segments = [Segment(line, delimiters) for line in _segments(text, delimiters.field)]
        if sum(segment.name == "MSH" for segment in segments) > 1:
            raise Problem(Category.INCORRECT, "MSH occurs more than once; one frame carries one message")
        return cls(segments, delimiters, decoded.source)

    @property
    def charset(self) -> str:
        """Python's name of the character set that the message was decoded with."""
        return self.delimiters.codec

    def first(self, name: str) -> Segment | None:
        """Return the first segment of a name."""
        return next(self.all(name), None)

    def all(self, name: str) -> Iterator[Segment]:
        """Return every segment of a name, in order."""
        return (segment for segment in self.segments if segment.name == name)

    @property
    def header(self) -> Segment:
        """The MSH segment."""
        return self.segments[0]


def read_delimiters(text: str, codec: str) -> Delimiters:
    """Read MSH-1 and MSH-2 from the start of a message.

    Parameters
    ----------
    text
        The decoded message, or at least its beginning.
    codec
        Python's name of its character set.

    Raises
    ------
    Problem
        ``incorrect`` when the text does not begin with MSH or its delimiters are ambiguous.
    """
    return _delimiters(text[:_LONGEST_START], codec)


@lru_cache(maxsize=32)
def _delimiters(text: str, codec: str) -> Delimiters:
    if not text.startswith("MSH"):
        raise Problem(Category.INCORRECT, "the message does not begin with an MSH segment")
    separator = text[3:4]
    marks = text[4:12].partition(separator)[0] if separator else ""
    if not separator or separator.isalnum() or separator.isspace():
        raise Problem(Category.INCORRECT, "MSH-1 is not a field separator")
    # Some senders double the backslash. A fifth mark, the truncation character of version 2.7, changes nothing here.
    marks = re.split(r"[\r\n]", marks)[0].replace("\\\\", "\\")[:4]
    if not marks or any(mark.isalnum() or mark.isspace() for mark in marks) or len(set(marks)) < len(marks):
        raise Problem(Category.INCORRECT, "MSH-2 does not name the encoding characters")
    return Delimiters(
        field=separator,
        component=marks[0],
        # NUL stands for "no delimiter": it never occurs in text that can be stored.
        repetition=marks[1:2] or "\0",
        escape=marks[2:3],
        subcomponent=marks[3:4],
        codec=codec,
    )
