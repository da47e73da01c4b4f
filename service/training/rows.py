"""One row of a training table: the features of a patient at a moment, as serving computes them.

Nothing is computed here: the facts are those of :mod:`fhir_adapter.facts`, the triggers those of
:mod:`service.triggers`, the features those of :mod:`inference.features`. This module only says what was known at the
moment. Of each Observation the version counts that was the newest then; one that became known later does not exist yet.
Of a Patient the newest version of then counts, else the first one there is: birth date and sex do not change, and an
export holds the newest version alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import orjson

from fhir_adapter.facts import observation_facts, patient_subject
from fhir_adapter.patient_identity import DEFAULT_ORDER, Order
from fhir_adapter.store.document import exact_values
from fhir_adapter.store.times import LATEST
from inference.contract import Fact, FactsInput, Subject
from inference.features.extract import Extractor, compile_features
from inference.features.series import find_gap, series_input
from inference.features.spec import FeatureSpec
from inference.manifest import Manifest
from kernel.errors import Category, Problem
from service.training.spool import PatientRecord, Version
from service.triggers.contract import Change, Run
from service.triggers.table import TRIGGERS

ColumnKind: TypeAlias = Literal["text", "number", "numbers"]
RESERVED: Final = ("patient", "subject_id", "time", "refused")
"""Columns that every table has beside the features."""


@dataclass(frozen=True, kw_only=True)
class TableModel:
    """What of a model makes its training table."""

    features: tuple[FeatureSpec, ...]
    #: None when the folder has no ``model.yaml`` yet.
    manifest: Manifest | None
    #: Of the site: how far a time may lie in the future, its order of identifiers, and how long values settle.
    clock_tolerance: timedelta = timedelta(0)
    identifier_order: Order = DEFAULT_ORDER
    settle: timedelta = timedelta(0)

    @property
    def codes(self) -> frozenset[str]:
        """Codes of the Observations that are read: those of the features and those of the trigger."""
        triggers = () if self.manifest is None else self.manifest.trigger.codes
        return frozenset(code for spec in self.features for code in spec.codes).union(triggers)

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        """Name of a feature -> what its column holds."""
        series = self.manifest is not None and self.manifest.input.kind == "series"
        return MappingProxyType({spec.name: "numbers" if series else _kind(spec) for spec in self.features})


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """The features of one patient at one moment."""

    #: ``Patient/<id>``.
    patient: str
    at: datetime
    #: Why the model would refuse; empty when it would not.
    refused: str
    #: Feature -> value; None where it is not known.
    values: Mapping[str, Any]


def _kind(spec: FeatureSpec) -> ColumnKind:
    is_answer = spec.take in {"last", "first"} and any(source.answers for source in spec.sources)
    return "text" if is_answer else "number"


class Rows:
    """Makes the rows of one model.

    Parameters
    ----------
    model
        The model.

    Raises
    ------
    Problem
        ``unsupported`` for a model that reads neither facts nor a time series, or anything but Observations and the
        patient: a row without it would not be what the server computes; ``incorrect`` when a feature has the
        name of another column.
    """

    def __init__(self, model: TableModel) -> None:
        kind = "facts" if model.manifest is None else model.manifest.input.kind
        if kind not in {"facts", "series"}:
            raise Problem(Category.UNSUPPORTED, f"a training table is of facts or of a series, not of input {kind}")
        for spec in model.features:
            if spec.name in RESERVED:
                raise Problem(Category.INCORRECT, f"features.yaml.features: {spec.name} is a column of every table")
            if not spec.sources and spec.subject is None:
                detail = f"features.yaml.features: {spec.name} is neither of Observations nor of the patient"
                raise Problem(Category.UNSUPPORTED, detail)
        self._model = model
        self._reach = max((spec.lookback for spec in model.features), default=timedelta(0))
        self._extract: Extractor = compile_features(model.features)
        self._values = self._grid if kind == "series" else self._scalars

    def of(self, patient: PatientRecord, facts: "Sequence[VersionFacts]") -> Iterator[TrainingRow]:
        """Yield the rows of one patient, oldest first; of one who is labelled as test data there are none.

        Parameters
        ----------
        patient
            The patient.
        facts
            From :func:`version_facts`.
        """
        moments = patient.moments or self._triggered(patient)
        for at in moments:
            subject = self._subject(patient, at)
            if subject.production:
                known = facts_at(facts, at, at - self._reach)
                given = FactsInput(subject=subject, facts=known, at=at, clock_tolerance=self._model.clock_tolerance)
                refused, values = self._values(given)
                yield TrainingRow(patient=patient.reference, at=at, refused=refused, values=values)

    def _subject(self, patient: PatientRecord, at: datetime) -> Subject:
        versions = [one for one in patient.versions if one.type == "Patient"]
        known = [one for one in versions if one.known <= at]
        chosen = known[-1] if known else versions[0] if versions else None
        content = {} if chosen is None else orjson.loads(chosen.content)
        return patient_subject(patient.reference, content, self._model.identifier_order)

    def _scalars(self, given: FactsInput) -> tuple[str, Mapping[str, Any]]:
        found = self._extract(given)
        values = {name: None if reading is None else reading.value for name, reading in found.readings.items()}
        return found.reason, values

    def _grid(self, given: FactsInput) -> tuple[str, Mapping[str, Any]]:
        assert self._model.manifest is not None
        selection = self._model.manifest.input.selection
        assert selection.hours is not None
        assert selection.step_hours is not None
        series = series_input(self._model.features, given, hours=selection.hours, step_hours=selection.step_hours)
        gap = find_gap(self._model.features, series, selection.hours)
        columns = {
            name: [None if np.isnan(it) else float(it) for it in series.values[:, place]]
            for place, name in enumerate(series.features)
        }
        return "" if gap is None else gap.reason, columns

    def _triggered(self, patient: PatientRecord) -> tuple[datetime, ...]:
        """Return when the server would have run the model: at each triggering Observation, when values have settled."""
        manifest = self._model.manifest
        if manifest is None:
            return ()
        rule = TRIGGERS[manifest.trigger.kind]
        due: list[datetime] = []
        for version in patient.versions:
            if version.type != "Observation" or (due and version.known <= due[-1]):
                continue
            change = Change(
                type=version.type,
                id=version.id,
                version=1,
                patient=patient.reference,
                before=None,
                after=orjson.loads(version.content),
                at=version.known,
            )
            if any(isinstance(it, Run) for it in rule.decide(manifest.trigger, change)):
                due.append(version.known + self._model.settle)
        return tuple(due)


@dataclass(frozen=True, kw_only=True)
class VersionFacts:
    """What one version of an Observation states, and how long it was the newest one."""

    known: datetime
    until: datetime
    facts: tuple[Fact, ...]

    @cached_property
    def latest(self) -> datetime:
        """The latest time that it is about; it states something."""
        return max(fact.effective for fact in self.facts)


def version_facts(versions: Sequence[Version]) -> tuple[VersionFacts, ...]:
    """Read what a patient's Observations state.

    Parameters
    ----------
    versions
        Of one patient, in the order in which they became known.
    """
    until: dict[str, datetime] = {}
    found: list[VersionFacts] = []
    for number, version in reversed(tuple(enumerate(versions, start=1))):
        if version.type == "Observation":
            end = until.get(version.id, LATEST)
            until[version.id] = version.known
            facts = _facts(version, number)
            if facts:
                found.append(VersionFacts(known=version.known, until=end, facts=facts))
    return tuple(reversed(found))


def _facts(version: Version, arrived: int) -> tuple[Fact, ...]:
    content = exact_values(version.content)
    source = f"Observation/{version.id}/_history/{content.get('meta', {}).get('versionId', '1')}"
    return tuple(observation_facts(content, source=source, known=version.known, arrived=arrived))


def facts_at(versions: Sequence[VersionFacts], at: datetime, since: datetime) -> tuple[Fact, ...]:
    """Return what was known at a moment.

    Parameters
    ----------
    versions
        From :func:`version_facts`.
    at
        The moment.
    since
        How far back features look; of a code without a value since then the newest Observation counts.
    """
    recent: list[Fact] = []
    older: dict[str, VersionFacts] = {}
    for one in versions:
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
    return (*recent, *(fact for one in left.values() for fact in one.facts))
