"""Observations of any message with OBX segments, with ids that a repetition or a correction computes again."""

from collections import Counter
from collections.abc import Callable
from functools import partial

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
        self._written: Counter[str] = Counter()

    @property
    def patient(self) -> str:
        """Id of the Patient."""
        return str(self._patient)

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
        return self._counted(self._keys, resource_type, parts)()

    def written(self, resource_type: str, *parts: str) -> Callable[[], str]:
        """Return what makes the id from the values as they are written, counted apart from :meth:`resource_id`.

        Parameters
        ----------
        resource_type
            FHIR resource type.
        *parts
            The sender's values.
        """
        return self._counted(self._written, resource_type, parts)

    def first_id(self, resource_type: str, *parts: str) -> str:
        """Return the id of the first resource that has these values, without counting it.

        Parameters
        ----------
        resource_type
            FHIR resource type.
        *parts
            The sender's values.
        """
        return self._id(resource_type, self._key(resource_type, parts), 1)

    def next_id(self, resource_type: str, *parts: str) -> str:
        """Return what :meth:`resource_id` would return, without counting it.

        Parameters
        ----------
        resource_type
            FHIR resource type.
        *parts
            The sender's values.
        """
        key = self._key(resource_type, parts)
        return self._id(resource_type, key, self._keys[key] + 1)

    def _counted(self, counter: Counter[str], resource_type: str, parts: tuple[str, ...]) -> Callable[[], str]:
        """Count the values; what is returned makes the id, which is needed less often."""
        key = self._key(resource_type, parts)
        counter[key] += 1
        return partial(self._id, resource_type, key, counter[key])

    def _key(self, resource_type: str, parts: tuple[str, ...]) -> str:
        return _APART.join((resource_type, self._patient, *parts))

    def _id(self, resource_type: str, key: str, number: int) -> str:
        system = f"urn:ausculta:sender:{self._state.sender}"
        return self._state.context.pseudonyms.resource_id(resource_type, system, f"{key}{_APART}{number}")

    def linked(self, resource: Resource) -> Resource:
        """Return a resource with its patient and encounter."""
        return resource | self._links

    def add(self, segment: Segment, resource_id: str) -> Resource:
        """Return the Observation of an OBX.

        Parameters
        ----------
        segment
            The OBX.
        resource_id
            Its id.
        """
        self._count += 1
        return self.linked(obx.observation(self._state, segment, resource_id, self._count))


def comment(nte: Segment) -> Resource | None:
    """Return an Annotation for an NTE (guide: NTE[Observation]), None when it has no text."""
    text = "\n".join(line for element in nte.repetitions(3) if (line := st.string(element.text)))
    return {"text": text} if text else None
