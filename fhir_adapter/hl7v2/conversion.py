"""The input, the state and the result of a conversion to FHIR."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any, TypeAlias

from fhir_adapter.hl7v2.datatypes import dtm
from fhir_adapter.hl7v2.message import Message, Segment
from fhir_adapter.hl7v2.order import ResourceEvent
from fhir_adapter.hl7v2.origin import Origin, Origins, no_origins
from fhir_adapter.patient_identity import PatientIdentities, Pseudonyms
from fhir_adapter.same_person import Attribute, Person
from fhir_adapter.store.patients import Holder, Token

Resource: TypeAlias = dict[str, Any]
"""A FHIR resource or a part of one; decimals are :class:`decimal.Decimal`."""

Current: TypeAlias = Callable[[str, str], Mapping[str, Any] | None]
"""(resource type, id) to the resource as it is stored, its numbers as :class:`decimal.Decimal`."""


Holders: TypeAlias = Callable[[Sequence[Token], str], Sequence[Holder]]
"""(identifiers, id) to the stored Patients who have one of them, the one that was stored first before the others."""


def nobody_stored(_tokens: Sequence[Token], _resource_id: str) -> Sequence[Holder]:
    """Return nobody: the :data:`Holders` of an empty store."""
    return ()


def nothing_stored(_resource_type: str, _resource_id: str) -> None:
    """Return None: the :data:`Current` of an empty store."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a conversion needs besides the message."""

    #: Makes the ids of all resources.
    pseudonyms: Pseudonyms
    #: The site's rule of patient identity; gives the systems of identifiers.
    identities: PatientIdentities
    #: Time zone of times without an offset when MSH-7 has none either; without it such times are kept as dates.
    zone: tzinfo | None = None
    #: Reads the stored resource: a field that a message leaves empty keeps its content (section 2.5.3).
    current: Current = nothing_stored
    #: Finds the stored Patients whom the identifiers of a message name.
    holders: Holders = nobody_stored
    #: Finds the stored Observations of a patient, by how their senders identified them.
    origins: Origins = no_origins
    #: When the message is converted: no event counts as later. None: no limit.
    now: datetime | None = None
    #: How far the clock of a sender may be ahead.
    clock_tolerance: timedelta = timedelta(0)
    #: Whether a person has decided that the message is of the patient whom it names.
    accepted: bool = False

    @property
    def systems(self) -> Mapping[str, str]:
        """Assigning authority, by namespace or universal id, to the system of its identifiers."""
        return self.identities.conventions.systems


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """The result of a conversion."""

    #: Each is to be stored under its own id; the Patient comes first.
    resources: tuple[Resource, ...]
    #: Content of the message that is not in the resources, and why; never a value from the message.
    unmapped: tuple[str, ...]
    #: Id of the patient.
    patient: str
    #: The event that each resource states, in the same order.
    events: tuple[ResourceEvent, ...] = ()
    #: How the sender identified the Observations that have an instant.
    origins: tuple[Origin, ...] = ()
    #: What a person has to look at, in words.
    doubts: tuple[str, ...] = ()
    #: What the message states of the patient.
    stated: Person = field(default_factory=Person)
    #: What of it contradicts the stored Patient (:mod:`fhir_adapter.same_person`).
    contradicts: tuple[Attribute, ...] = ()
    #: How many corrections and deletions met nothing that is stored.
    unmatched: int = 0

    @property
    def bundle(self) -> Resource:
        """The resources as a transaction of PUT entries."""
        entries = [
            {"resource": it, "request": {"method": "PUT", "url": f"{it['resourceType']}/{it['id']}"}}
            for it in self.resources
        ]
        return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


@dataclass(frozen=True, kw_only=True)
class ConversionState:
    """The state of one conversion: the message, its context, and notes about what was not mapped."""

    message: Message
    context: Context
    #: Application and facility of the sender, MSH-3 and MSH-4.
    sender: str
    #: Offset of MSH-7, which holds for the whole message (section 2.14.9.7), else the context's zone.
    zone: tzinfo | None
    notes: list[str] = field(default_factory=list)
    #: What a person has to look at, in words.
    doubts: list[str] = field(default_factory=list)
    #: What the message states of the patient.
    stated: list[Person] = field(default_factory=list)
    #: What of it contradicts the stored Patient.
    contradicts: list[Attribute] = field(default_factory=list)
    #: Ids of corrected and deleted Observations of which nothing was stored.
    unmatched: list[str] = field(default_factory=list)
    #: How the sender identified the Observations that have an instant.
    origins: list[Origin] = field(default_factory=list)
    #: Id of an Observation to its OBX-14.
    measured: dict[str, str] = field(default_factory=dict)
    #: Id of a resource to the OBR that it was made from.
    orders: dict[str, Segment] = field(default_factory=dict)

    @property
    def authoritative(self) -> bool:
        """Whether the sender is the source of patients and encounters (ADT) rather than quoting them."""
        return self.message.header.get(9) == "ADT"

    def note(self, what: str) -> None:
        """Record something that is not mapped, once."""
        if what not in self.notes:
            self.notes.append(what)

    def moment(self, segment: Segment, number: int) -> str:
        """Return a field as a FHIR dateTime; empty when the field is empty or not a time.

        Parameters
        ----------
        segment
            The segment.
        number
            Field number, from 1.
        """
        text = segment.get(number)
        if not text:
            return ""
        found = dtm.date_time(text, self.zone)
        if found is None:
            self.note(f"{segment.name}-{number}: not a date or time of HL7 v2")
            return ""
        if dtm.lost_time(text, found):
            self.note("times without an offset are kept as dates: no time zone is known for this sender")
        return found

    def rest(self, segment: Segment, handled: frozenset[int]) -> None:
        """Record the fields that have content and are not mapped.

        Parameters
        ----------
        segment
            The segment.
        handled
            Numbers of the fields that are mapped or left out on purpose; 0 is the segment's name.
        """
        for number, raw in enumerate(segment.fields):
            if raw and number not in handled:
                self.note(f"{segment.name}-{number}: not mapped")


def read(message: Message, context: Context) -> ConversionState:
    """Return the initial state of a conversion.

    Parameters
    ----------
    message
        The message to convert.
    context
        What the conversion needs besides the message.
    """
    msh = message.header
    sender = f"{msh.get(3)}|{msh.get(4)}"
    return ConversionState(message=message, context=context, sender=sender, zone=dtm.offset(msh.get(7)) or context.zone)
