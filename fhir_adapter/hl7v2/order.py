"""Which of two messages about one resource is the newer one: the time of the event and the status decide.

An observation is ordered by the time at which its results or status changed (OBR-22), else by MSH-7; a patient and a
visit by the time at which the event was recorded (EVN-2), else by MSH-7. Times are compared within the coarser of their
two precisions. A time with an offset and one without, of which no zone is known, say nothing about each other.

Tables 0085 and 0123: a final result is changed by a correction only, so a preliminary one never replaces it. At the
same time the status that comes later in a result's life counts, and among equals the message that arrived later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from fhir_adapter.hl7v2.datatypes import dtm

Source: TypeAlias = Literal["stated", "quoted", "admission"]
Key: TypeAlias = tuple[str, str, Source]

_FINAL: Final = 2
_RANKS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "registered": 0,
        "preliminary": 1,
        "partial": 1,
        "unknown": 1,
        "final": _FINAL,
        "amended": 3,
        "corrected": 3,
        "appended": 3,
        "cancelled": 3,
        "entered-in-error": 3,
    }
)
"""FHIR status of an Observation or a DiagnosticReport -> its place in the life of a result."""
_BEFORE_FINAL: Final = frozenset({"registered", "preliminary", "partial"})
_CORRECTED: Final = frozenset({"amended", "corrected", "appended", "entered-in-error"})
_WIDEST_OFFSET: Final = timedelta(hours=14)


class ResourceEvent(NamedTuple):
    """What a message says about when and how a resource changed. Times are DTM, empty where unknown.

    A tuple, because each resource of a message has one.
    """

    type: str
    id: str
    #: ``stated`` by the source of such data; ``quoted`` by a sender that only repeats a patient or a visit;
    #: ``admission``: the last admission or discharge of a visit.
    source: Source
    #: FHIR status of a result; else empty.
    status: str
    #: OBX-14, else OBR-7.
    observed: str
    #: OBR-22, EVN-2, or what stands for it.
    changed: str
    #: MSH-7.
    sent: str
    #: Whether it admits or discharges.
    moves: bool = False

    @property
    def key(self) -> Key:
        """Which row of the stored events it replaces."""
        return self.type, self.id, self.source


Events: TypeAlias = Mapping[Key, ResourceEvent]


@dataclass(frozen=True, kw_only=True)
class InOrder:
    """What of a message is to be stored."""

    resources: tuple[dict[str, Any], ...]
    events: tuple[ResourceEvent, ...]
    #: How many Observations of the message are older than what is stored; of a message without any, how many resources.
    older: int


def compare(first: str, second: str) -> int:
    """Return -1 when the first DTM is certainly earlier, 1 when later, 0 when nobody can say.

    Parameters
    ----------
    first, second
        As :func:`~fhir_adapter.hl7v2.datatypes.dtm.placed` returns them.
    """
    if not first or not second:
        return 0
    (start, end), (other_start, other_end) = dtm.interval(first), dtm.interval(second)
    if (start.tzinfo is None) != (other_start.tzinfo is None):
        return 0
    if end <= other_start and start < other_start:
        return -1
    return 1 if other_end <= start and other_start < start else 0


def not_after(text: str, now: datetime | None, tolerance: timedelta = timedelta(0)) -> str:
    """Return a DTM, or the present where it lies after that: a wrong clock must not outlast every correction.

    A time within the tolerance is returned as it is, so that two messages of one sender stay comparable.

    Parameters
    ----------
    text
        As :func:`~fhir_adapter.hl7v2.datatypes.dtm.placed` returns it.
    now
        The present, aware; None for no limit.
    tolerance
        How far the clock of a sender may be ahead.
    """
    if not text or now is None:
        return text
    start, _ = dtm.interval(text)
    if start.tzinfo is None:
        return "" if start.replace(tzinfo=now.tzinfo) > now + _WIDEST_OFFSET else text
    return now.strftime("%Y%m%d%H%M%S.%f%z") if start > now + tolerance else text


def is_older(new: ResourceEvent, stored: ResourceEvent | None) -> bool:
    """Return whether what a message says is older than what is stored.

    Parameters
    ----------
    new
        What the message says.
    stored
        What made the stored content; None when that is not known.
    """
    if stored is None:
        return False
    rank, stored_rank = _RANKS.get(new.status, 0), _RANKS.get(stored.status, 0)
    if new.status in _BEFORE_FINAL and stored_rank >= _FINAL and compare(new.observed, stored.observed) <= 0:
        return True
    changed = compare(new.changed, stored.changed)
    if changed:
        return changed < 0
    if new.changed and stored.changed and rank != stored_rank:
        return rank < stored_rank
    if stored.status in _CORRECTED and rank <= _FINAL:  # the original once more, as an engine resends it
        return True
    sent = compare(new.sent, stored.sent)
    return sent < 0 if sent else rank < stored_rank


def in_order(
    resources: Sequence[dict[str, Any]], events: Sequence[ResourceEvent], stored: Events, current: Any
) -> InOrder:
    """Leave out of a message what is older than what is stored.

    Parameters
    ----------
    resources
        The resources of the message.
    events
        The event of each.
    stored
        The events that made what is stored.
    current
        (resource type, id) to the resource as it is stored, or None.
    """
    kept: list[dict[str, Any]] = []
    happened: list[ResourceEvent] = []
    older: list[str] = []
    for resource, event in zip(resources, events, strict=True):
        authority, admission = (stored.get((event.type, event.id, source)) for source in ("stated", "admission"))
        overtaken = is_older(event, authority) or is_older(event, stored.get(event.key))
        moved = event._replace(source="admission") if event.moves else None
        moves = moved is not None and not is_older(moved, admission)
        older += [event.type] * overtaken
        if not overtaken:
            kept.append(resource)
            happened.append(event)
        elif moves:
            kept.append(_moved(current(event.type, event.id), resource))
        if moved is not None and moves:
            happened.append(moved)
    # The report and the patient that a message repeats are no reason to call its values older.
    measured = any(event.type == "Observation" for event in events)
    count = older.count("Observation") if measured else len(older)
    return InOrder(resources=tuple(kept), events=tuple(happened), older=count)


def _moved(current: Mapping[str, Any] | None, resource: dict[str, Any]) -> dict[str, Any]:
    """Return a visit with the admission or discharge of a late message, and everything else as it is stored."""
    if current is None:
        return resource
    late = {key: resource[key] for key in ("status", "period") if key in resource}
    return {key: value for key, value in current.items() if key != "meta"} | late
