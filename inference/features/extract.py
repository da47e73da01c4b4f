"""Feature specs compiled to plain closures, and what they find in one patient's facts.

A fact counts when it was both true and available at the instant of the prediction: ``effective`` and ``issued`` are not
after it, by more than the declared tolerance of clocks. A value that cannot be used (in the future, without a time or a
status, a bound such as ``<85``, unknown unit or answer, outside the plausible range) is treated as missing with its own
reason; an older value never steps in for a newer one that cannot be used. Nothing was measured after it was stored: a
value with a later time stands at the moment of its storing, and one that is measured after that is newer.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from operator import attrgetter
from types import MappingProxyType
from typing import Final, TypeAlias

from inference.contract import Fact, FactsInput, FeatureStatus, FeatureUse, GapKind, InputUsed, Subject
from inference.features.spec import FeatureSpec, Source, Take
from inference.features.units import convert, tidy


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A fact, and when it counts as measured."""

    fact: Fact
    #: Its ``effective``, when the server stored it at the latest.
    instant: datetime
    #: Whether its times lie in the future.
    future: bool


Index: TypeAlias = Mapping[tuple[str, str], Sequence[Placed]]
"""(system, code) -> facts, oldest first."""

Candidate: TypeAlias = tuple[Placed, Source, int]
"""A fact that a feature may be read from, the source that it fits, and the place of that source among all."""


@dataclass(frozen=True, kw_only=True)
class FeatureValue:
    """A feature's value."""

    #: A number in ``unit``, or one of the feature's own words.
    value: Decimal | str
    unit: str | None
    #: The code it was read under; empty for what comes from the patient's record or a default.
    code: str
    effective: datetime | None
    #: Versioned references to what was read.
    sources: tuple[str, ...]
    #: Values of the window that cannot be used, for an aggregate of the others.
    left_out: tuple["Gap", ...] = ()


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
    }
)
"""Kind of a gap -> how a refusal names it, before the titles of the features."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Why a feature has no value."""

    kind: GapKind
    #: Versioned reference to the value that cannot be used, if there is one.
    source: str | None = None


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
    """Group facts by (system, code), oldest first, and say which lie in the future of the prediction."""
    index: defaultdict[tuple[str, str], list[Placed]] = defaultdict(list)
    for fact in given.facts:
        future = fact.usable_from > given.latest
        instant = min(fact.effective, fact.known or given.at, given.at)  # nothing was measured after it was stored
        index[fact.system, fact.code].append(Placed(fact=fact, instant=instant, future=future))
    for series in index.values():
        series.sort(key=attrgetter("instant", "fact.issued", "fact.arrived", "fact.source"))
    return index


def age_in_years(birth: date, on: date) -> int:
    """Return completed years of age.

    Parameters
    ----------
    birth
        Day of birth.
    on
        Day on which the age is wanted.
    """
    return on.year - birth.year - ((on.month, on.day) < (birth.month, birth.day))


def chooser(take: Take) -> Callable[[Sequence[Candidate]], FeatureValue | Gap]:
    """Return what makes one value of several candidates; it is called with at least one."""
    return _last if take == "last" else partial(_aggregate, take)


