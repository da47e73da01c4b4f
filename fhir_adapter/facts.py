"""Stored resources as the facts that models read: what was measured, when it was true, and when it became known.

An Observation yields one fact for each of its codings and, if its value is coded, for each coding of that; components
are observations of their own with the parent's time. What is not a value yields none: a comparator (``<5``), a
``dataAbsentReason``, and any status that says the statement is not, or no longer, made.

Only a time with a time zone is an instant. An Observation that names merely a day is left out, since nobody can say
which of two values of a day is newer; a caller whose window is in days may ask for ``Dates.EARLIEST`` and gets the
first instant of the span, so a value never looks fresher than it is. A period counts from its end; one without is still
going on and has no time yet.

FHIR R4: https://hl7.org/fhir/R4/observation.html, datatypes.html#dateTime.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final

import orjson
from sqlalchemy import Connection, and_, exists, or_, select

from fhir_adapter.patient_identity import best_identifier
from fhir_adapter.results.common import SHADOW
from fhir_adapter.store.document import Json, exact_values
from fhir_adapter.store.search.find import filtered
from fhir_adapter.store.search.index import seconds
from fhir_adapter.store.store import Store
from fhir_adapter.store.times import point, span
from fhir_adapter.store.versions import CURRENT, StoredVersion
from inference.contract import Fact, Subject
from kernel.errors import Category, Problem
from kernel.tables import resource_heads, resource_index

STATED: Final = frozenset({"preliminary", "final", "amended", "corrected"})
"""Statuses in which an Observation states something (value set observation-status)."""
MOST_OBSERVATIONS: Final = 2000
"""Observations read for one question, the newest first."""

_UCUM: Final = "http://unitsofmeasure.org"
_HEADS: Final = resource_heads.c


class Dates(Enum):
    """What a date without a time of day is worth."""

    #: Nothing: the Observation is left out.
    SKIP = "skip"
    #: Its first instant, read as UTC.
    EARLIEST = "earliest"


def observation_facts(
    observation: Json, *, source: str, known: datetime, dates: Dates = Dates.SKIP, arrived: int = 0
) -> Iterator[Fact]:
    """Read the facts of one Observation.

    Parameters
    ----------
    observation
        JSON with its numbers as :class:`~decimal.Decimal` (:func:`~fhir_adapter.store.document.exact_values`).
    source
        Versioned reference, ``Observation/1/_history/2``.
    known
        When this server stored it; stands where ``issued`` does not.
    dates
        What a bare date is worth.
    arrived
        Place of the version in the order in which this server stored them.
    """
    effective = _effective(observation, dates)
    if SHADOW in observation.get("meta", {}).get("tag", ()):  # nobody has decided that it may be relied on
        return
    if effective is None or observation.get("status") not in STATED:
        return
    issued = point(observation.get("issued")) or known
    for part in (observation, *observation.get("component", ())):
        for value, value_system, unit in _values(part):
            for coding in part.get("code", {}).get("coding", ()):
                if "system" in coding and "code" in coding:
                    yield Fact(
                        system=coding["system"],
                        code=coding["code"],
                        value=value,
                        value_system=value_system,
                        unit=unit,
                        effective=effective,
                        issued=issued,
                        source=source,
                        arrived=arrived,
                    )


def patient_facts(
    connection: Connection,
    store: Store,  # noqa: ARG001 - says whose resources these are; the statement below reads its tables
    patient_reference: str,
    codes: Collection[str],
    since: datetime,
    most: int = MOST_OBSERVATIONS,
) -> tuple[Fact, ...]:
    """Read what is known about a patient, newest first, in one query.

    Parameters
    ----------
    connection
        Where to read.
    store
        The store that holds the Observations.
    patient_reference
        ``Patient/<id>``.
    codes
        Codes of observations or of their components; a system may stand before a bar, ``http://loinc.org|8867-4``.
    since
        How far back ``effective`` may lie; aware.
    most
        Observations read at most, the newest first.

    Returns
    -------
    tuple of Fact
        Everything that those Observations state; a panel states more than was asked for.
    """
    if not codes:
        return ()
    about, coded, dated = resource_index.alias(), resource_index.alias(), resource_index.alias()
    own = and_(about.c.type == "Observation", about.c.param == "patient", about.c.value == patient_reference)
    code = and_(filtered(coded, "Observation", "combo-code"), or_(*(is_code(coded, text) for text in sorted(codes))))
    recent = and_(filtered(dated, "Observation", "date"), dated.c.high >= seconds(since))
    statement = (
        CURRENT.add_columns(dated.c.seq.label("arrived"))
        .join(dated, recent)
        .where(_HEADS.type == "Observation", _HEADS.id.in_(select(about.c.id).where(own)), exists().where(code))
        .order_by(dated.c.high.desc(), _HEADS.id)
        .limit(most)
    )
    facts: list[Fact] = []
    for row in connection.execute(statement):
        source = f"Observation/{row.id}/_history/{row.version}"
        read = observation_facts(exact_values(row.content), source=source, known=row.last_updated, arrived=row.arrived)
        facts += (fact for fact in read if fact.effective >= since)
    return tuple(facts)


def subject(connection: Connection, store: Store, reference: str) -> Subject:
    """Return whom a reference is about; what is not known of a patient stays None.

    Parameters
    ----------
    connection
        Where to read.
    store
        The store that may hold the Patient.
    reference
        ``Patient/<id>``.
    """
    try:
        stored = store.read(connection, "Patient", reference.removeprefix("Patient/"))
        patient, version = orjson.loads(stored.content), stored.reference
    except Problem as problem:
        if problem.category is not Category.NOT_FOUND:
            raise
        stored, patient, version = None, {}, None
    return Subject(
        reference=reference,
        birth_date=_day(patient.get("birthDate")),
        sex=patient.get("gender"),
        identifier=_identifier(patient),
        version=version,
        demographics=None if stored is None else _demographics(connection, store, stored),
    )


def _demographics(connection: Connection, store: Store, newest: StoredVersion) -> str:
    """Return the version since which birth date and sex stand as they do now."""
    since, before = newest, newest.version
    while page := store.history(connection, newest.type, newest.id, before=before):
        for version in page:
            if version.deleted or demographics(orjson.loads(version.content)) != demographics(
                orjson.loads(newest.content)
            ):
                return since.reference
            since, before = version, version.version
    return since.reference


def demographics(patient: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return what of a Patient is an input of models: birth date and sex, as they were sent."""
    return patient.get("birthDate"), patient.get("gender")


