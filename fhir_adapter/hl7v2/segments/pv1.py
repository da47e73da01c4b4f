"""PV1 to Encounter (section 3.4.3; guide: PV1[Encounter], MSH[Encounter])."""

from collections.abc import Mapping
from typing import Any, Final

from fhir_adapter.hl7v2.conversion import ConversionState, Resource
from fhir_adapter.hl7v2.datatypes import cwe, cx, dtm, pl, st, xcn
from fhir_adapter.hl7v2.merge import merge_resource
from fhir_adapter.hl7v2.message import Segment
from fhir_adapter.hl7v2.tables import ENCOUNTER_CLASS, ENCOUNTER_STATUS, TERMINOLOGY

_HANDLED: Final = frozenset({0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 14, 17, 19, 36, 44, 45, 50})
_ROLES: Final = (
    (7, "ATND", "attender"),
    (8, "REF", "referrer"),
    (9, "CON", "consultant"),
    (17, "ADM", "admitter"),
)
_ADMITS: Final = frozenset({"A01", "A04"})


def encounter(state: ConversionState, patient: Resource) -> Resource | None:
    """Return the Encounter of the message, merged with the stored one.

    Its id is derived from the visit number, PV1-19, else from the patient and the time of admission, PV1-44, so that
    the discharge changes the encounter of the admission. None when there is no PV1 or both fields are empty.

    Parameters
    ----------
    state
        The state of the conversion.
    patient
        The Patient of the message.
    """
    pv1 = state.message.first("PV1")
    if pv1 is None:
        return None
    visit = cx.identifier(pv1.field(19), state.context)
    if visit:
        system, value = visit["system"], visit["value"]
    elif admitted := pv1.get(44):
        system, value = "urn:ausculta:admission", f"{patient['id']}\x1f{admitted}"
    else:
        state.note("PV1: neither PV1-19 nor PV1-44 identifies the encounter; not mapped")
        return None
    resource_id = state.context.pseudonyms.resource_id("Encounter", system, value)
    current = state.context.current("Encounter", resource_id)
    resource: Resource = {"resourceType": "Encounter", "id": resource_id}
    if visit:
        kind = {"coding": [{"system": f"{TERMINOLOGY}v2-0203", "code": "VN"}], "text": "visit number"}
        alternates = [cx.identifier(element, state.context) for element in pv1.repetitions(50)]
        resource["identifier"] = [visit | {"type": kind}, *filter(None, alternates)]
    resource["status"] = _status(state, pv1, current)
    if pv1.get(2) or current is None:
        resource["class"] = _class(st.line(pv1.get(2)))
    resource["subject"] = {"reference": f"Patient/{patient['id']}"}
    _visit(state, pv1, resource)
    state.rest(pv1, _HANDLED)
    return merge_resource(current, resource, authoritative=state.authoritative)


def _status(state: ConversionState, pv1: Segment, current: Mapping[str, Any] | None) -> str:
    """Return the status: discharge finishes an encounter, admission starts it, other messages keep a stored status."""
    trigger = state.message.header.get(9, 2)
    if trigger == "A03" or pv1.get(45):
        return "finished"
    if current is not None and trigger not in _ADMITS:
        return str(current["status"])
    return ENCOUNTER_STATUS.get(pv1.get(2), "in-progress")


def _class(code: str) -> Resource:
    if mapped := ENCOUNTER_CLASS.get(code):
        return {"system": f"{TERMINOLOGY}v3-ActCode", "code": mapped[0], "display": mapped[1]}
    if code:
        return {"system": f"{TERMINOLOGY}v2-0004", "code": code}
    return {"system": f"{TERMINOLOGY}v3-NullFlavor", "code": "UNK", "display": "unknown"}


def _visit(state: ConversionState, pv1: Segment, resource: Resource) -> None:
    if kind := cwe.concept(pv1.field(4), system=f"{TERMINOLOGY}v2-0007"):
        resource["type"] = [kind]
    if service := cwe.concept(pv1.field(10), system=f"{TERMINOLOGY}v2-0069"):
        resource["serviceType"] = service
    if participants := _participants(state, pv1):
        resource["participant"] = participants
    admitted, discharged = state.moment(pv1, 44), state.moment(pv1, 45)
    if period := dtm.period(admitted, discharged):
        resource["period"] = period
    if discharged and "end" not in period:
        state.note("PV1-45: before PV1-44; not mapped")
    stay = {
        "admitSource": cwe.concept(pv1.field(14), system=f"{TERMINOLOGY}v2-0023"),
        "dischargeDisposition": cwe.concept(pv1.field(36), system=f"{TERMINOLOGY}v2-0112"),
    }
    if hospitalization := {key: concept for key, concept in stay.items() if concept}:
        resource["hospitalization"] = hospitalization
    places = ((3, "planned" if pv1.get(2) == "P" else "active"), (6, "completed"))
    located = [(pl.location(pv1.field(number)), status) for number, status in places]
    if locations := [{"location": place, "status": status} for place, status in located if place]:
        resource["location"] = locations


def _participants(state: ConversionState, pv1: Segment) -> list[Resource]:
    found: list[Resource] = []
    for number, code, text in _ROLES:
        role = {"coding": [{"system": f"{TERMINOLOGY}v3-ParticipationType", "code": code}], "text": text}
        people = (xcn.person(element, state.context) for element in pv1.repetitions(number))
        found += [{"type": [role], "individual": person} for person in people if person]
    return found
