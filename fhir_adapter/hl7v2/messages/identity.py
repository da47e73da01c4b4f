"""Which stored Observation an OBX of an order means.

The sender identifies an Observation by its order, OBX-3, OBX-4 and the instant of OBX-14 (default: OBR-7). What is
stored under OBX-14 as it was written, by an earlier release, is found first. A change (table 0085: A, B, C, D, U, W, X)
whose time is stated with another precision, or was corrected, means the stored Observation of the same order and code,
where only one comes into question. Any other value, and a change that finds none, means the one that
:mod:`fhir_adapter.hl7v2.origin` finds for it: so a late original meets the correction, and the status decides.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, Final, TypeAlias

from fhir_adapter.hl7v2.conversion import ConversionState
from fhir_adapter.hl7v2.datatypes import cwe, dtm
from fhir_adapter.hl7v2.message import Segment
from fhir_adapter.hl7v2.messages.observations import Observations
from fhir_adapter.hl7v2.origin import WIDEST_S, Origin, StoredOrigins, fitting
from fhir_adapter.hl7v2.segments.obx import status_code

_CHANGES: Final = frozenset("ABCDUWX")
"""OBX-11 that says something about a result that was sent before."""
_NEEDS_STORED: Final = frozenset("CDW")
"""OBX-11 that has no sense without a result that was sent before."""
_CHANGED: Final = frozenset({"amended", "corrected", "cancelled", "entered-in-error"})
_BEFORE_FINAL: Final = frozenset({"registered", "preliminary", "unknown"})
MOST_KEPT: Final = 100
"""Results of earlier times that the report of an order keeps. One with as many may lack some, so "the only one" is not
known."""

Stored: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The Observation of an OBX."""

    id: str
    #: Its time where the message states the same one with less precision, else nothing.
    time: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class StoredOrder:
    """An order of a message, and what is stored of it.

    Parameters
    ----------
    state
        The state of the conversion.
    observations
        Makes the ids.
    name
        The values that identify the order.
    numbers
        Its placer's and its filler's number.
    obr
        Its OBR.
    report
        Its DiagnosticReport as it is stored; None when it is not, empty where an order has none.
    """

    state: ConversionState
    observations: Observations
    name: tuple[str, ...]
    numbers: tuple[str, str] = ("", "")
    obr: Segment | None
    report: Stored | None

    @cached_property
    def results(self) -> tuple[str, ...]:
        """Ids of the stored Observations that its report refers to."""
        references = (str(it.get("reference", "")) for it in (self.report or {}).get("result", ()))
        return tuple(it.removeprefix("Observation/") for it in references if it.startswith("Observation/"))

    @cached_property
    def _ids(self) -> frozenset[str]:
        return frozenset(self.results)

    @cached_property
    def _by_code(self) -> Mapping[tuple[str, str], Sequence[Stored]]:
        """The stored Observations, by each of their codes."""
        found: dict[tuple[str, str], list[Stored]] = {}
        for name in self.results:
            stored = self.state.context.current("Observation", name)
            for code in sorted(_codes((stored or {}).get("code", {}))):
                found.setdefault(code, []).append(stored or {})
        return found

    @cached_property
    def _by_time(self) -> Mapping[tuple[str, str], Sequence[tuple[datetime, Stored]]]:
        """The stored Observations that have a time, by each of their codes, in the order of their times."""
        return {
            code: sorted(
                ((moment, found) for found in stored if (moment := _moment(found)) is not None),
                key=lambda timed: timed[0],
            )
            for code, stored in self._by_code.items()
        }

    def _between(self, codes: Set[tuple[str, str]], start: datetime, end: datetime) -> dict[str, Stored]:
        """Return what is stored of a code from ``start`` until before ``end``, or at ``start``, by id."""
        found: dict[str, Stored] = {}
        for code in sorted(codes):
            timed = self._by_time.get(code, ())
            low = bisect_left(timed, start, key=lambda it: it[0])
            for moment, stored in islice(timed, low, None):
                if moment >= end and moment != start:
                    break
                found[stored["id"]] = stored
        return found

    def references(self, found: Sequence[Stored], report: Stored) -> list[dict[str, str]]:
        """Return the results of the report: those that are stored and those of the message, but no deleted one.

        Parameters
        ----------
        found
            The Observations of the message.
        report
            The report that the message states.
        """
        deleted = {it["id"] for it in found if it["status"] == "entered-in-error"}
        kept = self.results
        if (
            found
            and _time_of(report) != _time_of(self.report or {})
            and not any(it["status"] in _CHANGED for it in found)
        ):
            kept = kept[-MOST_KEPT:]
        ids = dict.fromkeys((*kept, *(it["id"] for it in found)))
        return [{"reference": f"Observation/{it}"} for it in ids if it not in deleted]

    def cancelled(self) -> list[dict[str, Any]]:
        """Return the stored Observations that are not final, as cancelled ones."""
        stored = [self.state.context.current("Observation", it) for it in self.results]
        return [
            {key: value for key, value in found.items() if key != "meta"} | {"status": "cancelled"}
            for found in stored
            if found is not None and found["status"] in _BEFORE_FINAL
        ]

    def identities(self, segments: Sequence[Segment]) -> list[Identity]:
        """Return the Observation of each OBX of the order; one that should be stored and is not counts as unmatched."""
        ids = [self._own(segment) for segment in segments]
        origins = [self._origin(segment, own) for segment, own in zip(segments, ids, strict=True)]
        stored = self._origins([one for one in origins if one and one.id not in self._ids])
        claims = Counter(it.id for one in origins if one for it in fitting(one, stored.near(one), of_any_sender=False))
        taken = set(ids)
        found: list[Identity] = []
        for segment, own, origin in zip(segments, ids, origins, strict=True):
            status = status_code(segment)
            identity, changes = Identity(id=own, time={}), status in _CHANGES
            is_known = self._is_stored(own) if changes else own in self._ids or own in stored.by_id
            if not is_known:
                meant = self._meant(segment, taken) if changes else None
                if meant is None and origin is not None:
                    left = [it for it in stored.near(origin) if it.id not in taken]
                    near = fitting(origin, left, of_any_sender=changes)
                    meant = self._of_origin(origin, [it for it in near if changes or claims[it.id] == 1])
                if meant is None and status in _NEEDS_STORED:
                    self.state.unmatched.append(own)
                identity = meant or identity
            taken.add(identity.id)
            found.append(identity)
            if origin is not None:
                self.state.origins.append(_renewed(origin, identity, stored.by_id.get(identity.id)))
        return found

    def _origin(self, segment: Segment, own: str) -> Origin | None:
        """Return how an OBX is identified; None where its time is no instant."""
        placed = dtm.placed(self._time(segment), self.state.zone)
        codes = _coding_texts(cwe.codes(segment.field(3)))
        if not placed or not codes:
            return None
        start, end = dtm.interval(placed)
        if start.tzinfo is None or (end - start).total_seconds() > WIDEST_S:
            return None
        placer, filler = self.numbers
        return Origin(
            id=own,
            patient=self.observations.patient,
            sender=self.state.sender,
            placer=placer,
            filler=filler,
            sub_id=segment.raw(4),
            codes=codes,
            start=start.timestamp(),
            end=end.timestamp(),
        )

    def _origins(self, wanted: Sequence[Origin]) -> StoredOrigins:
        """Return what is stored of the patient in the time of some values."""
        if not wanted:
            return StoredOrigins(())
        start, end = min(one.start for one in wanted), max(one.end for one in wanted)
        return StoredOrigins(self.state.context.origins(self.observations.patient, start, end))

    def _of_origin(self, origin: Origin, near: Sequence[Origin]) -> Identity | None:
        """Return the only stored Observation that a value may mean, if it is still the patient's."""
        if len(near) != 1:
            return None
        (one,) = near
        stored = self.state.context.current("Observation", one.id)
        if stored is None or stored.get("subject", {}).get("reference") != f"Patient/{one.patient}":
            return None
        is_coarser = origin.width > one.width
        return Identity(
            id=one.id, time={key: stored[key] for key in ("effectiveDateTime",) if is_coarser and key in stored}
        )

    def _own(self, segment: Segment) -> str:
        """Return the id by the instant, or by the text of OBX-14 where that is stored."""
        key = (*self.name, segment.raw(3), segment.raw(4))
        text = self._time(segment)
        own = self.observations.resource_id("Observation", *key, instant(text, self.state))
        written = self.observations.written("Observation", *key, segment.get(14))
        if self.report is None:  # nothing of it is stored
            return own
        before = written()
        return before if before != own and self._is_stored(before) else own

    def _is_stored(self, resource_id: str) -> bool:
        if self.report is None:
            return False
        return resource_id in self._ids or self.state.context.current("Observation", resource_id) is not None

    def _time(self, segment: Segment) -> str:
        return segment.get(14) or (self.obr.get(7) if self.obr else "")

    def _meant(self, segment: Segment, taken: Set[str]) -> Identity | None:
        """Return the only stored Observation that a change may mean."""
        codes = cwe.codes(segment.field(3))

        def fitting(stored: Mapping[str, Stored]) -> list[Stored]:
            left = ((name, found) for name, found in stored.items() if name not in taken)
            return [found for name, found in left if self._has_sub_id(segment, name, found)]

        placed = dtm.placed(self._time(segment), self.state.zone)
        near: list[Stored] = []
        is_coarser = False
        # First those of the time itself: a message of many values never looks at all that is stored for each of them.
        for start, end in _spans(placed):
            near, is_coarser = _near(placed, fitting(self._between(codes, start, end)))
            if near:
                break
        chosen = near
        if not near and len(self.results) < MOST_KEPT:
            chosen = fitting({it["id"]: it for code in sorted(codes) for it in self._by_code.get(code, ())})
        if len(chosen) != 1:
            return None
        (found,) = chosen
        kept = {key: found[key] for key in ("effectiveDateTime",) if near and is_coarser and key in found}
        return Identity(id=found["id"], time=kept)

    def _has_sub_id(self, segment: Segment, name: str, found: Stored) -> bool:
        """Return whether a stored Observation has OBX-4: its id was made from it, whatever form its time had."""
        if not segment.raw(4):
            return True
        moment = _moment(found)
        texts = {""}
        if moment is not None:
            for at in (moment.astimezone(UTC), moment, moment.astimezone(self.state.zone or UTC)):
                for form in ("%Y%m%d%H%M%S", "%Y%m%d%H%M"):
                    texts |= {at.strftime(form), at.strftime(f"{form}%z")}
            texts.add(instant(moment.strftime("%Y%m%d%H%M%S.%f%z"), self.state))
        key = (*self.name, segment.raw(3), segment.raw(4))
        return name in {self.observations.first_id("Observation", *key, text) for text in texts}


