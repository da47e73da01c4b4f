"""OBX to Observation (section 7.4.2; guide: OBX[Observation]).

Every OBX becomes one Observation, also when its value is not valid: a value that FHIR cannot represent is kept as text
or stated as absent, and recorded in the notes.
"""

from typing import Final

from fhir_adapter.hl7v2.conversion import ConversionState, Resource
from fhir_adapter.hl7v2.datatypes import cwe, ei, st, xcn
from fhir_adapter.hl7v2.message import Segment
from fhir_adapter.hl7v2.segments import obx_value
from fhir_adapter.hl7v2.tables import INTERPRETATIONS, OBSERVATION_STATUS, TERMINOLOGY

_HANDLED: Final = frozenset({0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 14, 16, 17, 18, 20, 21, 23})


def observation(state: ConversionState, obx: Segment, resource_id: str, ordinal: int) -> Resource:
    """Return the Observation of one OBX, without the members that come from its order and patient.

    Parameters
    ----------
    state
        The state of the conversion.
    obx
        The segment.
    resource_id
        Id of the Observation.
    ordinal
        Which OBX of the message it is, from 1; names it in notes.
    """
    where = f"OBX[{ordinal}]"
    resource: Resource = {"resourceType": "Observation", "id": resource_id}
    identifiers = [found for element in obx.repetitions(21) if (found := ei.identifier(element, state.context))]
    if identifiers:
        resource["identifier"] = identifiers
    resource["status"] = _status(state, obx, where)
    resource["code"] = cwe.concept(obx.field(3)) or _unnamed(state, where)
    if effective := state.moment(obx, 14):
        resource["effectiveDateTime"] = effective
    performers = [xcn.person(element, state.context) for element in obx.repetitions(16)]
    performers.append(xcn.organization(obx.field(23), state.context))
    if named := [performer for performer in performers if performer]:
        resource["performer"] = named
    resource |= _value(state, obx, where, resource)
    _circumstances(state, obx, resource)
    state.rest(obx, _HANDLED)
    return resource


def _status(state: ConversionState, obx: Segment, where: str) -> str:
    code = status_code(obx)
    if code not in OBSERVATION_STATUS:
        state.note(f"{where}-11: no result status of table 0085; kept as unknown")
    return OBSERVATION_STATUS.get(code, "unknown")


def status_code(obx: Segment) -> str:
    """Return OBX-11 in upper case: the codes of table 0085 are upper case, and no two differ in case only."""
    return obx.get(11).strip().upper()


def _unnamed(state: ConversionState, where: str) -> Resource:
    state.note(f"{where}-3: no observation identifier")
    return {"coding": [{"system": f"{TERMINOLOGY}v3-NullFlavor", "code": "UNK", "display": "unknown"}]}


def _value(state: ConversionState, obx: Segment, where: str, resource: Resource) -> Resource:
    # "Not asked": nothing was observed, so whatever OBX-5 has is no value (table 0085).
    values = [] if status_code(obx) == "N" else obx_value.values(state, obx, where)
    if len(values) == 1:
        return values[0]
    if values:
        return {"component": [{"code": resource["code"]} | value for value in values]}
    if status_code(obx) == "U":
        # "Status change to final without retransmitting results": the value is the one that is stored.
        stored = state.context.current("Observation", resource["id"]) or {}
        if kept := {key: content for key, content in stored.items() if key.startswith(("value", "component"))}:
            return kept
    reason = "not-asked" if status_code(obx) == "N" else "unsupported" if obx.raw(5) else "unknown"
    return {"dataAbsentReason": {"coding": [{"system": f"{TERMINOLOGY}data-absent-reason", "code": reason}]}}


def _circumstances(state: ConversionState, obx: Segment, resource: Resource) -> None:
    flags = [flag for element in obx.repetitions(8) if (flag := cwe.concept(element))]
    for flag in flags:
        for coding in flag.get("coding", [])[:1]:
            table = "v3-ObservationInterpretation" if coding["code"] in INTERPRETATIONS else "v2-0078"
            coding.setdefault("system", f"{TERMINOLOGY}{table}")
    if flags:
        resource["interpretation"] = flags
    if limits := st.string(obx.field(7).text):
        resource["referenceRange"] = [{"text": limits}]
    if method := cwe.concept(obx.field(17)):
        resource["method"] = method
    if device := ei.identifier(obx.field(18), state.context):
        resource["device"] = {"identifier": device}
    if site := cwe.concept(obx.field(20)):
        resource["bodySite"] = site
