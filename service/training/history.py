"""What was known of a patient at a moment: of each resource the version that was the newest then.

A version that became known later does not exist yet. Of a Patient the newest version of then counts, else the first one
there is: birth date and sex do not change, and an export holds the newest version alone. A medication that a reference
names is the one of the moment, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, Final, TypeAlias

import orjson

from fhir_adapter.admission import stay_of
from fhir_adapter.facts import observation_facts, patient_subject
from fhir_adapter.patient_identity import Order
from fhir_adapter.stated import KINDS, medication_id, statement_facts
from fhir_adapter.store.document import exact_values
from fhir_adapter.store.times import LATEST
from inference.contract import Admission, Fact, Subject
from inference.features.point_in_time import known_at
from inference.features.records import StatedCodes
from service.training.spool import PatientRecord, Spool, Version

_Json: TypeAlias = dict[str, Any]
_MOST_MEDICATIONS: Final = 10_000
"""Medications that are kept in memory."""


@dataclass(frozen=True, kw_only=True)
class VersionFacts:
    """What one version of a resource states, and how long it was the newest one."""

    known: datetime
    until: datetime
    facts: tuple[Fact, ...]

    @cached_property
    def latest(self) -> datetime:
        """The latest time that it is about; it states something."""
        return max(fact.effective for fact in self.facts)


class Medications:
    """The medications that other resources refer to.

    Parameters
    ----------
    spool
        Where they are, all of them.
    """

    def __init__(self, spool: Spool) -> None:
        self._versions = lru_cache(maxsize=_MOST_MEDICATIONS)(spool.versions_of)

    def of(self, reference: str) -> tuple[Version, ...]:
        """Return the versions of the medication that a reference names."""
        id_ = medication_id(reference)
        return () if id_ is None else self._versions(f"Medication/{id_}")

    def at(self, reference: str, at: datetime) -> _Json | None:
        """Return a medication as it was at a moment, None where it was not known.

        Parameters
        ----------
        reference
            ``Medication/<id>``.
        at
            The moment.
        """
        found = (orjson.loads(one.content) for one in self.of(reference) if one.known <= at < one.until)
        return next(found, None)


@dataclass(frozen=True, kw_only=True)
class History:
    """What is known of one patient, with when it became known."""

    patient: PatientRecord
    observations: tuple[VersionFacts, ...]
    #: Conditions and medications.
    statements: tuple[VersionFacts, ...]
    encounters: tuple[tuple[Version, _Json], ...]

    def subject_at(self, at: datetime, order: Order) -> Subject:
        """Return whom the Patient of a moment is.

        Parameters
        ----------
        at
            The moment.
        order
            The site's order of trust in identifiers.
        """
        versions = [one for one in self.patient.versions if one.type == "Patient"]
        known = [one for one in versions if one.known <= at]
        chosen = known[-1] if known else versions[0] if versions else None
        content = {} if chosen is None else orjson.loads(chosen.content)
        return patient_subject(self.patient.reference, content, order)

    def admission_at(self, at: datetime) -> Admission | None:
        """Return the admission to the stay that the patient was in at a moment."""
        known = {one.id: (one, content) for one, content in self.encounters if one.known <= at < one.until}
        stay = stay_of((content for _, content in known.values()), at)
        return None if stay is None else Admission(start=stay.start, source=_reference(*known[stay.id]))

    def facts_at(self, at: datetime, since: datetime) -> tuple[Fact, ...]:
        """Return what was known at a moment.

        Parameters
        ----------
        at
            The moment.
        since
            How far back features look; of a code without a value since then the newest Observation counts.
        """
        recent: list[Fact] = []
        older: dict[str, VersionFacts] = {}
        for one in self.observations:
            if one.known <= at < one.until:
                if one.latest >= since:
                    recent += one.facts
                else:
                    for fact in one.facts:
                        newest = older.get(fact.code)
                        if newest is None or newest.latest <= one.latest:
                            older[fact.code] = one
        codes = {fact.code for fact in recent}
        left = {id(one): one for code, one in older.items() if code not in codes}
        found = [*recent, *(fact for one in left.values() for fact in one.facts)]
        found += [fact for one in self.statements if one.known <= at < one.until for fact in one.facts]
        return known_at(found, at)

    def newest(self) -> Iterator[Fact]:
        """Yield what the newest versions state."""
        for one in (*self.observations, *self.statements):
            if one.until == LATEST:
                yield from one.facts


def history_of(patient: PatientRecord, stated: StatedCodes, medications: Medications) -> History:
    """Read what a patient's resources state.

    Parameters
    ----------
    patient
        The patient.
    stated
        Which conditions and medications are read.
    medications
        Those that resources refer to.
    """
    observations: list[VersionFacts] = []
    statements: list[VersionFacts] = []
    encounters: list[tuple[Version, _Json]] = []
    for number, version in enumerate(patient.versions, start=1):
        if version.type == "Observation":
            facts = _observed(version, number)
            if facts:
                observations.append(VersionFacts(known=version.known, until=version.until, facts=facts))
        elif version.type in KINDS:
            statements += _stated(version, stated, medications)
        elif version.type == "Encounter":
            encounters.append((version, orjson.loads(version.content)))
    return History(
        patient=patient,
        observations=tuple(observations),
        statements=tuple(statements),
        encounters=tuple(encounters),
    )


def _observed(version: Version, arrived: int) -> tuple[Fact, ...]:
    content = exact_values(version.content)
    source = _reference(version, content)
    return tuple(observation_facts(content, source=source, known=version.known, arrived=arrived))


def _stated(version: Version, stated: StatedCodes, medications: Medications) -> Iterator[VersionFacts]:
    """Yield what a version states: another thing since each change of a medication that it refers to."""
    content = orjson.loads(version.content)
    source, asked = _reference(version, content), set[str]()

    def facts(at: datetime) -> tuple[Fact, ...]:
        def medication_of(reference: str) -> _Json | None:
            asked.add(reference)
            return medications.at(reference, at)

        return tuple(
            statement_facts(
                content, source=source, known=version.known, wanted=stated.holds, medication_of=medication_of
            )
        )

    first = facts(version.known)
    changes = {one.known for reference in asked for one in medications.of(reference)}
    begins = sorted({version.known} | {at for at in changes if version.known < at < version.until})
    for begin, end in pairwise((*begins, version.until)):
        found = first if begin == version.known else facts(begin)
        if found:
            yield VersionFacts(known=begin, until=end, facts=found)


def _reference(version: Version, content: _Json) -> str:
    return f"{version.type}/{version.id}/_history/{content.get('meta', {}).get('versionId', '1')}"
