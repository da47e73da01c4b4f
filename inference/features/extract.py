"""Feature specs compiled to plain closures, and what they find in one patient's facts.

A fact counts when it was both true and available at the instant of the prediction: ``effective`` and ``issued`` are not
after it, by more than the declared tolerance of clocks. A value that cannot be used (in the future, without a time or a
status, a bound such as ``<85``, unknown unit or answer, outside the plausible range) is treated as missing with its own
reason; an older value never steps in for a newer one that cannot be used. Nothing was measured after it was stored: a
value with a later time stands at the moment of its storing, and one that is measured after that is newer. Which of
several values counts is decided in :mod:`inference.features.choose`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from operator import attrgetter
from types import MappingProxyType
from typing import Final, TypeAlias

from inference.contract import FactsInput, FeatureStatus, FeatureUse, GapKind, InputUsed, RowInput, Subject
from inference.features.choose import FeatureValue, Gap, Placed, age_order, chooser, in_force
from inference.features.patient_age import age_of, known_only_as
from inference.features.rows import stated
from inference.features.spec import FeatureSpec

__all__ = [
    "GAP_WORDS",
    "Extraction",
    "Extractor",
    "FeatureValue",
    "Index",
    "compile_features",
    "gap_uses",
    "index_facts",
    "refusal_of",
]

Index: TypeAlias = Mapping[tuple[str, str], Sequence[Placed]]
"""(system, code) -> facts, oldest first."""

GAP_WORDS: Final[Mapping[GapKind, str]] = MappingProxyType(
    {
        "missing": "missing",
        "implausible": "implausible",
        "unreadable": "unreadable",
        "absent": "stated as absent:",
        "untimed": "untimed:",
        "unstated": "no status:",
        "old": "too old:",
        "future": "in the future:",
        "contradictory": "contradictory:",
        "limit": "known only as a limit:",
    }
)
"""Kind of a gap -> how a refusal names it, before the titles of the features."""


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """All features of a model, for one patient at one instant."""

    #: Feature name -> reading; ``None`` where the policy leaves it unknown.
    readings: Mapping[str, FeatureValue | None]
    #: Titles of the features without which the model refuses.
    missing: tuple[str, ...]
    #: The refusal in words; empty when nothing is missing.
    reason: str
    #: What was read, for people.
    inputs: tuple[InputUsed, ...]
    #: What became of each feature.
    features: tuple[FeatureUse, ...] = ()
    #: Feature name -> what a clinician calls it.
    titles: Mapping[str, str] = field(default_factory=dict)


Extractor: TypeAlias = Callable[[FactsInput], Extraction]
_Feature: TypeAlias = Callable[[Index, Subject, datetime], FeatureValue | Gap]

_MISSING: Final = Gap(kind="missing")


def compile_features(specs: Sequence[FeatureSpec]) -> Extractor:
    """Compile specs once; the result is called per patient.

    Parameters
    ----------
    specs
        In the order in which refusals and inputs are to be listed.

    Returns
    -------
    Extractor
        A pure function.
    """
    return partial(_extract, [(spec, _compile(spec)) for spec in specs])


def index_facts(given: FactsInput) -> Index:
    """Group the facts that are in force by (system, code), oldest first, and say which lie in the future."""
    index: defaultdict[tuple[str, str], list[Placed]] = defaultdict(list)
    for fact in given.facts:
        future = fact.usable_from > given.latest
        instant = min(fact.effective, fact.known or given.at, given.at)  # nothing was measured after it was stored
        index[fact.system, fact.code].append(Placed(fact=fact, instant=instant, future=future))
    for series in index.values():
        series.sort(key=attrgetter("instant", "fact.issued", "fact.arrived", "fact.source"))
    return {code: in_force(series) for code, series in index.items()}


def refusal_of(gaps: Mapping[GapKind, Sequence[tuple[str, str]]]) -> str:
    """Return the features without a value in words: by kind of gap, each with its title and what its values state."""
    return "; ".join(
        f"{GAP_WORDS[kind]} {', '.join(f'{title} ({detail})' if detail else title for title, detail in named)}"
        for kind, named in gaps.items()
    )


def gap_uses(name: str, gap: Gap, status: FeatureStatus, value: Decimal | str | None = None) -> Iterator[FeatureUse]:
    """Yield what became of a feature without a value that can be used, once for each value that takes part.

    Parameters
    ----------
    name
        The feature's name.
    gap
        Why it has no value.
    status
        How that is recorded.
    value
        What stands in for it.
    """
    for source in (gap.source, *gap.others):
        yield FeatureUse(
            name=name, value=value, unit=None, status=status, source=source, why=gap.kind, detail=gap.detail
        )


def _extract(features: Sequence[tuple[FeatureSpec, _Feature]], given: FactsInput) -> Extraction:
    index = index_facts(given)
    readings: dict[str, FeatureValue | None] = {}
    uses: list[FeatureUse] = []
    gaps: defaultdict[GapKind, list[tuple[str, str]]] = defaultdict(list)
    for spec, feature in features:
        found = stated(spec, given.row) if isinstance(given, RowInput) else feature(index, given.subject, given.at)
        readings[spec.name] = _settle(spec, found)
        uses += _uses(spec.name, found, readings[spec.name])
        if isinstance(found, Gap) and spec.missing == "refuse":
            gaps[found.kind].append((spec.title, found.detail))
    return Extraction(
        readings=MappingProxyType(readings),
        missing=tuple(title for named in gaps.values() for title, _ in named),
        reason=refusal_of(gaps),
        inputs=tuple(
            InputUsed(name=name, value=reading.value, unit=reading.unit, effective=reading.effective, source=source)
            for name, reading in readings.items()
            if reading
            for source in reading.sources
        ),
        features=tuple(uses),
        titles=MappingProxyType({spec.name: spec.title for spec, _ in features}),
    )


def _uses(name: str, found: FeatureValue | Gap, settled: FeatureValue | None) -> Iterator[FeatureUse]:
    """Yield what became of a feature; of the values that an aggregate left out, the newest of each kind comes first."""
    value, unit = (None, None) if settled is None else (settled.value, settled.unit)
    if isinstance(found, FeatureValue):
        for gap in {gap.kind: gap for gap in found.left_out}.values():
            yield from gap_uses(name, gap, _STATUS.get(gap.kind, "dropped"))
        source = next(iter(found.sources), None)
        yield FeatureUse(name=name, value=value, unit=unit, status="used", source=source)
        return
    status = _STATUS.get(found.kind, "dropped")
    if status == "missing" and settled is not None:
        status = "imputed"
    yield from gap_uses(name, found, status, value)


_STATUS: Final[Mapping[GapKind, FeatureStatus]] = MappingProxyType(
    {"missing": "missing", "old": "missing", "implausible": "implausible"}
)
"""Kind of a gap -> status of the feature; every other kind is a value that was dropped."""


def _settle(spec: FeatureSpec, found: FeatureValue | Gap) -> FeatureValue | None:
    if isinstance(found, FeatureValue):
        return found
    if spec.missing == "default" and spec.default is not None:
        return FeatureValue(value=spec.default, unit=None, code="", effective=None, sources=())
    return None


def _compile(spec: FeatureSpec) -> _Feature:
    if spec.subject == "age":
        return _age
    if spec.subject == "sex":
        return _sex
    reach = None if spec.hours is None else timedelta(hours=float(spec.hours))
    sources = tuple((source, (source.system, source.code), rank) for rank, source in enumerate(spec.sources))
    choose = chooser(spec.take)

    def feature(index: Index, _subject: Subject, at: datetime) -> FeatureValue | Gap:
        since = None if reach is None else at - reach
        found = [(placed, source, rank) for source, key, rank in sources for placed in index.get(key, ())]
        inside = [one for one in found if since is None or one[0].instant >= since]
        if inside:
            return choose(inside)
        return Gap(kind="old", source=max(found, key=age_order)[0].fact.source) if found else _MISSING

    return feature


def _age(_index: Index, subject: Subject, at: datetime) -> FeatureValue | Gap:
    age = age_of(subject, at.date())
    if age is None:
        return _MISSING
    if age.youngest != age.oldest:
        return Gap(kind="missing", detail=known_only_as(subject))
    return FeatureValue(
        value=Decimal(age.oldest),
        unit="a",
        code="",
        effective=None,
        sources=(subject.demographics or subject.reference,),
    )


def _sex(_index: Index, subject: Subject, _at: datetime) -> FeatureValue | Gap:
    value = {"male": Decimal(1), "female": Decimal(0)}.get(subject.sex or "")
    if value is None:
        return _MISSING
    return FeatureValue(
        value=value, unit="1", code="", effective=None, sources=(subject.demographics or subject.reference,)
    )
