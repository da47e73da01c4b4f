"""One feature compiled to a closure over the facts of a patient."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, TypeAlias

from inference.contract import Fact, FactsInput
from inference.features.choose import chooser
from inference.features.index import Patient
from inference.features.patient_age import age_of, known_only_as
from inference.features.records import FeatureSpec, Source, Stated
from inference.features.transform import transformed
from inference.features.values import FeatureValue, Gap, Placed
from inference.features.windows import inside, why_outside, window_of

Feature: TypeAlias = Callable[[Patient], FeatureValue | Gap]

_MISSING: Final = Gap(kind="missing")


def answer(*, holds: bool, sources: tuple[str, ...] = ()) -> FeatureValue:
    """Return 1 or 0.

    Parameters
    ----------
    holds
        Whether it is 1.
    sources
        Versioned references to what says so.
    """
    return FeatureValue(value=Decimal(holds), unit="1", code="", effective=None, sources=sources)


def compile_feature(spec: FeatureSpec) -> Feature:
    """Compile a feature; one that says whether another is missing is made of that one, and not compiled."""
    if spec.stated:
        return _in_force(spec)
    if spec.subject is not None:
        of_subject = _age if spec.subject == "age" else _sex
        return _for_model(spec, lambda patient: of_subject(patient.given))
    return _for_model(spec, _measured(spec))


def _measured(spec: FeatureSpec) -> Feature:
    sources = tuple((source, (source.system, source.code), rank) for rank, source in enumerate(spec.sources))
    choose, window = chooser(spec.take), window_of(spec)
    absent = answer(holds=False) if spec.take == "any" else None

    def feature(patient: Patient) -> FeatureValue | Gap:
        given, index = patient.given, patient.observed
        span = window(given.at, given.admission)
        if isinstance(span, Gap):
            return span
        found = [
            (placed, source, rank)
            for source, key, rank in sources
            for placed in index.get(key, ())
            if not source.statuses or counts(placed, source)
        ]
        chosen = inside(found, span)
        value = choose(chosen, given.at) if chosen else absent or why_outside(found, span)
        return _anchored(value, given) if spec.since_admission else value

    return feature


def counts(placed: Placed, source: Source) -> bool:
    """Return whether the status of a fact is one that a source reads; one that nobody can name may be each of them.

    Parameters
    ----------
    placed
        The fact.
    source
        The source.
    """
    fact = placed.fact
    return not source.statuses or fact.status in source.statuses or fact.unusable == "unstated"


def _anchored(value: FeatureValue | Gap, given: FactsInput) -> FeatureValue | Gap:
    """Return a value that also rests on the Encounter: another admission is another result."""
    if isinstance(value, Gap) or given.admission is None:
        return value
    return replace(value, sources=(*value.sources, given.admission.source))


def _for_model(spec: FeatureSpec, feature: Feature) -> Feature:
    if spec.indicates is None and not spec.transform:
        return feature
    return lambda patient: for_model(spec, feature(patient))


def for_model(spec: FeatureSpec, found: FeatureValue | Gap) -> FeatureValue | Gap:
    """Return a value after the transforms of its feature, or as 1 and 0 where that is about one answer.

    Parameters
    ----------
    spec
        The feature.
    found
        Its value, or why it has none.
    """
    if isinstance(found, Gap):
        return found
    if spec.indicates is not None:
        return replace(found, value=Decimal(found.value == spec.indicates), measured=found.value)
    if not spec.transform:
        return found
    value = transformed(found.value, spec.transform) if isinstance(found.value, Decimal) else None
    if value is None:
        return Gap(kind="unreadable", source=next(iter(found.sources), None))
    return replace(found, value=value, measured=found.value)


def _in_force(spec: FeatureSpec) -> Feature:
    """Return the feature that is 1 where one of its codes is in force at the moment, or was in its window, else 0."""
    stated = spec.stated
    reach = timedelta(0) if spec.hours is None else timedelta(hours=float(spec.hours))
    offset = timedelta(hours=float(spec.offset))

    def feature(patient: Patient) -> FeatureValue | Gap:
        given = patient.given
        since, until = given.at - reach, given.latest - offset
        found = [
            fact.source
            for fact in patient.stated
            if _is_within(fact, since, until) and any(_fits(fact, one) for one in stated)
        ]
        return answer(holds=bool(found), sources=tuple(dict.fromkeys(found)))

    return feature


def _fits(fact: Fact, stated: Stated) -> bool:
    if fact.kind not in stated.kinds or (stated.statuses and fact.status not in stated.statuses):
        return False
    return stated.codes.holds(fact.system, fact.code)


def _is_within(fact: Fact, since: datetime, until: datetime) -> bool:
    """Return whether something was in force at some time after ``since`` and until ``until``."""
    return fact.effective <= until and (fact.until is None or fact.until > since)


def _age(given: FactsInput) -> FeatureValue | Gap:
    subject = given.subject
    age = age_of(subject, given.at.date())
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


def _sex(given: FactsInput) -> FeatureValue | Gap:
    subject = given.subject
    value = {"male": Decimal(1), "female": Decimal(0)}.get(subject.sex or "")
    if value is None:
        return _MISSING
    return FeatureValue(
        value=value, unit="1", code="", effective=None, sources=(subject.demographics or subject.reference,)
    )
