"""The supported messages, one file for each structure, and their conversion to FHIR."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fhir_adapter.hl7v2.conversion import Context, Conversion, ConversionState, Resource, read
from fhir_adapter.hl7v2.message import Message
from fhir_adapter.hl7v2.messages import adt, oru_r01
from fhir_adapter.hl7v2.messages.event import events
from fhir_adapter.hl7v2.segments import pid
from kernel.errors import Category, Problem


@dataclass(frozen=True, kw_only=True)
class MessageType:
    """How the messages of one type are checked and converted."""

    #: Makes the resources of the message, the Patient first.
    resources: Callable[[ConversionState], list[Resource]]
    #: Segments without which a message cannot be converted, besides MSH and PID.
    required: tuple[str, ...] = ()


_ADT: Final = MessageType(resources=adt.resources)

MESSAGES: Final[Mapping[str, MessageType]] = MappingProxyType(
    {
        "ADT^A01": _ADT,
        "ADT^A03": _ADT,
        "ADT^A04": _ADT,
        "ADT^A08": _ADT,
        "ORU^R01": MessageType(resources=oru_r01.resources, required=("OBR",)),
    }
)
"""MSH-9.1 and MSH-9.2 to the type of the message."""

MOST_SEGMENTS: Final = 4500
"""Segments in a message; more would not fit into one transaction (``fhir_adapter.store.entries.MOST_ENTRIES``)."""

_UNFRAMED: Final = "utf-16"


_STAT: Final = frozenset({"S", "STAT"})


def check(message: Message) -> None:
    """Refuse, before it is acknowledged, a message that can never be converted, so that its sender can correct it.

    Raises
    ------
    Problem
        ``unsupported`` for a message that is not in :data:`MESSAGES`; ``incorrect``, naming the segment or field, when
        a required part is missing, there are too many segments, or MLLP cannot frame its character set.
    """
    message_type = _type_of(message)
    if message.charset.startswith(_UNFRAMED):
        raise Problem(Category.INCORRECT, "MSH-18 names a charset whose bytes MLLP cannot frame; send UTF-8")
    if len(message.segments) > MOST_SEGMENTS:
        raise Problem(Category.INCORRECT, f"the message has more than {MOST_SEGMENTS} segments")
    pid.single_pid(message)
    for segment in message_type.required:
        if message.first(segment) is None:
            raise Problem(Category.INCORRECT, f"{segment} is missing")


def is_stat(message: Message) -> bool:
    """Return whether an order of the message is urgent: TQ1-9, or before version 2.5 OBR-5 or OBR-27.6, is ``S``.

    Table 0485 has S for "with highest priority"; ``STAT`` is what some senders write in its place.
    """
    stated = [segment.get(9) for segment in message.all("TQ1")]
    for order in message.all("OBR"):
        stated += (order.get(5), order.get(27, component=6))
    return any(priority.upper() in _STAT for priority in stated)


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
        a required part is missing; ``conflict`` when the identifiers of PID-3 name different stored Patients.
    """
    message_type = _type_of(message)
    state = read(message, context)
    resources = message_type.resources(state)
    return Conversion(
        resources=tuple(resources),
        unmapped=tuple(state.notes),
        patient=resources[0]["id"],
        events=events(state, resources),
        origins=tuple(state.origins),
        doubts=tuple(state.doubts),
        stated=state.stated[0],
        contradicts=tuple(state.contradicts),
        unmatched=len(state.unmatched),
    )


def _type_of(message: Message) -> MessageType:
    header = message.header
    message_type = MESSAGES.get(f"{header.get(9, 1)}^{header.get(9, 2)}")
    if message_type is None:
        raise Problem(Category.UNSUPPORTED, "MSH-9 names a message that is not supported")
    return message_type
