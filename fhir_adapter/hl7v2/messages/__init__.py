"""The supported messages, one file for each structure, and their conversion to FHIR."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from fhir_adapter.hl7v2.conversion import Context, Conversion, ConversionState, Resource, read
from fhir_adapter.hl7v2.message import Message
from fhir_adapter.hl7v2.messages import adt, oru_r01
from fhir_adapter.hl7v2.segments import pid
from kernel.errors import Category, Problem

MESSAGES: Final[Mapping[str, Callable[[ConversionState], list[Resource]]]] = MappingProxyType(
    {
        "ADT^A01": adt.resources,
        "ADT^A03": adt.resources,
        "ADT^A04": adt.resources,
        "ADT^A08": adt.resources,
        "ORU^R01": oru_r01.resources,
    }
)
"""MSH-9.1 and MSH-9.2 to the function that makes the resources of the message, the Patient first."""


MOST_SEGMENTS: Final = 4500
"""Segments in a message; more would not fit into one transaction (``fhir_adapter.store.prepare.MOST_ENTRIES``)."""

_UNFRAMED: Final = "utf-16"


def check(message: Message) -> None:
    """Refuse, before it is acknowledged, a message that can never be converted, so that its sender can correct it.

    Raises
    ------
    Problem
        ``unsupported`` for a message that is not in :data:`MESSAGES`; ``incorrect``, naming the segment or field, when
        a required part is missing, there are too many segments, or MLLP cannot frame its character set.
    """
    header = message.header
    kind = f"{header.get(9, 1)}^{header.get(9, 2)}"
    if kind not in MESSAGES:
        raise Problem(Category.UNSUPPORTED, "MSH-9 names a message that is not supported")
    if message.charset.startswith(_UNFRAMED):
        raise Problem(Category.INCORRECT, "MSH-18 names a charset whose bytes MLLP cannot frame; send UTF-8")
    if len(message.segments) > MOST_SEGMENTS:
        raise Problem(Category.INCORRECT, f"the message has more than {MOST_SEGMENTS} segments")
    pid.single_pid(message)
    if kind.startswith("ORU") and message.first("OBR") is None:
        raise Problem(Category.INCORRECT, "OBR is missing")


def convert(message: Message, context: Context) -> Conversion:
    """Convert a message to FHIR.

    The same message with the same context and the same stored resources gives the same bundle, ids included.

    Parameters
    ----------
    message
        The received message.
    context
        What the conversion needs besides the message.

    Raises
    ------
    Problem
        ``unsupported`` for a message that is not in :data:`MESSAGES`; ``incorrect``, naming the segment or field, when
        a required part is missing.
    """
    header = message.header
    convert_to = MESSAGES.get(f"{header.get(9, 1)}^{header.get(9, 2)}")
    if convert_to is None:
        raise Problem(Category.UNSUPPORTED, "MSH-9 names a message that is not supported")
    state = read(message, context)
    resources = convert_to(state)
    return Conversion(resources=tuple(resources), unmapped=tuple(state.notes), patient=resources[0]["id"])