def _renewed(origin: Origin, identity: Identity, before: Origin | None) -> Origin:
    """Return how an Observation is identified from now on: an older message may state more than the newest."""
    if before is None:
        return origin if origin.id == identity.id else origin._replace(id=identity.id)
    start, end = (before.start, before.end) if identity.time else (origin.start, origin.end)
    return origin._replace(
        id=identity.id,
        sender=before.sender,
        placer=origin.placer or before.placer,
        filler=origin.filler or before.filler,
        sub_id=origin.sub_id or before.sub_id,
        start=start,
        end=end,
    )


def instant(text: str, state: ConversionState) -> str:
    """Return a DTM in UTC, so that one instant has one text; as it is written where that is no instant.

    Parameters
    ----------
    text
        The DTM as the sender wrote it.
    state
        The state of the conversion, which has the zone of times without an offset.
    """
    return _instant(text, state.zone)


@lru_cache(maxsize=256)
def _instant(text: str, zone: tzinfo | None) -> str:
    placed = dtm.placed(text, zone)
    if not placed:
        return text
    start, end = dtm.interval(placed)
    width = (end - start).total_seconds()
    if start.tzinfo is None or width > 60:
        return text
    at = start.astimezone(UTC)
    if width == 60:
        return at.strftime("%Y%m%d%H%M%z")
    fraction = f"{at.microsecond:06d}".rstrip("0")
    return at.strftime("%Y%m%d%H%M%S") + (f".{fraction}" if fraction else "") + at.strftime("%z")


