"""One patient's facts, arranged once for all features: Observations by code and time, and what is stated else."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import attrgetter, itemgetter
from typing import Final, NamedTuple, TypeAlias

from inference.contract import Fact, FactsInput
from inference.features.choose import in_force
from inference.features.values import Placed

Index: TypeAlias = Mapping[tuple[str, str], Sequence[Placed]]
"""(system, code) -> facts, oldest first."""


_INSTANT: Final = itemgetter(Placed._fields.index("instant"))
_ORDER: Final = attrgetter("instant", "fact.issued", "fact.arrived", "fact.source")


class Patient(NamedTuple):
    """What features are read from."""

    given: FactsInput
    #: Observations.
    observed: Index
    #: Conditions and medications that were known at the time of prediction, in the order in which they were given.
    stated: Sequence[Fact]


def index_patient(given: FactsInput) -> Patient:
    """Arrange the facts of one patient."""
    latest = given.latest
    stated = [fact for fact in given.facts if fact.kind != "observation" and fact.usable_from <= latest]
    return Patient(given=given, observed=index_facts(given), stated=stated)


def index_facts(given: FactsInput) -> Index:
    """Group the Observations that are in force by (system, code), oldest first, and say which lie in the future."""
    index: defaultdict[tuple[str, str], list[Placed]] = defaultdict(list)
    at, latest = given.at, given.latest
    for fact in given.facts:
        if fact.kind == "observation":
            effective, known = fact.effective, fact.known
            stored = at if known is None or at < known else known
            instant = effective if effective < stored else stored  # nothing was measured after it was stored
            future = effective > latest or (fact.issued > latest and fact.issued != known)  # as Fact.usable_from says
            index[fact.system, fact.code].append(Placed(fact, instant, future))
    for series in index.values():
        series.sort(key=_INSTANT)
        if any(one[1] == other[1] for one, other in pairwise(series)):  # few values share their time
            series.sort(key=_ORDER)
    return {code: in_force(series) for code, series in index.items()}
