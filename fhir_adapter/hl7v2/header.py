"""The MSH segment, read from the bytes without parsing the message: all that is needed to accept a message."""

import re
from dataclasses import dataclass
from typing import Final

from fhir_adapter.hl7v2.charset import decode, first_segment
from fhir_adapter.hl7v2.escape import unescape
from fhir_adapter.hl7v2.message import read_delimiters
from kernel.errors import Category, Problem

_NOT_PRODUCTION: Final = frozenset({"T", "D"})
"""Table 0103: training and debugging."""

_EVENT: Final = re.compile(r"[A-Z0-9]{2,4}")


@dataclass(frozen=True, kw_only=True)
class Header:
    """The fields of MSH (section 2.14.9)."""

    #: MSH-3.1.
    sending_application: str
    #: MSH-4.1.
    sending_facility: str
    #: MSH-5.1.
    receiving_application: str
    #: MSH-6.1.
    receiving_facility: str
    #: MSH-9.1, such as ``ORU``.
    message_type: str
    #: MSH-9.2, such as ``R01``.
    trigger: str
    #: MSH-10, never empty.
    control_id: str
    #: MSH-11.1.
    processing_id: str
    #: MSH-12.1.
    version: str
    #: MSH-18 as it was sent.
    charset: str

    @property
    def event(self) -> str:
        """Type and trigger event as in the table of messages, such as ``ORU^R01``."""
        return f"{self.message_type}^{self.trigger}"

    @property
    def is_production(self) -> bool:
        """Whether the message is of production: any but one that says that it is for training or debugging (MSH-11)."""
        return self.processing_id.upper() not in _NOT_PRODUCTION

    @property
    def sender(self) -> str:
        """Application and facility of the sender, in one string."""
        return f"{self.sending_application}|{self.sending_facility}"


def header(raw: bytes) -> Header:
    """Read the MSH segment of a message.

    Parameters
    ----------
    raw
        The content of one MLLP frame.

    Raises
    ------
    Problem
        ``incorrect`` when there is no MSH segment, or MSH-9 or MSH-10 cannot be read.
    """
    line = first_segment(raw)
    # UTF-16 has NUL bytes, and its line ends only where the text is decoded.
    text = _lenient(line) if b"\x00" not in line else re.split(r"[\r\n]", decode(raw[:16_384]).text)[0]
    delimiters = read_delimiters(text, "utf-8")
    fields = text.split(delimiters.field)

    def at(number: int) -> str:
        field = fields[number - 1] if number <= len(fields) else ""
        return unescape(field.split(delimiters.component)[0], delimiters).strip()

    kind = (fields[8] if len(fields) > 8 else "").split(delimiters.component)
    if not _EVENT.fullmatch(kind[0].strip()):
        raise Problem(Category.INCORRECT, "MSH-9 does not name a message type")
    if not at(10):
        raise Problem(Category.INCORRECT, "MSH-10 is missing")
    return Header(
        sending_application=at(3),
        sending_facility=at(4),
        receiving_application=at(5),
        receiving_facility=at(6),
        message_type=kind[0].strip(),
        trigger=kind[1].strip() if len(kind) > 1 else "",
        control_id=at(10),
        processing_id=at(11),
        version=at(12),
        charset=at(18).split(delimiters.repetition)[0],
    )


def _lenient(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("iso8859-1")
