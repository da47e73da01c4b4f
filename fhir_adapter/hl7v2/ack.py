"""Acknowledgements (HL7 v2 sections 2.9.2, 2.14.8 MSA and 2.14.5 ERR) of any received bytes.

The acknowledgement is built from the bytes of the sender's own MSH segment. So a message that cannot be parsed is
acknowledged too, and the echoed fields are exactly those that the sender compares.
"""

import re
from datetime import UTC, datetime
from typing import Final

from fhir_adapter.hl7v2.charset import first_segment
from kernel.errors import ACK_CODE, Category, Problem

_LOCATION: Final = re.compile(r"^([A-Z][A-Z0-9]{2})(?:\[(\d+)\])?-(\d+)")
_ERRORS: Final = {
    Category.INCORRECT: ("102", "Data type error"),
    Category.NOT_FOUND: ("204", "Unknown key identifier"),
    Category.CONFLICT: ("205", "Duplicate key identifier"),
    Category.UNSUPPORTED: ("200", "Unsupported message type"),
}
"""Category to ERR-3, HL7 table 0357; everything else is 207, an application error."""


def acknowledge(raw: bytes, code: str, problem: Problem | None = None, *, control_id: str, at: datetime) -> bytes:
    """Write the acknowledgement of a message.

    Parameters
    ----------
    raw
        The message as it was received; any bytes.
    code
        MSA-1, HL7 table 0008: ``AA``, ``AE`` or ``AR``.
    problem
        Why it was not accepted; only its ``detail`` is sent.
    control_id
        MSH-10 of the acknowledgement itself.
    at
        The current time, aware.

    Returns
    -------
    bytes
        A message without MLLP framing. MSA-2 is the sender's MSH-10, empty when none can be found.
    """
    line = first_segment(raw[:32_768].replace(b"\x00", b"") if b"\x00" in raw[:64] else raw)
    separator = line[3:4] if line.startswith(b"MSH") and not line[3:4].isalnum() and line[3:4].strip() else b"|"
    sent = line.split(separator) if line.startswith(b"MSH") else []

    def echo(number: int, otherwise: bytes = b"") -> bytes:
        return (sent[number - 1] if number <= len(sent) else b"") or otherwise

    marks = echo(2, b"^~\\&")
    trigger = [*echo(9).split(marks[:1]), b""][1]
    stamp = at.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000").encode()
    kind = marks[:1].join([b"ACK", trigger, b"ACK"] if trigger else [b"ACK"])
    head = [b"MSH", marks, echo(5), echo(6), echo(3), echo(4), stamp, b"", kind, control_id.encode("ascii", "replace")]
    head += [echo(11, b"P"), echo(12, b"2.5.1")]
    if declared := echo(18):
        head += [b"", b"", b"", b"", b"", declared]
    text = _text(problem.detail, separator + marks) if problem else b""
    answer = [head, [b"MSA", code.encode("ascii"), echo(10), text]]
    if problem:
        answer.append(_error(problem, text, marks[:1]))
    return b"".join(separator.join(segment).rstrip(separator) + b"\r" for segment in answer)


def refuse(raw: bytes, problem: Problem, *, control_id: str, at: datetime) -> bytes:
    """Write the acknowledgement that reports a problem, with the code of its category.

    Parameters
    ----------
    raw, control_id, at
        As for :func:`acknowledge`.
    problem
        Why the message was not accepted; only its ``detail`` is sent.
    """
    return acknowledge(raw, ACK_CODE[problem.category], problem, control_id=control_id, at=at)


def _error(problem: Problem, text: bytes, component: bytes) -> list[bytes]:
    """Return the fields of ERR: location, code of table 0357, severity and text, as version 2.5 has them."""
    code, meaning = _ERRORS.get(problem.category, ("207", "Application internal error"))
    located = _LOCATION.match(problem.detail)
    where = [located[1], located[2] or "1", located[3]] if located else []
    location = component.join(part.encode() for part in where)
    error = component.join([code.encode(), meaning.encode(), b"HL70357"])
    return [b"ERR", b"", location, error, b"E", b"", b"", b"", text]


def _text(detail: str, delimiters: bytes) -> bytes:
    """Return ``detail`` with a blank in place of each of the sender's delimiters."""
    marks = {ord(mark): " " for mark in delimiters.decode("ascii", "replace") if not mark.isalnum()}
    return detail.translate(marks | {10: " ", 13: " "}).encode("ascii", "replace")