def _extract(features: Sequence[tuple[FeatureSpec, _Feature]], given: FactsInput) -> Extraction:
    index = index_facts(given)
    readings: dict[str, FeatureValue | None] = {}
    uses: list[FeatureUse] = []
    gaps: defaultdict[GapKind, list[str]] = defaultdict(list)
    for spec, feature in features:
        found = feature(index, given.subject, given.at)
        readings[spec.name] = _settle(spec, found)
        uses += _uses(spec.name, found, readings[spec.name])
        if isinstance(found, Gap) and spec.missing == "refuse":
            gaps[found.kind].append(spec.title)
    return Extraction(
        readings=MappingProxyType(readings),
        missing=tuple(title for titles in gaps.values() for title in titles),
        reason="; ".join(f"{GAP_WORDS[kind]} {', '.join(titles)}" for kind, titles in gaps.items()),
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
            yield FeatureUse(
                name=name,
                value=None,
                unit=None,
                status=_STATUS.get(gap.kind, "dropped"),
                source=gap.source,
                why=gap.kind,
            )
        source = next(iter(found.sources), None)
        yield FeatureUse(name=name, value=value, unit=unit, status="used", source=source)
        return
    status = _STATUS.get(found.kind, "dropped")
    if status == "missing" and settled is not None:
        status = "imputed"
    yield FeatureUse(name=name, value=value, unit=unit, status=status, source=found.source, why=found.kind)


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
        return Gap(kind="old", source=max(found, key=_age_order)[0].fact.source) if found else _MISSING

    return feature


def _last(inside: Sequence[Candidate]) -> FeatureValue | Gap:
    newest = max(_age_order(candidate) for candidate in inside)
    # An answer in several code systems is several facts of one source: one that can be read is enough.
    read = [
        (_read(placed, source), placed.fact, source)
        for placed, source, rank in inside
        if _age_order((placed, source, rank)) == newest
    ]
    value, fact, source = min(read, key=lambda one: isinstance(one[0], Gap))
    if isinstance(value, Gap):
        return value
    return FeatureValue(
        value=value, unit=source.unit, code=source.code, effective=fact.effective, sources=(fact.source,)
    )


def _age_order(candidate: Candidate) -> tuple[datetime, int, datetime, int, str]:
    placed, _, rank = candidate
    return placed.instant, -rank, placed.fact.issued, placed.fact.arrived, placed.fact.source


def _aggregate(take: str, inside: Sequence[Candidate]) -> FeatureValue | Gap:
    numbers: dict[Placed, Decimal] = {}
    gaps: list[Gap] = []
    for placed, source, _ in sorted(inside, key=_age_order):
        value = _read(placed, source)
        if isinstance(value, Gap):
            gaps.append(value)
        else:
            numbers[placed] = value if isinstance(value, Decimal) else Decimal(0)
    if not numbers:
        return gaps[-1]
    result = {
        "min": min(numbers.values()),
        "max": max(numbers.values()),
        "mean": tidy(sum(numbers.values(), Decimal(0)) / len(numbers)),
        "count": Decimal(len(numbers)),
    }[take]
    _, first, _ = inside[0]
    return FeatureValue(
        value=result,
        unit="1" if take == "count" else first.unit,
        code=first.code,
        effective=max(placed.instant for placed in numbers),
        sources=tuple(sorted({placed.fact.source for placed in numbers})),
        left_out=tuple(gaps),
    )


def _read(placed: Placed, source: Source) -> Decimal | str | Gap:
    fact = placed.fact
    if placed.future or fact.unusable is not None:
        return Gap(kind=fact.unusable or "future", source=fact.source)
    if source.answers:
        word = source.answers.get(fact.value.strip().lower()) if isinstance(fact.value, str) else None
        return Gap(kind="unreadable", source=fact.source) if word is None else word
    if not isinstance(fact.value, Decimal) or source.unit is None or not fact.value.is_finite():
        return Gap(kind="unreadable", source=fact.source)
    value = convert(fact.value, fact.unit, source.unit, source.analyte)
    if value is None:
        return Gap(kind="unreadable", source=fact.source)
    if source.plausible and not source.plausible[0] <= value <= source.plausible[1]:
        return Gap(kind="implausible", source=fact.source)
    return value


def _age(_index: Index, subject: Subject, at: datetime) -> FeatureValue | Gap:
    if subject.birth_date is None:
        return _MISSING
    years = Decimal(age_in_years(subject.birth_date, at.date()))
    return FeatureValue(
        value=years, unit="a", code="", effective=None, sources=(subject.demographics or subject.reference,)
    )


def _sex(_index: Index, subject: Subject, _at: datetime) -> FeatureValue | Gap:
    value = {"male": Decimal(1), "female": Decimal(0)}.get(subject.sex or "")
    if value is None:
        return _MISSING
    return FeatureValue(
        value=value, unit="1", code="", effective=None, sources=(subject.demographics or subject.reference,)
    )
