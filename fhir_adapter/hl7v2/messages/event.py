"""The event that a resource of a message states: when it happened, and with which status."""

from collections.abc import Iterable
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache

from fhir_adapter.hl7v2.conversion import ConversionState, Resource
from fhir_adapter.hl7v2.datatypes import dtm
from fhir_adapter.hl7v2.message import Segment
from fhir_adapter.hl7v2.order import ResourceEvent, not_after

_RESULTS = frozenset({"Observation", "DiagnosticReport"})
_ADMISSIONS = frozenset({"A01", "A03", "A04"})


def events(state: ConversionState, resources: Iterable[Resource]) -> tuple[ResourceEvent, ...]:
    """Return the event of each resource: of a result by its OBR, of a patient or a visit by EVN; else by MSH-7.

    Parameters
    ----------
    state
        The state of the conversion.
    resources
        The resources that were made from the message.
    """
    header, authoritative = state.message.header, state.authoritative
    recorded, sent = _moment(state, state.message.first("EVN"), 2), _moment(state, header, 7)
    admits = header.get(9, 2) in _ADMISSIONS

    def event(resource: Resource) -> ResourceEvent:
        kind, order = resource["resourceType"], state.orders.get(resource["id"])
        is_result = kind in _RESULTS
        return ResourceEvent(
            type=kind,
            id=resource["id"],
            source="stated" if is_result or authoritative else "quoted",
            status=resource.get("status", "") if is_result else "",
            observed=_of(state, state.measured.get(resource["id"], "")) or _moment(state, order, 7),
            changed=_moment(state, order, 22) or recorded or ("" if is_result else sent),
            sent=sent,
            moves=kind == "Encounter" and admits,
        )

    return tuple(map(event, resources))


def _moment(state: ConversionState, segment: Segment | None, number: int) -> str:
    return "" if segment is None else _of(state, segment.get(number))


def _of(state: ConversionState, text: str) -> str:
    return _placed(text, state.zone, state.context.now, state.context.clock_tolerance)


@lru_cache(maxsize=256)
def _placed(text: str, zone: tzinfo | None, now: datetime | None, tolerance: timedelta) -> str:
    """Return the moment of a field; the resources of a message share a few, so each is read once."""
    return not_after(dtm.placed(text, zone), now, tolerance)