def is_code(index: Any, text: str) -> Any:
    """Return the condition that a row of the search index holds a code.

    Parameters
    ----------
    index
        Alias of the search index.
    text
        The code; a system may stand before a bar.
    """
    system, bar, code = text.rpartition("|")
    return and_(index.c.value == code, index.c.system == system) if bar else index.c.value == code


def _effective(observation: Json, dates: Dates) -> datetime | None:
    period = observation.get("effectivePeriod", {})
    for text in (observation.get("effectiveDateTime"), observation.get("effectiveInstant"), period.get("end")):
        if text is not None:
            instant = point(text)
            if instant is None and dates is Dates.EARLIEST:
                return span(text)[0]
            return instant
    return None


def _values(part: Json) -> Iterator[tuple[Decimal | str, str | None, str | None]]:
    """Yield value, its code system, and its unit."""
    if "dataAbsentReason" in part:
        return
    quantity = part.get("valueQuantity")
    if quantity is not None:
        if "value" in quantity and "comparator" not in quantity:
            is_ucum = quantity.get("system") == _UCUM and "code" in quantity
            yield quantity["value"], None, quantity["code"] if is_ucum else quantity.get("unit")
    elif "valueInteger" in part:
        yield part["valueInteger"], None, None
    elif "valueString" in part:
        yield part["valueString"], None, None
    elif "valueBoolean" in part:
        yield "true" if part["valueBoolean"] else "false", None, None
    elif "valueCodeableConcept" in part:
        yield from _concept(part["valueCodeableConcept"])


def _concept(concept: Json) -> Iterator[tuple[str, str | None, None]]:
    codings = [coding for coding in concept.get("coding", ()) if "code" in coding]
    for coding in codings:
        yield coding["code"], coding.get("system"), None
    if not codings and "text" in concept:
        yield concept["text"], None, None


def _day(text: str | None) -> date | None:
    """Read a full date; a year or a month is no birthday that an age could be counted from."""
    return date.fromisoformat(text) if text is not None and len(text) == 10 else None


def _identifier(patient: Json) -> tuple[str, str] | None:
    best = best_identifier(patient.get("identifier", ()))
    return None if best is None else (best["system"], best["value"])
