"""OBR to DiagnosticReport (section 7.4.1; guide: OBR[DiagnosticReport])."""

from typing import Final

from fhir_adapter.hl7v2.conversion import ConversionState, Resource
from fhir_adapter.hl7v2.datatypes import cwe, dtm, ei
from fhir_adapter.hl7v2.message import Segment
from fhir_adapter.hl7v2.tables import REPORT_STATUS, TERMINOLOGY

_HANDLED: Final = frozenset({0, 1, 2, 3, 4, 7, 8, 22, 24, 25})
_KINDS: Final = ((2, "PLAC"), (3, "FILL"))


def report(state: ConversionState, obr: Segment, orc: Segment | None, resource_id: str) -> Resource:
    """Return the DiagnosticReport of one OBR, without its results and patient.

    Parameters
    ----------
    state
        The state of the conversion.
    obr
        The segment.
    orc
        The ORC before it; its order numbers are used where OBR has none.
    resource_id
        Id of the DiagnosticReport.
    """
    resource: Resource = {"resourceType": "DiagnosticReport", "id": resource_id}
    identifiers = [_order_number(state, obr, orc, number, kind) for number, kind in _KINDS]
    if found := [identifier for identifier in identifiers if identifier]:
        resource["identifier"] = found
    code = obr.get(25)
    if code not in REPORT_STATUS:
        state.note("OBR-25: no result status of table 0123; kept as unknown")
    resource["status"] = REPORT_STATUS.get(code, "unknown")
    if section := cwe.concept(obr.field(24), system=f"{TERMINOLOGY}v2-0074"):
        resource["category"] = [section]
    resource["code"] = cwe.concept(obr.field(4)) or {"text": "not stated"}
    resource |= _effective(state, obr)
    issued = state.moment(obr, 22)
    if "T" in issued:
        resource["issued"] = issued
    state.rest(obr, _HANDLED)
    return resource


def _order_number(state: ConversionState, obr: Segment, orc: Segment | None, number: int, kind: str) -> Resource:
    identifier = ei.identifier(obr.field(number), state.context)
    if not identifier and orc:
        identifier = ei.identifier(orc.field(number), state.context)
    if not identifier:
        return {}
    return {"type": {"coding": [{"system": f"{TERMINOLOGY}v2-0203", "code": kind}]}} | identifier


def _effective(state: ConversionState, obr: Segment) -> Resource:
    start, end = state.moment(obr, 7), state.moment(obr, 8)
    if not end:
        return {"effectiveDateTime": start} if start else {}
    period = dtm.period(start, end)
    if "end" not in period:
        state.note("OBR-8: before OBR-7; not mapped")
        return {"effectiveDateTime": start}
    return {"effectivePeriod": period}
