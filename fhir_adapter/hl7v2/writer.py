"""Writes HL7 v2 messages: UTF-8, the recommended delimiters, everything escaped.

The ``hl7`` package is not used to write: it escapes non-ASCII characters one code point at a time, into sequences that
receivers do not decode to the original text.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TypeAlias

from fhir_adapter.hl7v2.escape import escape

Component: TypeAlias = str | tuple[str, ...]
"""Text, or subcomponents."""

Field: TypeAlias = str | tuple[Component, ...] | list[str | tuple[Component, ...]]
"""Text, components, or a list of repetitions of either."""


def segment(name: str, fields: Mapping[int, Field]) -> str:
    """Return one segment without its terminator.

    Parameters
    ----------
    name
        Three characters.
    fields
        Content by the standard's field number; MSH-1 and MSH-2 are written by :func:`message`.
    """
    last = max(fields, default=0)
    return "|".join([name, *(_field(fields.get(number, "")) for number in range(1, last + 1))])


def message(header: Mapping[int, Field], segments: Sequence[str]) -> bytes:
    """Return a message, UTF-8, each segment ended by CR.

    Parameters
    ----------
    header
        Content of MSH by field number, from MSH-3; MSH-18 is set here.
    segments
        The other segments in order, from :func:`segment`.
    """
    shifted = {number - 1: content for number, content in {**header, 18: "UNICODE UTF-8"}.items()}
    # MSH-1 is the separator itself, so each field of MSH stands one place before its number; MSH-2 is never escaped.
    msh = segment("MSH", shifted).removeprefix("MSH|")
    lines = [f"MSH|^~\\&{msh}", *segments]
    return "".join(f"{line}\r" for line in lines).encode()


def stamp(moment: datetime | date) -> str:
    """Return a DTM: to the second and with its offset for a datetime, else to the day."""
    if not isinstance(moment, datetime):
        return moment.strftime("%Y%m%d")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).strftime("%Y%m%d%H%M%S%z")


def number(value: float | Decimal) -> str:
    """Return an NM: plain digits, no exponent; a float is rounded to four decimals, as its FHIR resource is."""
    if isinstance(value, Decimal):
        return format(value, "f")
    return format(Decimal(repr(round(value, 4))).normalize() + 0, "f")


def _field(content: Field) -> str:
    if isinstance(content, list):
        return "~".join(_field(repetition) for repetition in content)
    if isinstance(content, tuple):
        return "^".join(_component(component) for component in content).rstrip("^")
    return escape(content)


def _component(content: Component) -> str:
    return escape(content) if isinstance(content, str) else "&".join(escape(part) for part in content).rstrip("&")
