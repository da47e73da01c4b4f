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
from fhir_adapter.hl7v2.messages.identity import StoredOrder
from fhir_adapter.hl7v2.messages.observations import Observations, comment
from fhir_adapter.hl7v2.segments import obr, pid, pv1
from kernel.errors import Category, Problem

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
    stored = _stored(state, observations, order)
    identities = stored.identities([segment for segment, _ in order.results])
    found: list[Resource] = []
    for (segment, notes), identity in zip(order.results, identities, strict=True):
        observation = observations.add(segment, identity.id) | dict(identity.time)
        state.measured[identity.id] = segment.get(14)
        if texts := [note for nte in notes if (note := comment(nte))]:
            observation["note"] = texts
        found.append(observation)
    if order.obr is None:
        state.note("OBX: observations without OBR belong to no report")
        return found
    report = obr.report(state, order.obr, order.orc, observations.resource_id("DiagnosticReport", *stored.name))
    for observation in found:
        _inherit(observation, report)
        state.orders[observation["id"]] = order.obr
    state.orders[report["id"]] = order.obr
    linked = observations.linked(report)
    if references := stored.references(found, report):
        linked["result"] = references
    if report["status"] == "cancelled" and not found:
        found = stored.cancelled()
        state.orders.update({observation["id"]: order.obr for observation in found})
    return [linked, *found]


def _stored(state: ConversionState, observations: Observations, order: _Order) -> StoredOrder:
    """Return the order by the first of its names under which a report is stored, else by the first."""
    names, numbers = _names(state, order), (_number(order, 2), _number(order, 3))
    if order.obr is None:
        return StoredOrder(state=state, observations=observations, name=names[0], numbers=numbers, obr=None, report={})
    name, report = names[0], None
    for candidate in names:
        resource_id = observations.next_id("DiagnosticReport", *candidate)
        if (report := state.context.current("DiagnosticReport", resource_id)) is not None:
            name = candidate
            break
    return StoredOrder(state=state, observations=observations, name=name, numbers=numbers, obr=order.obr, report=report)


def _names(state: ConversionState, order: _Order) -> list[tuple[str, ...]]:
    """Return the values that identify the order: the filler's number, the placer's, else MSH-10; OBR-1 and OBR-7."""
    position = order.obr.get(1) if order.obr else ""
    names: list[tuple[str, ...]] = []
    if filler := _number(order, 3):
        names.append((filler, position))
    if placer := _number(order, 2):
        names.append(("placer", placer, position))
    control_id = state.message.header.get(10)
    return names or [(control_id, position, order.obr.get(7)) if order.obr else (control_id,)]


def _number(order: _Order, number: int) -> str:
    return next((found for segment in (order.obr, order.orc) if segment and (found := segment.raw(number))), "")


def _inherit(observation: dict[str, Any], report: Resource) -> None:
    """Set the time of an observation without one to that of its order (OBX-14: default is OBR-7)."""
    if "effectiveDateTime" not in observation:
        observation |= {key: report[key] for key in ("effectiveDateTime", "effectivePeriod") if key in report}
