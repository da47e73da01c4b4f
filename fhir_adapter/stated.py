"""Conditions and medications as facts: what was in force, from when, until when, and when that became known.

A Condition is in force from its onset, or else since it was recorded, while its clinical status is active; one that is
refuted or entered in error states nothing. A MedicationRequest is in force while it is active, a MedicationStatement
and a MedicationAdministration in their effective time. What has ended without saying when ended when that was stored.
What was never meant to be taken, was not given, or has a status that nobody can name states nothing. A date counts
from its first instant where something begins, and to its last where it ends or becomes known.

FHIR R4: https://hl7.org/fhir/R4/condition.html, medicationrequest.html, medicationstatement.html,
medicationadministration.html.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Final, TypeAlias

import orjson
from sqlalchemy import Connection, bindparam, or_, select

from fhir_adapter.production import is_production
from fhir_adapter.results.common import SHADOW
from fhir_adapter.store.document import Json
from fhir_adapter.store.search.parameters import numbers_of
from fhir_adapter.store.search.values import key_of
from fhir_adapter.store.store import Store
from fhir_adapter.store.times import span
from fhir_adapter.store.versions import CURRENT
from inference.contract import Fact, FactKind
from kernel.errors import Category, Problem
from kernel.statements import Statement, StatementOfMany
from kernel.tables import resource_heads, resource_index

Wanted: TypeAlias = Callable[[str, str], bool]
"""(system, code) -> whether it is read."""
MedicationOf: TypeAlias = Callable[[str], Json | None]
"""``Medication/<id>`` -> the resource, None where it is not stored."""

_HEADS: Final = resource_heads.c
_CONTENTS: Final = StatementOfMany(lambda keys: CURRENT.where(_HEADS.key.in_(keys)))


@dataclass(frozen=True, kw_only=True)
class _Spell:
    """From when to when something was in force."""

    start: datetime
    until: datetime | None
    #: When it became known, where the resource says so.
    stated: datetime | None
    status: str = ""


def statement_facts(
    resource: Json, *, source: str, known: datetime, wanted: Wanted, medication_of: MedicationOf = lambda _: None
) -> Iterator[Fact]:
    """Read the facts of one Condition, MedicationRequest, MedicationStatement or MedicationAdministration.

    Parameters
    ----------
    resource
        Plain JSON.
    source
        Versioned reference, ``Condition/1/_history/2``.
    known
        When this server stored it; stands where the resource does not say when it became known.
    wanted
        Which codes are read.
    medication_of
        Where a medication is read that is named by a reference.
    """
    form = _FORMS[resource["resourceType"]]
    if SHADOW in resource.get("meta", {}).get("tag", ()) or not is_production(resource):
        return
    spell = form.spell(resource, known)
    if spell is None:
        return
    for system, code in _codes(form.concept(resource, medication_of)):
        if wanted(system, code):
            yield Fact(
                system=system,
                code=code,
                value=None,
                value_system=None,
                unit=None,
                effective=spell.start,
                issued=known if spell.stated is None else min(spell.stated, known),
                source=source,
                known=known,
                kind=form.kind,
                status=spell.status,
                until=spell.until,
            )


def may_state(resource: Json, wanted: Wanted) -> bool:
    """Return whether a resource may state one of some codes; one that names its medication by a reference may.

    Parameters
    ----------
    resource
        Plain JSON of a type of :data:`KINDS`.
    wanted
        Which codes are read.
    """
    if "medicationReference" in resource:
        return True
    concept = _FORMS[resource["resourceType"]].concept(resource, lambda _: None)
    return any(wanted(system, code) for system, code in _codes(concept))


def stated_on(resource: Json) -> datetime | None:
    """Return when a resource says that it became known; None where it does not.

    An administration has no such date and became known at its end.
    """
    stated = _last(*(resource.get(name) for name in ("recordedDate", "authoredOn", "dateAsserted")))
    if stated is not None or resource["resourceType"] != "MedicationAdministration":
        return stated
    return _effective(resource)[1] or _last(resource.get("effectivePeriod", {}).get("start"))


def medication_id(reference: str) -> str | None:
    """Return the ``id`` of the Medication that a reference names, None where it names another resource."""
    kind, _, identifier = reference.partition("/_history/")[0].rpartition("/")
    return identifier if kind.rpartition("/")[2] == "Medication" else None


def patient_statements(
    connection: Connection, store: Store, patient: str, kinds: Collection[FactKind], wanted: Wanted, most: int
) -> tuple[Fact, ...] | None:
    """Read what is stated of a patient's conditions and medications.

    Parameters
    ----------
    connection
        Where to read.
    store
        The store that holds the medications that resources refer to.
    patient
        ``Patient/<id>``.
    kinds
        Kinds of statements.
    wanted
        Which codes are read.
    most
        Resources that are read.

    Returns
    -------
    tuple of Fact or None
        None when more resources are stored than are read.
    """
    if not kinds:
        return ()
    question = {"patient": key_of(patient), "most": most + 1}
    keys = [row.key for row in _of_patient(frozenset(kinds)).run(connection, question)]
    if len(keys) > most:
        return None
    medications: dict[str, Json | None] = {}

    def medication_of(reference: str) -> Json | None:
        if reference not in medications:
            medications[reference] = _stored(connection, store, reference)
        return medications[reference]

    facts: list[Fact] = []
    for row in sorted(_CONTENTS.run(connection, keys), key=lambda row: (row.type, row.id)):
        facts += statement_facts(
            orjson.loads(row.content),
            source=f"{row.type}/{row.id}/_history/{row.version}",
            known=row.last_updated,
            wanted=wanted,
            medication_of=medication_of,
        )
    return tuple(facts)


@lru_cache(maxsize=32)
def _of_patient(kinds: frozenset[FactKind]) -> Statement:
    numbers = sorted(numbers_of(name, "patient")[0] for name, form in _FORMS.items() if form.kind in kinds)
    about = resource_index.c
    return Statement(
        select(_HEADS.key)
        .join(resource_index, about.key == _HEADS.key)
        .where(
            or_(*(about.param == number for number in numbers)),
            about.value == bindparam("patient"),
            _HEADS.deleted.is_(False),
        )
        .distinct()
        .limit(bindparam("most"))
    )


def _stored(connection: Connection, store: Store, reference: str) -> Json | None:
    identifier = medication_id(reference)
    if identifier is None:
        return None
    try:
        found: Json = orjson.loads(store.read(connection, "Medication", identifier).content)
    except Problem as problem:
        if problem.category is not Category.NOT_FOUND:
            raise
        return None
    return found


def _codes(concept: Json) -> Iterator[tuple[str, str]]:
    for coding in concept.get("coding", ()):
        if "system" in coding and "code" in coding:
            yield coding["system"], coding["code"]


def _condition(resource: Json, known: datetime) -> _Spell | None:
    verification = _status_of(resource, "verificationStatus") or "confirmed"
    if verification in {"refuted", "entered-in-error"}:
        return None
    recorded = resource.get("recordedDate")
    start = _first(resource.get("onsetDateTime"), resource.get("onsetPeriod", {}).get("start"), recorded)
    ended = _last(resource.get("abatementDateTime"), resource.get("abatementPeriod", {}).get("end"))
    clinical = _status_of(resource, "clinicalStatus")
    if clinical in {"inactive", "remission", "resolved"} or any(key.startswith("abatement") for key in resource):
        ended = ended or known
    return _Spell(start=start or known, until=ended, stated=_last(recorded), status=verification)


def _request(resource: Json, known: datetime) -> _Spell | None:
    status, ordered = resource.get("status"), resource.get("authoredOn")
    if resource.get("intent") in {"proposal", "plan", "option"} or resource.get("doNotPerform"):
        return None
    if status not in {"active", "on-hold", "completed", "stopped"}:
        return None
    until = None if status == "active" else known
    return _Spell(start=_first(ordered) or known, until=until, stated=_last(ordered))


def _statement(resource: Json, known: datetime) -> _Spell | None:
    status, asserted = resource.get("status"), resource.get("dateAsserted")
    if status not in {"active", "on-hold", "completed", "stopped"}:
        return None
    start, end = _effective(resource)
    if status == "active":
        end = _last(resource.get("effectivePeriod", {}).get("end"))
    return _Spell(
        start=start or _first(asserted) or known,
        until=end if status == "active" else end or known,
        stated=_last(asserted),
    )


def _administration(resource: Json, known: datetime) -> _Spell | None:
    status = resource.get("status")
    if status not in {"in-progress", "on-hold", "completed", "stopped"}:
        return None
    start, end = _effective(resource)
    return _Spell(start=start or known, until=None if status == "in-progress" else end or known, stated=None)


def _effective(resource: Json) -> tuple[datetime | None, datetime | None]:
    period, moment = resource.get("effectivePeriod", {}), resource.get("effectiveDateTime")
    return _first(moment, period.get("start")), _last(moment, period.get("end"))


def _first(*texts: str | None) -> datetime | None:
    """Return the first instant of the first of several dates that is stated."""
    return next((span(text)[0] for text in texts if text), None)


def _last(*texts: str | None) -> datetime | None:
    """Return the end of the first of several dates that is stated."""
    return next((span(text)[1] for text in texts if text), None)


def _status_of(resource: Json, name: str) -> str | None:
    return next((coding["code"] for coding in resource.get(name, {}).get("coding", ()) if "code" in coding), None)


def _code(resource: Json, _medication_of: MedicationOf) -> Json:
    code: Json = resource.get("code", {})
    return code


def _medication(resource: Json, medication_of: MedicationOf) -> Json:
    """Return the code of a medication, which may stand in a contained or another resource."""
    if "medicationCodeableConcept" in resource:
        concept: Json = resource["medicationCodeableConcept"]
        return concept
    reference = resource.get("medicationReference", {}).get("reference", "")
    if reference.startswith("#"):
        contained = (one for one in resource.get("contained", ()) if one.get("id") == reference[1:])
        found = next(contained, None)
    else:
        found = medication_of(reference)
    code: Json = (found or {}).get("code", {})
    return code


@dataclass(frozen=True, kw_only=True)
class _Form:
    """How a resource type states that something is in force."""

    kind: FactKind
    spell: Callable[[Json, datetime], _Spell | None]
    concept: Callable[[Json, MedicationOf], Json]


_FORMS: Final[Mapping[str, _Form]] = MappingProxyType(
    {
        "Condition": _Form(kind="condition", spell=_condition, concept=_code),
        "MedicationRequest": _Form(kind="medication-request", spell=_request, concept=_medication),
        "MedicationStatement": _Form(kind="medication-statement", spell=_statement, concept=_medication),
        "MedicationAdministration": _Form(kind="medication-administration", spell=_administration, concept=_medication),
    }
)
"""Resource type -> how it states something."""

KINDS: Final[Mapping[str, FactKind]] = MappingProxyType({name: form.kind for name, form in _FORMS.items()})
"""Resource type -> kind of the facts that it states."""
