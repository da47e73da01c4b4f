"""What is stored of a patient in the codes of a model's features, each as far back as its feature looks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from fhir_adapter.admission import admission_of
from fhir_adapter.facts import MOST_OBSERVATIONS, crowded_codes, patient_facts
from fhir_adapter.stated import patient_statements
from inference.contract import Admission, Fact
from inference.features.records import FeatureSpec, stated_codes
from service.core import CoreServices
from service.flows.inputs.contract import InputRequest, NoInput

NEWEST: Final = 200
"""Observations of a code that are read where only the newest value counts."""


@dataclass(frozen=True, kw_only=True)
class _Reach:
    since: datetime
    #: Whether all values since then count, and not only the newest.
    complete: bool


def admission_for(core: CoreServices, request: InputRequest) -> Admission | None:
    """Return the admission of a patient, where a feature of the model is read from then on.

    Parameters
    ----------
    core
        Where resources are stored.
    request
        For which model, patient and time.
    """
    if not any(spec.since_admission for spec in request.model.features):
        return None
    with core.database.read() as connection:
        return admission_of(connection, core.store, request.subject.reference, request.at)


def observed_facts(
    core: CoreServices, request: InputRequest, admission: Admission | None = None, longest: timedelta | None = None
) -> tuple[Fact, ...] | NoInput:
    """Read the facts of a patient; a limit that is reached is a reason for having none, never a part of them.

    Parameters
    ----------
    core
        Where resources are stored.
    request
        For which model, patient and time.
    admission
        Of the patient, where it is known; features that are read from then on need nothing older.
    longest
        Length of the grid of a time series, whose features are all read in full as far back; None: no grid.
    """
    patient, features = request.subject.reference, request.model.features
    groups: defaultdict[_Reach, list[str]] = defaultdict(list)
    for code, reach in _reaches(features, request.at, admission, longest).items():
        groups[reach].append(code)
    facts: dict[Fact, None] = {}
    with core.database.read() as connection:
        for reach, codes in groups.items():
            crowded = reach.complete and crowded_codes(connection, patient, codes, reach.since, MOST_OBSERVATIONS)
            if crowded:
                return _too_many([spec for spec in features if not set(crowded).isdisjoint(spec.codes)])
            most = MOST_OBSERVATIONS if reach.complete else NEWEST
            facts |= dict.fromkeys(patient_facts(connection, core.store, patient, codes, reach.since, most))
        stated = stated_codes(features)
        statements = patient_statements(connection, core.store, patient, stated.kinds, stated.holds, MOST_OBSERVATIONS)
    if statements is None:
        return _too_many([spec for spec in features if spec.stated])
    return (*facts, *statements)


def _reaches(
    specs: Sequence[FeatureSpec], at: datetime, admission: Admission | None, longest: timedelta | None
) -> Mapping[str, _Reach]:
    """Return how each code is to be read: as far back, and as completely, as any of its features asks."""
    reaches: dict[str, _Reach] = {}
    for spec in specs:
        lookback = spec.lookback if longest is None else min(spec.lookback, longest)
        since = at - lookback
        if spec.since_admission:
            since = at if admission is None else max(since, admission.start)
        for code in spec.codes:
            before = reaches.get(code, _Reach(since=at, complete=False))
            complete = before.complete or longest is not None or not spec.newest_only
            reaches[code] = _Reach(since=min(before.since, since), complete=complete)
    return MappingProxyType(reaches)


def _too_many(specs: Sequence[FeatureSpec]) -> NoInput:
    titles = tuple(dict.fromkeys(spec.title for spec in specs))
    reason = f"more than {MOST_OBSERVATIONS} values of {', '.join(titles)} are stored in the time that the model reads"
    return NoInput(reason=reason, missing=titles)
