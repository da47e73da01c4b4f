"""Observations of any message with OBX segments, with ids that a repetition or a correction computes again."""

from collections import Counter

from fhir_adapter.hl7v2.conversion import ConversionState, Resource
from fhir_adapter.hl7v2.datatypes import st
from fhir_adapter.hl7v2.message import Segment
from fhir_adapter.hl7v2.segments import obx

_APART = "\x1f"


class Observations:
    """Makes the Observations of one message, in order.

    Parameters
    ----------
    state
        The state of the conversion.
    patient, encounter
        The Patient and the Encounter that they belong to.
    """

    def __init__(self, state: ConversionState, patient: Resource, encounter: Resource | None) -> None:
        self._state = state
        self._patient = patient["id"]
        self._links: Resource = {"subject": {"reference": f"Patient/{patient['id']}"}}
        if encounter:
            self._links["encounter"] = {"reference": f"Encounter/{encounter['id']}"}
        self._count = 0
        self._keys: Counter[str] = Counter()

    def resource_id(self, resource_type: str, *parts: str) -> str:
        """Return the id of a resource from the values by which the sender identifies it.

        The patient's id is included, because senders reuse order numbers and control ids, which must never lead to the
        result of another patient. Equal parts within one message are distinguished by their order.

        Parameters
        ----------
        resource_type
            FHIR resource type.
        *parts
            The sender's values, such as the order number and the code.
        """
        key = _APART.join((resource_type, self._patient, *parts))
        self._keys[key] += 1
        value = f"{key}{_APART}{self._keys[key]}"
        system = f"urn:ausculta:sender:{self._state.sender}"
        return self._state.context.pseudonyms.resource_id(resource_type, system, value)

    def linked(self, resource: Resource) -> Resource:
        """Return a resource with its patient and encounter."""
        return resource | self._links

    def add(self, segment: Segment, order: tuple[str, ...]) -> Resource:
        """Return the Observation of an OBX.

        Parameters
        ----------
        segment
            The OBX.
        order
            The values that identify its order: the filler's number, or else the message, and OBR-1.
        """
        self._count += 1
        named = (segment.raw(3), segment.raw(4), segment.get(14))
        resource_id = self.resource_id("Observation", *order, *named)
        return self.linked(obx.observation(self._state, segment, resource_id, self._count))


def comment(nte: Segment) -> Resource | None:
    """Return an Annotation for an NTE (guide: NTE[Observation]), None when it has no text."""
    text = "\n".join(line for element in nte.repetitions(3) if (line := st.string(element.text)))
    return {"text": text} if text else None
