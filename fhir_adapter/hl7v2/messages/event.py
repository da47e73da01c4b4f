"""The event that a resource of a message states: when it happened, and with which status."""

from datetime import datetime, timedelta, tzinfo
from functools import lru_cache

from fhir_adapter.hl7v2.conversion import ConversionState, Resource
from fhir_adapter.hl7v2.datatypes import dtm
from fhir_adapter.hl7v2.message import Segment
from fhir_adapter.hl7v2.order import ResourceEvent, not_after

_RESULTS = frozenset({"Observation", "DiagnosticReport"})
_ADMISSIONS = frozenset({"A01", "A03", "A04"})


def event(state: ConversionState, resource: Resource) -> ResourceEvent:
    """Return the event of a resource: of a result by its OBR, of a patient or a visit by EVN; else by MSH-7.

    Parameters
    ----------
    state
        The state of the conversion.
    resource
        A resource that was made from the message.
    """
    kind, header = resource["resourceType"], state.message.header
    order, recorded = state.orders.get(resource["id"]), state.message.first("EVN")
    sent = _moment(state, header, 7)
    return ResourceEvent(
        type=kind,
        id=resource["id"],
        source="stated" if kind in _RESULTS or state.authoritative else "quoted",
        status=resource.get("status", "") if kind in _RESULTS else "",
        observed=_of(state, state.measured.get(resource["id"], "")) or _moment(state, order, 7),
        changed=_moment(state, order, 22) or _moment(state, recorded, 2) or ("" if kind in _RESULTS else sent),
        sent=sent,
        moves=kind == "Encounter" and header.get(9, 2) in _ADMISSIONS,
    )


def _moment(state: ConversionState, segment: Segment | None, number: int) -> str:
    return "" if segment is None else _of(state, segment.get(number))


def _of(state: ConversionState, text: str) -> str:
    return _placed(text, state.zone, state.context.now, state.context.clock_tolerance)


@lru_cache(maxsize=256)
def _placed(text: str, zone: tzinfo | None, now: datetime | None, tolerance: timedelta) -> str:
    """Return the moment of a field; the resources of a message share a few, so each is read once."""
    return not_after(dtm.placed(text, zone), now, tolerance)
