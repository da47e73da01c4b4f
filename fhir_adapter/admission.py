"""The stay in hospital that a patient is in, by Encounters.

A patient is admitted while an Encounter of an inpatient class is ``in-progress`` or ``onleave`` (R4,
encounter.html#Encounter.status). What is read at a discharge, or shortly after it, still belongs to that stay.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from sqlalchemy import Connection

from fhir_adapter.facts import stands_since
from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.parse import parse
from fhir_adapter.store.store import Store
from fhir_adapter.store.times import span
from inference.contract import Admission

INPATIENT_CLASSES: Final = frozenset({"IMP", "ACUTE", "NONAC", "OBSENC", "EMER"})
"""Codes of v3-ActCode: inpatient, acute, non-acute, observation and emergency encounters."""

ADMITTED_STATUSES: Final = ("in-progress", "onleave")

_STAY_STATUSES: Final = (*ADMITTED_STATUSES, "finished")

LATE_DISCHARGE: Final = timedelta(hours=24)
"""So long after its end a stay counts as just ended."""

_MOST: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Stay:
    """The stay in hospital that a patient is in."""

    #: Of the Encounter.
    id: str
    start: datetime


def is_inpatient(encounter: Mapping[str, Any]) -> bool:
    """Return whether an Encounter is of an inpatient class."""
    return encounter.get("class", {}).get("code") in INPATIENT_CLASSES


def is_admitted(encounter: Mapping[str, Any]) -> bool:
    """Return whether an Encounter says that its patient is in the hospital now, or on leave from it."""
    return encounter.get("status") in ADMITTED_STATUSES and is_inpatient(encounter)


def admission_of(connection: Connection, store: Store, patient: str, at: datetime) -> Admission | None:
    """Return when the stay began that a patient is in; None when nothing says that there is one, or when it began.

    Parameters
    ----------
    connection
        Where to read.
    store
        The store that holds the Encounters.
    patient
        ``Patient/<id>``.
    at
        The time of prediction.
    """
    criteria = {"status": ",".join(_STAY_STATUSES), "patient": patient}
    found = find(connection, replace(parse("Encounter", urlencode(criteria)), count=_MOST)).found
    stay = stay_of((orjson.loads(one.content) for one in found), at)
    if stay is None:
        return None
    newest = next(one for one in found if one.id == stay.id)
    return Admission(start=stay.start, source=stands_since(connection, store, newest, _start_of))


def stay_of(encounters: Iterable[Mapping[str, Any]], at: datetime) -> Stay | None:
    """Return the stay that a patient is in, None when there is none.

    Of several the one that began last counts; one that has not ended counts before one that has just ended.

    Parameters
    ----------
    encounters
        Of one patient, each with its ``id``.
    at
        The time of prediction.
    """
    stays = [
        (is_admitted(encounter), start, encounter["id"])
        for encounter in encounters
        if (start := _began(encounter, at)) is not None
    ]
    if not stays:
        return None
    _, start, id_ = max(stays)
    return Stay(id=id_, start=start)


def _began(encounter: Mapping[str, Any], at: datetime) -> datetime | None:
    """Return when a stay began that lasts, or that has just ended; None for every other Encounter."""
    stated = _start_of(encounter)
    if stated is None or encounter.get("status") not in _STAY_STATUSES or not is_inpatient(encounter):
        return None
    start, end = span(stated)[0], encounter.get("period", {}).get("end")
    if start > at:
        return None
    if is_admitted(encounter):
        return start
    return start if end is not None and at - span(end)[1] <= LATE_DISCHARGE else None


def _start_of(encounter: Mapping[str, Any]) -> str | None:
    start: str | None = encounter.get("period", {}).get("start")
    return start
