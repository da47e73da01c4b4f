"""One row of a training table: the features of a patient at a moment, as serving computes them.

Nothing is computed here: what was known at the moment is said by :mod:`service.training.history`, the triggers are
those of :mod:`service.triggers`, the features those of :mod:`inference.features`, and how many values a model may do
without is said by :mod:`inference.gaps`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import orjson

from fhir_adapter.patient_identity import DEFAULT_ORDER, Order
from inference.contract import FactsInput, FeatureUse
from inference.features.extract import Extractor, compile_features
from inference.features.records import FeatureSpec, stated_codes
from inference.features.series import find_gap, series_input
from inference.gaps import check_gaps
from inference.manifest import Manifest
from inference.runners.base import Declined
from kernel.errors import Category, Problem
from service.training.history import History
from service.training.reading import Needs
from service.training.spool import PatientRecord
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
    def needs(self) -> Needs:
        """Which resources are read: those of the features, and the Observations of the trigger."""
        triggers = () if self.manifest is None else self.manifest.trigger.codes
        return Needs(
            codes=frozenset(code for spec in self.features for code in spec.codes).union(triggers),
            stated=stated_codes(self.features),
            admission=any(spec.since_admission for spec in self.features),
        )

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
    return "text" if is_answer and spec.indicates is None else "number"


class Rows:
    """Makes the rows of one model.

    Parameters
    ----------
    model
        The model.

    Raises
    ------
    Problem
        ``unsupported`` for a model that reads neither facts nor a time series, or that has a feature of something that
        the table does not read: a row without it would not be what the server computes; ``incorrect`` when a feature
        has the name of another column.
    """

    def __init__(self, model: TableModel) -> None:
        kind = "facts" if model.manifest is None else model.manifest.input.kind
        if kind not in {"facts", "series"}:
            raise Problem(Category.UNSUPPORTED, f"a training table is of facts or of a series, not of input {kind}")
        for spec in model.features:
            if spec.name in RESERVED:
                raise Problem(Category.INCORRECT, f"features.yaml.features: {spec.name} is a column of every table")
            if not (spec.sources or spec.stated or spec.subject or spec.missing_of):
                detail = f"features.yaml.features: {spec.name} is of nothing that a training table reads"
                raise Problem(Category.UNSUPPORTED, detail)
        self._model = model
        self._reach = max((spec.lookback for spec in model.features), default=timedelta(0))
        self._extract: Extractor = compile_features(model.features)
        self._values = self._grid if kind == "series" else self._scalars

    def of(self, history: History) -> Iterator[TrainingRow]:
        """Yield the rows of one patient, oldest first; of one who is labelled as test data there are none."""
        patient = history.patient
        for at in patient.moments or self._triggered(patient):
            subject = history.subject_at(at, self._model.identifier_order)
            if subject.production:
                given = FactsInput(
                    subject=subject,
                    facts=history.facts_at(at, at - self._reach),
                    at=at,
                    clock_tolerance=self._model.clock_tolerance,
                    admission=history.admission_at(at),
                )
                refused, values = self._values(given)
                yield TrainingRow(patient=patient.reference, at=at, refused=refused, values=values)

    def _scalars(self, given: FactsInput) -> tuple[str, Mapping[str, Any]]:
        found = self._extract(given)
        values = {name: None if reading is None else reading.value for name, reading in found.readings.items()}
        return found.reason or self._gaps(found.features), values

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
        return self._gaps(series.uses) if gap is None else gap.reason, columns

    def _gaps(self, uses: Sequence[FeatureUse]) -> str:
        """Return why the model would refuse for want of several values; empty when it would not."""
        if self._model.manifest is not None:
            try:
                check_gaps(self._model.manifest.limits, self._model.features, uses)
            except Declined as declined:
                return declined.reason
        return ""

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
