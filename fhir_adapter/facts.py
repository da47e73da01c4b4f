"""Stored resources as the facts that models read: what was measured, when it was true, and when it became known.

An Observation yields one fact for each of its codings and, if its value is coded, for each coding of that; components
are observations of their own with the parent's time. What is stated and cannot be used is a fact too, which says why: a
comparator (``<5``), a ``dataAbsentReason``, a value in a form that nothing reads, a status that is not known, a missing
instant. So a reader never takes an older value for the newest. A status that says that the statement is not, or no
longer, made yields none.

Only a time with a time zone is an instant. An Observation that names merely a day, or no time, is *untimed*: nobody can
say which of two values of a day is newer. Its fact stands at the latest instant that it may have, which is never after
it was stored. A caller whose window is in days may ask for ``Dates.EARLIEST`` and gets the first instant of the span:
a value never looks fresher than it is. A period counts from its end; one without is still going on and is untimed.

FHIR R4: https://hl7.org/fhir/R4/observation.html, datatypes.html#dateTime.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from math import inf
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import orjson
from sqlalchemy import BigInteger, Connection, and_, bindparam, func, or_, select, type_coerce

from fhir_adapter.patient_identity import DEFAULT_ORDER, Order, best_identifier, type_of
from fhir_adapter.production import is_production
from fhir_adapter.results.common import SHADOW
from fhir_adapter.store.document import Json, exact_values
from fhir_adapter.store.search.conditions import of_head
from fhir_adapter.store.search.parameters import numbers_of
from fhir_adapter.store.search.values import seconds
from fhir_adapter.store.store import Store
from fhir_adapter.store.times import point, span
from fhir_adapter.store.versions import CURRENT, StoredVersion
from inference.contract import Fact, Subject, Unusable
from kernel.clock import YEARS
from kernel.errors import Category, Problem
from kernel.statements import Statement, StatementOfMany
from kernel.tables import resource_dates, resource_heads, resource_index, resource_versions

STATED: Final = frozenset({"preliminary", "final", "amended", "corrected"})
"""Statuses in which an Observation states something (value set observation-status)."""
UNKNOWN: Final = "unknown"
"""The status of an Observation that was received with a status that nobody can name."""
_STANDING: Final[Mapping[str, int]] = MappingProxyType(
    {"preliminary": 0, "final": 1, UNKNOWN: 1, "amended": 2, "corrected": 2}
)
"""Status -> :attr:`inference.contract.Fact.standing`. An unknown one may be final, so it never gives way in silence."""
MOST_OBSERVATIONS: Final = 20_000
"""Observations of one code that are read for one question."""

_Value: TypeAlias = tuple[Decimal | str | None, str | None, str | None, Unusable | None, str | None]

_UCUM: Final = "http://unitsofmeasure.org"
_HEADS: Final = resource_heads.c
_FULL_DATE: Final = len("YYYY-MM-DD")


class Dates(Enum):
    """What a date without a time of day is worth."""

    #: No instant: the fact is untimed.
    UNTIMED = "untimed"
    #: Its first instant, read as UTC.
    EARLIEST = "earliest"


def observation_facts(
    observation: Json, *, source: str, known: datetime, dates: Dates = Dates.UNTIMED, arrived: int = 0
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
    status, (effective, timed) = observation.get("status"), _effective(observation, known, dates)
    if status not in STATED and status != UNKNOWN:
        return
    if "meta" in observation and (SHADOW in observation["meta"].get("tag", ()) or not is_production(observation)):
        return  # nobody has decided that what a model in shadow says may be relied on
    issued = point(observation.get("issued")) or known
    for part in (observation, *observation.get("component", ())):
        for value, value_system, unit, unusable, comparator in _values(part):
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
                        unusable=unusable
                        or (None if timed else "untimed")
                        or ("unstated" if status == UNKNOWN else None),
                        comparator=comparator,
                        known=known,
                        standing=_STANDING[status],
                        status=status,
                    )


def patient_facts(
    connection: Connection,
    store: Store,  # noqa: ARG001 - says whose resources these are; the statement below reads its tables
    patient_reference: str,
    codes: Collection[str],
    since: datetime,
    most: int = MOST_OBSERVATIONS,
) -> tuple[Fact, ...]:
    """Read what is known about a patient, newest first.

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
        How far back ``effective`` may lie; aware. Of a code without a value since then the newest is read.
    most
        Observations of one code that are read, the newest first.

    Returns
    -------
    tuple of Fact
        Everything that those Observations state; a panel states more than was asked for.
    """
    if not codes:
        return ()
    question = {"patient": patient_reference, "since": seconds(since), "most": most}
    places: dict[int, _Place] = {}
    for row in _newest(frozenset(codes)).run(connection, question):
        known = places.get(row.key, _NOWHERE)
        places[row.key] = _Place(moment=max(known.moment, row.moment), arrived=max(known.arrived, row.arrived))
    found = [(places[row.key], row) for row in _CONTENTS.run(connection, list(places))]
    facts: list[Fact] = []
    for place, row in sorted(found, key=lambda item: (-item[0].moment, item[1].id)):
        source = f"Observation/{row.id}/_history/{row.version}"
        content = exact_values(row.content)
        facts += observation_facts(content, source=source, known=row.last_updated, arrived=place.arrived)
    return tuple(facts)


def crowded_codes(
    connection: Connection, patient_reference: str, codes: Collection[str], since: datetime, most: int
) -> tuple[str, ...]:
    """Return the codes of which more Observations are stored than are read.

    Parameters
    ----------
    connection
        Where to read.
    patient_reference
        ``Patient/<id>``.
    codes, since, most
        As for :func:`patient_facts`.
    """
    if not codes:
        return ()
    question = {"patient": patient_reference, "since": seconds(since), "most": most}
    return tuple(sorted(row.code for row in _crowded(frozenset(codes)).run(connection, question)))


@dataclass(frozen=True, kw_only=True)
class _Place:
    """When an Observation was true, in seconds since 1970, and its place in the order of arrival."""

    moment: float
    arrived: int


_NOWHERE: Final = _Place(moment=-inf, arrived=0)
_CONTENTS: Final = StatementOfMany(lambda keys: CURRENT.where(_HEADS.key.in_(keys)))


@lru_cache(maxsize=256)
def _newest(codes: frozenset[str]) -> Statement:
    """Return the statement for what :func:`patient_facts` reads; building it takes longer than running it."""
    places = _places(codes)
    counts = or_(places.c.moment >= bindparam("since"), places.c.place == 1)
    shown = places.c.key, places.c.moment, places.c.arrived
    return Statement(select(*shown).where(counts, places.c.place <= bindparam("most")))


@lru_cache(maxsize=256)
def _crowded(codes: frozenset[str]) -> Statement:
    places = _places(codes)
    beyond = places.c.place > bindparam("most"), places.c.moment >= bindparam("since")
    return Statement(select(places.c.code).where(*beyond).distinct())


def _places(codes: Collection[str]) -> Any:
    """Return the table of a patient's Observations of some codes.

    Its columns are the key, the code, ``moment``, ``place`` in the code (1 the newest) and ``arrived``, the order of
    arrival. The moment of one without a time is when it was stored.
    """
    about, coded, dated = resource_index.alias(), resource_index.alias(), resource_dates.alias()
    moment = func.coalesce(dated.c.high, type_coerce(_HEADS.last_updated, BigInteger) / 1_000_000.0)
    newest = resource_versions.alias()
    of_code = func.row_number().over(
        partition_by=(coded.c.system, coded.c.value), order_by=(moment.desc(), newest.c.seq.desc())
    )
    of_patient = about.c.param == numbers_of("Observation", "patient")[0], about.c.value == bindparam("patient")
    return (
        select(
            _HEADS.key,
            coded.c.value.label("code"),
            moment.label("moment"),
            of_code.label("place"),
            newest.c.seq.label("arrived"),
        )
        .select_from(resource_heads)
        .join(
            coded,
            and_(of_head(coded, "Observation", "combo-code"), or_(*(is_code(coded, code) for code in sorted(codes)))),
        )
        .join(newest, and_(newest.c.key == _HEADS.key, newest.c.version == _HEADS.version))
        .outerjoin(dated, of_head(dated, "Observation", "date"))
        .where(_HEADS.key.in_(select(about.c.key).where(*of_patient)), _HEADS.deleted.is_(False))
        .subquery()
    )


def subject(connection: Connection, store: Store, reference: str, order: Order = DEFAULT_ORDER) -> Subject:
    """Return whom a reference is about; what is not known of a patient stays None.

    Parameters
    ----------
    connection
        Where to read.
    store
        The store that may hold the Patient.
    reference
        ``Patient/<id>``.
    order
        The site's order of trust in identifiers.
    """
    try:
        stored = store.read(connection, "Patient", reference.removeprefix("Patient/"))
        patient, version = orjson.loads(stored.content), stored.reference
    except Problem as problem:
        if problem.category is not Category.NOT_FOUND:
            raise
        stored, patient, version = None, {}, None
    since = None if stored is None else stands_since(connection, store, stored, demographics)
    return patient_subject(reference, patient, order, version=version, since=since)


def patient_subject(
    reference: str, patient: Json, order: Order = DEFAULT_ORDER, *, version: str | None = None, since: str | None = None
) -> Subject:
    """Return whom a Patient is; what it does not state stays None.

    Parameters
    ----------
    reference
        ``Patient/<id>``.
    patient
        The resource; empty where there is none.
    order
        The site's order of trust in identifiers.
    version
        Versioned reference to the resource.
    since
        Versioned reference to the version since which birth date and sex stand.
    """
    best = best_identifier(patient.get("identifier", ()), order)
    day, period = day_or_period(patient.get("birthDate"))
    return Subject(
        reference=reference,
        birth_date=day,
        birth_period=period,
        sex=patient.get("gender"),
        identifier=None if best is None else (best["system"], best["value"]),
        identifier_type="" if best is None else type_of(best),
        version=version,
        production=is_production(patient),
        demographics=since,
    )


def stands_since(
    connection: Connection, store: Store, newest: StoredVersion, what: Callable[[Mapping[str, Any]], object]
) -> str:
    """Return the reference of the version since which a part of a resource stands as it does now.

    Parameters
    ----------
    connection
        Where to read.
    store
        The store that holds the resource.
    newest
        Its newest version.
    what
        Takes that part from a version.
    """
    since, before, now = newest, newest.version, what(orjson.loads(newest.content))
    while page := store.history(connection, newest.type, newest.id, before=before):
        for version in page:
            if version.deleted or what(orjson.loads(version.content)) != now:
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


def _effective(observation: Json, known: datetime, dates: Dates) -> tuple[datetime, bool]:
    """Return when an Observation was true at the latest, and whether it states that as an instant."""
    period = observation.get("effectivePeriod", {})
    for text in (observation.get("effectiveDateTime"), observation.get("effectiveInstant"), period.get("end")):
        if text is not None:
            instant = point(text)
            if instant is not None:
                return instant, True
            start, end = span(text)
            return (start, True) if dates is Dates.EARLIEST else (min(end, known), False)
    return known, False


def _values(part: Json) -> Iterable[_Value]:
    """Return value, its code system, its unit, why it cannot be used, and the comparator of a mere limit."""
    quantity = part.get("valueQuantity")
    if quantity is not None and "value" in quantity and "comparator" not in quantity and "dataAbsentReason" not in part:
        return ((quantity["value"], None, _unit(quantity), None, None),)
    return _other_values(part)


def _other_values(part: Json) -> Iterator[_Value]:
    found = () if "dataAbsentReason" in part else tuple(_readable(part))
    yield from ((*one, None, None) for one in found)
    if found or "component" in part or "hasMember" in part:
        return
    quantity = part.get("valueQuantity", {})
    if "dataAbsentReason" in part:
        yield None, None, None, "absent", None
    elif "comparator" in quantity and "value" in quantity:
        yield quantity["value"], None, _unit(quantity), "unreadable", quantity["comparator"]
    else:
        yield None, None, None, "unreadable", None


def _unit(quantity: Json) -> str | None:
    is_ucum = quantity.get("system") == _UCUM and "code" in quantity
    unit: str | None = quantity["code"] if is_ucum else quantity.get("unit")
    return unit


def _readable(part: Json) -> Iterator[tuple[Decimal | str, str | None, str | None]]:
    quantity = part.get("valueQuantity")
    if quantity is not None:
        if "value" in quantity and "comparator" not in quantity:
            yield quantity["value"], None, _unit(quantity)
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


def day_or_period(birth: str | None) -> tuple[date | None, str]:
    """Return the day of birth, else the year or the month; neither of what a program writes for no date."""
    if not birth or int(birth[:4]) not in YEARS:
        return None, ""
    return (date.fromisoformat(birth), "") if len(birth) == _FULL_DATE else (None, birth)
