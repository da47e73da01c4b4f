"""What every message with OBX segments shares: ids of Observations that a repetition or correction meets again."""

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
        The conversion under way.
    patient, encounter
        Whom and which stay they belong to.
    """

    def __init__(self, state: ConversionState, patient: Resource, encounter: Resource | None) -> None:
        self._reading = state
        self._patient = patient["id"]
        self._links: Resource = {"subject": {"reference": f"Patient/{patient['id']}"}}
        if encounter:
            self._links["encounter"] = {"reference": f"Encounter/{encounter['id']}"}
        self._count = 0
        self._keys: Counter[str] = Counter()

    def resource_id(self, resource_type: str, *parts: str) -> str:
        """Return the id of what the sender names by ``parts``.

        The patient takes part, because order numbers and control ids are reused in the field and must never lead to
        another patient's result. Parts that occur again in one message are told apart by their order.
        """
        key = _APART.join((resource_type, self._patient, *parts))
        self._keys[key] += 1
        value = f"{key}{_APART}{self._keys[key]}"
        system = f"urn:ausculta:sender:{self._reading.sender}"
        return self._reading.context.pseudonyms.resource_id(resource_type, system, value)

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
            What names its order: the filler's number, or the message where there is none, and OBR-1.
        """
        self._count += 1
        named = (segment.raw(3), segment.raw(4), segment.get(14))
        resource_id = self.resource_id("Observation", *order, *named)
        return self.linked(obx.observation(self._reading, segment, resource_id, self._count))


def comment(nte: Segment) -> Resource | None:
    """Return an Annotation for an NTE (guide: NTE[Observation]), nothing when it says nothing."""
    text = "\n".join(line for element in nte.repetitions(3) if (line := st.string(element.text)))
    return {"text": text} if text else None