def _time_of(report: Stored) -> Any:
    return report.get("effectiveDateTime") or report.get("effectivePeriod")


@lru_cache(maxsize=1024)
def _coding_texts(codes: frozenset[tuple[str, str]]) -> frozenset[str]:
    return frozenset(f"{system}|{code}" for system, code in codes)


def _codes(concept: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(it.get("system", ""), it.get("code", "")) for it in concept.get("coding", ())}


def _moment(found: Stored) -> datetime | None:
    text = found.get("effectiveDateTime") or found.get("effectivePeriod", {}).get("start", "")
    return datetime.fromisoformat(text) if "T" in text else None


def _spans(placed: str) -> Sequence[tuple[datetime, datetime]]:
    """Return the span of a time, and the minute that it begins in; nothing where it is no instant."""
    if not placed:
        return ()
    start, end = dtm.interval(placed)
    if start.tzinfo is None:
        return ()
    minute = start.replace(second=0, microsecond=0)
    return (start, end), (minute, minute + timedelta(minutes=1))


def _near(placed: str, stored: Sequence[Stored]) -> tuple[list[Stored], bool]:
    """Return the stored Observations of a time, and whether that time is less precise than theirs.

    FHIR writes a time to the minute with zero seconds. So one that has zero seconds, and is the only one of its minute,
    is also meant by a time to the second.
    """
    if not placed:
        return [], False
    start, end = dtm.interval(placed)
    if start.tzinfo is None:
        return [], False
    timed = [(moment, found) for found in stored if (moment := _moment(found)) is not None]
    if within := [found for moment, found in timed if moment == start or start <= moment < end]:
        return within, (end - start).total_seconds() > 1
    minute = start.replace(second=0, microsecond=0)
    of_minute = [(moment, found) for moment, found in timed if moment.replace(second=0, microsecond=0) == minute]
    if len(of_minute) == 1 and of_minute[0][0] == minute:
        return [of_minute[0][1]], False
    return [], False
