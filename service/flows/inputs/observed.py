"""What is stored of a patient in the codes of a model's features, each as far back as its feature looks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from fhir_adapter.facts import MOST_OBSERVATIONS, crowded_codes, patient_facts
from inference.contract import Fact
from inference.features.spec import FeatureSpec
from service.core import CoreServices
from service.flows.inputs.contract import InputRequest, NoInput

NEWEST: Final = 200
"""Observations of a code that are read where only the newest value counts."""


@dataclass(frozen=True, kw_only=True)
class _Reach:
    since: datetime
    #: Whether all values since then count, and not only the newest.
    complete: bool


def observed_facts(
    core: CoreServices, request: InputRequest, longest: timedelta | None = None
) -> tuple[Fact, ...] | NoInput:
    """Read the facts of a patient; a limit that is reached is a reason for having none, never a part of them.

    Parameters
    ----------
    core
        Where resources are stored.
    request
        For which model, patient and time.
    longest
        Length of the grid of a time series, whose features are all read in full as far back; None: no grid.
    """
    patient = request.subject.reference
    groups: defaultdict[_Reach, list[str]] = defaultdict(list)
    for code, reach in _reaches(request.model.features, request.at, longest).items():
        groups[reach].append(code)
    facts: dict[Fact, None] = {}
    with core.database.read() as connection:
        for reach, codes in groups.items():
            crowded = reach.complete and crowded_codes(connection, patient, codes, reach.since, MOST_OBSERVATIONS)
            if crowded:
                return _too_many(request.model.features, crowded)
            most = MOST_OBSERVATIONS if reach.complete else NEWEST
            facts |= dict.fromkeys(patient_facts(connection, core.store, patient, codes, reach.since, most))
    return tuple(facts)


def _reaches(specs: Sequence[FeatureSpec], at: datetime, longest: timedelta | None) -> Mapping[str, _Reach]:
    """Return how each code is to be read: as far back, and as completely, as any of its features asks."""
    reaches: dict[str, _Reach] = {}
    for spec in specs:
        lookback = spec.lookback if longest is None else min(spec.lookback, longest)
        for code in spec.codes:
            before = reaches.get(code, _Reach(since=at, complete=False))
            complete = before.complete or longest is not None or spec.take != "last"
            reaches[code] = _Reach(since=min(before.since, at - lookback), complete=complete)
    return MappingProxyType(reaches)


def _too_many(specs: Sequence[FeatureSpec], codes: Sequence[str]) -> NoInput:
    titles = tuple(spec.title for spec in specs if not set(codes).isdisjoint(spec.codes))
    reason = f"more than {MOST_OBSERVATIONS} values of {', '.join(titles)} are stored in the time that the model reads"
    return NoInput(reason=reason, missing=titles)
