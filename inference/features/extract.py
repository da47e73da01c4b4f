"""Feature specs compiled to plain closures, and what they find in one patient's facts.

A fact counts when it was both true and available at the instant of the prediction: ``effective`` and ``issued`` are not
after it. A value that cannot be read safely (unknown unit, unknown answer, outside the plausible range) is treated
as missing with its own reason; an older value never steps in for a newer one that cannot be read.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from operator import attrgetter
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from inference.contract import Fact, FactsInput, FeatureUse, InputUsed, Subject
from inference.features.spec import FeatureSpec, Source, Take
from inference.features.units import convert, tidy

Index: TypeAlias = Mapping[tuple[str, str], Sequence[Fact]]
"""(system, code) -> facts that were available at the time, oldest first."""

Candidate: TypeAlias = tuple[Fact, Source, int]
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


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Why a feature has no value."""

    kind: Literal["missing", "implausible", "unreadable"]


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


def index_facts(facts: Sequence[Fact], at: datetime) -> Index:
    """Group facts by (system, code), oldest first, leaving out those not yet effective or not yet issued at ``at``.

    Parameters
    ----------
    facts
        Facts of one patient, in any order.
    at
        Instant of the prediction; a fact counts when neither ``effective`` nor ``issued`` is after it.
    """
    index: defaultdict[tuple[str, str], list[Fact]] = defaultdict(list)
    for fact in facts:
        if fact.effective <= at and fact.issued <= at:
            index[fact.system, fact.code].append(fact)
    for series in index.values():
        series.sort(key=attrgetter("effective", "issued", "arrived", "source"))
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
    index = index_facts(given.facts, given.at)
    readings: dict[str, FeatureValue | None] = {}
    uses: list[FeatureUse] = []
    gaps: defaultdict[str, list[str]] = defaultdict(list)
    for spec, feature in features:
        found = feature(index, given.subject, given.at)
        readings[spec.name] = _settle(spec, found)
        uses.append(_use(spec.name, found, readings[spec.name]))
        if isinstance(found, Gap) and spec.missing == "refuse":
            gaps[found.kind].append(spec.title)
    return Extraction(
        readings=MappingProxyType(readings),
        missing=tuple(title for titles in gaps.values() for title in titles),
        reason="; ".join(f"{kind} {', '.join(titles)}" for kind, titles in gaps.items()),
        inputs=tuple(
            InputUsed(name=name, value=reading.value, unit=reading.unit, effective=reading.effective, source=source)
            for name, reading in readings.items()
            if reading
            for source in reading.sources
        ),
        features=tuple(uses),
    )


def _use(name: str, found: FeatureValue | Gap, settled: FeatureValue | None) -> FeatureUse:
    status: Literal["used", "imputed", "dropped", "implausible", "missing"] = "used"
    if isinstance(found, Gap):
        absent: Literal["imputed", "missing"] = "missing" if settled is None else "imputed"
        status = {"missing": absent, "implausible": "implausible", "unreadable": "dropped"}[found.kind]
    value, unit = (None, None) if settled is None else (settled.value, settled.unit)
    source = settled.sources[0] if settled and settled.sources else None
    return FeatureUse(name=name, value=value, unit=unit, status=status, source=source)


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
        inside = [
            (fact, source, rank)
            for source, key, rank in sources
            for fact in index.get(key, ())
            if since is None or fact.effective >= since
        ]
        return choose(inside) if inside else _MISSING

    return feature


def _last(inside: Sequence[Candidate]) -> FeatureValue | Gap:
    def order(candidate: Candidate) -> tuple[datetime, int, datetime, int, str]:
        fact, _, rank = candidate
        return fact.effective, -rank, fact.issued, fact.arrived, fact.source

    fact, source, _ = max(inside, key=order)
    value = _read(fact, source)
    if isinstance(value, Gap):
        return value
    return FeatureValue(
        value=value, unit=source.unit, code=source.code, effective=fact.effective, sources=(fact.source,)
    )


def _aggregate(take: str, inside: Sequence[Candidate]) -> FeatureValue | Gap:
    numbers: list[Decimal] = []
    for fact, source, _ in inside:
        value = _read(fact, source)
        if isinstance(value, Gap):
            return value
        numbers.append(value if isinstance(value, Decimal) else Decimal(0))
    newest = max(fact.effective for fact, _, _ in inside)
    result = {
        "min": min(numbers),
        "max": max(numbers),
        "mean": tidy(sum(numbers, Decimal(0)) / len(numbers)),
        "count": Decimal(len(numbers)),
    }[take]
    _, first, _ = inside[0]
    references = tuple(sorted({fact.source for fact, _, _ in inside}))
    unit = "1" if take == "count" else first.unit
    return FeatureValue(value=result, unit=unit, code=first.code, effective=newest, sources=references)


def _read(fact: Fact, source: Source) -> Decimal | str | Gap:
    if source.answers:
        word = source.answers.get(fact.value.strip().lower()) if isinstance(fact.value, str) else None
        return Gap(kind="unreadable") if word is None else word
    if not isinstance(fact.value, Decimal) or source.unit is None or not fact.value.is_finite():
        return Gap(kind="unreadable")
    value = convert(fact.value, fact.unit, source.unit)
    if value is None:
        return Gap(kind="unreadable")
    if source.plausible and not source.plausible[0] <= value <= source.plausible[1]:
        return Gap(kind="implausible")
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
