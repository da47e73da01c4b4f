"""ORU^R01: unsolicited observations (section 7.3.1; guide: ORU_R01).

    PATIENT_RESULT    PID [PV1]                  -> Patient, Encounter
      ORDER_OBSERVATION  [ORC] OBR {NTE} {OBX {NTE}} -> DiagnosticReport, Observation

The groups are found by iterating over the segments, not by the grammar: an OBX belongs to the order before it in any
position, because a stricter parser that dropped it would lose a result.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from fhir_adapter.hl7v2.conversion import ConversionState, Resource
from fhir_adapter.hl7v2.message import Segment
from fhir_adapter.hl7v2.messages.observations import Observations, comment
from fhir_adapter.hl7v2.segments import obr, pid, pv1
from kernel.errors import Category, Problem

MOST_RESULTS: Final = 100
"""Results up to which a report keeps those of earlier messages, the newest: some senders never change the number of an
order."""

_MAPPED: Final = frozenset({"MSH", "PID", "PV1", "ORC"})


@dataclass
class _Order:
    """One ORDER_OBSERVATION group while it is being collected."""

    obr: Segment | None
    orc: Segment | None
    results: list[tuple[Segment, list[Segment]]] = field(default_factory=list)


def resources(state: ConversionState) -> list[Resource]:
    """Return the resources of the message, Patient first.

    Raises
    ------
    Problem
        ``incorrect`` when PID is missing or identifies no patient, or there is neither an order nor an observation.
    """
    patient = pid.patient(state)
    encounter = pv1.encounter(state, patient)
    orders = _orders(state)
    if not orders:
        raise Problem(Category.INCORRECT, "OBR is missing")
    observations = Observations(state, patient, encounter)
    found = [patient, *([encounter] if encounter else [])]
    for order in orders:
        found += _resources(state, observations, order)
    return found


def _orders(state: ConversionState) -> list[_Order]:
    orders: list[_Order] = []
    orc: Segment | None = None
    notes: list[Segment] | None = None
    for segment in state.message.segments:
        if segment.name == "OBR":
            orders.append(_Order(segment, orc))
            orc = None
        elif segment.name == "OBX":
            if not orders:
                orders.append(_Order(None, orc))
            notes = []
            orders[-1].results.append((segment, notes))
            continue
        elif segment.name == "NTE" and notes is not None:
            notes.append(segment)
            continue
        elif segment.name == "ORC":
            orc = segment
        elif segment.name not in _MAPPED:
            state.note(f"{segment.name}: segment not mapped")
        notes = None
    return orders


def _resources(state: ConversionState, observations: Observations, order: _Order) -> list[Resource]:
    """Return the DiagnosticReport of an order and its Observations."""
    named = _name(state, order)
    found: list[Resource] = []
    for segment, notes in order.results:
        observation = observations.add(segment, named)
        if texts := [note for nte in notes if (note := comment(nte))]:
            observation["note"] = texts
        found.append(observation)
    if order.obr is None:
        state.note("OBX: observations without OBR belong to no report")
        return found
    report = obr.report(state, order.obr, order.orc, observations.resource_id("DiagnosticReport", *named))
    for observation in found:
        _inherit(observation, report)
        state.orders[observation["id"]] = order.obr
    state.orders[report["id"]] = order.obr
    linked = observations.linked(report)
    if references := _results(state, report["id"], found):
        linked["result"] = [{"reference": reference} for reference in references]
    return [linked, *found]


def _results(state: ConversionState, report: str, found: list[Resource]) -> list[str]:
    """Return the results of an order: those of its stored report, then the new ones.

    A correction does not repeat the values that it leaves as they are.
    """
    new = [f"Observation/{observation['id']}" for observation in found]
    current = state.context.current("DiagnosticReport", report) or {}
    stored = [one["reference"] for one in current.get("result", ()) if one["reference"] not in new]
    return [*stored[max(0, len(stored) + len(new) - MOST_RESULTS) :], *new]


def _name(state: ConversionState, order: _Order) -> tuple[str, ...]:
    """Return the values that identify the order: the filler's number, else MSH-10, and OBR-1 and OBR-7."""
    for segment in (order.obr, order.orc):
        if segment and (filler := segment.raw(3)):
            return filler, order.obr.get(1) if order.obr else ""
    control_id = state.message.header.get(10)
    return (control_id, order.obr.get(1), order.obr.get(7)) if order.obr else (control_id,)


def _inherit(observation: dict[str, Any], report: Resource) -> None:
    """Set the time of an observation without one to that of its order (OBX-14: default is OBR-7)."""
    if "effectiveDateTime" not in observation:
        observation |= {key: report[key] for key in ("effectiveDateTime", "effectivePeriod") if key in report}
