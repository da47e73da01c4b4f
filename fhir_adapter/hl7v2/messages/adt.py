"""ADT A01, A03, A04 and A08: admission, discharge, registration, update (sections 3.3.1, 3.3.3, 3.3.4, 3.3.8).

They share the structure ADT_A01 of the guide as far as it is mapped here: Patient, Encounter, and the Observations that
some senders include, such as height and weight.
"""

from typing import Final

from fhir_adapter.hl7v2.conversion import ConversionState, Resource
from fhir_adapter.hl7v2.messages.identity import StoredOrder
from fhir_adapter.hl7v2.messages.observations import Observations, comment
from fhir_adapter.hl7v2.segments import pid, pv1

_MAPPED: Final = frozenset({"MSH", "EVN", "PID", "PV1", "OBX", "NTE"})


def resources(state: ConversionState) -> list[Resource]:
    """Return the resources of the message, Patient first.

    Raises
    ------
    Problem
        ``incorrect`` when PID is missing or identifies no patient.
    """
    patient = pid.patient(state)
    encounter = pv1.encounter(state, patient)
    observations = Observations(state, patient, encounter)
    # An update repeats the observations of the admission, so the encounter identifies them rather than the message.
    order = (encounter["id"],) if encounter else (state.message.header.get(10),)
    found = [patient, *([encounter] if encounter else [])]
    stored = StoredOrder(state=state, observations=observations, name=order, obr=None, report={})
    identities = iter(stored.identities(tuple(state.message.all("OBX"))))
    last: Resource | None = None
    for segment in state.message.segments:
        if segment.name == "OBX":
            identity = next(identities)
            last = observations.add(segment, identity.id) | dict(identity.time)
            found.append(last)
        elif segment.name == "NTE" and last:
            if note := comment(segment):
                last.setdefault("note", []).append(note)
        else:
            last = None
            if segment.name not in _MAPPED or segment.name == "NTE":
                state.note(f"{segment.name}: segment not mapped")
    return found
