"""Which of several values a feature has: the newest one, or an aggregate of those of a window.

The time of a value is as wide as its finest part that is not zero: a time at the full minute may be of a clock without
seconds and means that minute. Of values of one code whose times overlap a corrected one counts before a final one, and
a final one before a preliminary one; at the same status nobody can say which is newer, and the one that arrived last
counts. Usable values of different codes whose times overlap must mean the same to the model, and so must those of one
code and time that arrived together, in one message; else the feature is *contradictory* and has no value. A value that
is only known to lie above or below a limit leaves a minimum or a maximum without a value where it could change it, and
a mean always.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import groupby, islice
from typing import Final, TypeAlias

from inference.contract import Fact, GapKind
from inference.features.spec import Source, Take
from inference.features.units import convert, tidy
from inference.wording import figure, unit_in_words

_LIMIT: Final = re.compile(r"\s*(<=?|>=?)\s*(\d{1,15}(?:\.\d{1,15})?)\s*")
_OF_NUMBERS: Final = frozenset({"min", "max", "mean"})
"""Aggregates that a value of which only a limit is known could change."""
_MINUTE, _SECOND = timedelta(minutes=1), timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A fact, and when it counts as measured."""

    fact: Fact
    #: Its ``effective``, when the server stored it at the latest.
    instant: datetime
    #: Whether its times lie in the future.
    future: bool

    @property
    def until(self) -> datetime:
        """The end of what its time may mean; its instant where that is not the time that was stated."""
        at = self.instant
        if at != self.fact.effective or at.microsecond:
            return at
        return at + (_SECOND if at.second else _MINUTE)


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


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Why a feature has no value."""

    kind: GapKind
    #: Versioned reference to the value that cannot be used, if there is one.
    source: str | None = None
    #: What the values state, where the reason names them.
    detail: str = ""
    #: Versioned references to the other values that take part.
    others: tuple[str, ...] = ()


def chooser(take: Take) -> Callable[[Sequence[Candidate]], FeatureValue | Gap]:
    """Return what makes one value of several candidates; it is called with at least one."""
    return _last if take == "last" else partial(_aggregate, take)


def age_order(candidate: Candidate) -> tuple[datetime, int, datetime, int, str]:
    """Return the key by which the newest candidate is the greatest."""
    placed, _, rank = candidate
    return placed.instant, -rank, placed.fact.issued, placed.fact.arrived, placed.fact.source


def in_force(series: Sequence[Placed]) -> list[Placed]:
    """Leave out the values that gave way to one of a later status whose time overlaps theirs.

    Parameters
    ----------
    series
        The values of one code, oldest first. One whose times lie in the future replaces none.
    """
    later = {
        standing: [one for one in series if one.fact.standing > standing and not one.future]
        for standing in {placed.fact.standing for placed in series}
    }
    return [placed for placed in series if not _gave_way(placed, later[placed.fact.standing])]


def _gave_way(placed: Placed, later: Sequence[Placed]) -> bool:
    first = bisect_left(later, placed.instant - _MINUTE, key=lambda one: one.instant)
    for one in islice(later, first, None):
        if one.instant == placed.instant or (one.until > placed.instant and one.instant < placed.until):
            return True
        if one.instant >= placed.until:
            break
    return False


def _last(inside: Sequence[Candidate]) -> FeatureValue | Gap:
    newest = max(placed.instant for placed, _, _ in inside)
    current = [one for one in inside if one[0].instant == newest or one[0].until > newest]
    ranks = sorted({rank for _, _, rank in current})
    codes = [
        [
            (read(placed, source), placed, source)
            for placed, source, _ in _of_code([it for it in current if it[2] == rank])
        ]
        for rank in ranks
    ]
    readings = [one[0] for one in codes]
    usable = [
        (value, placed.fact, source) for one in codes for value, placed, source in one if not isinstance(value, Gap)
    ]
    if len({_meaning(value, source) for value, _, source in usable}) > 1:
        first, *others = dict.fromkeys(fact.source for _, fact, _ in usable)
        named = ", ".join(_in_words(value, source) for value, _, source in usable)
        return Gap(kind="contradictory", source=first, detail=named, others=tuple(others))
    at_once = len({placed.instant for _, placed, _ in readings}) == 1
    value, placed, source = readings[0] if at_once else max(readings, key=lambda one: _arrival(one[1]))
    if isinstance(value, Gap):
        return value
    fact = placed.fact
    return FeatureValue(
        value=value, unit=source.unit, code=source.code, effective=fact.effective, sources=(fact.source,)
    )


def _of_code(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates of one code that arrived last; those of one message arrived together.

    One that cannot be used comes first. An answer in several code systems is several facts of one source: one that can
    be read is enough.
    """
    latest = max((placed for placed, _, _ in candidates), key=_arrival)
    together = sorted((one for one in candidates if _together(one[0], latest)), key=lambda one: one[0].fact.source)
    unusable: list[Candidate] = []
    usable: list[Candidate] = []
    for _, group in groupby(together, key=lambda one: one[0].fact.source):
        facts = list(group)
        found = [one for one in facts if not isinstance(read(one[0], one[1]), Gap)]
        usable += found
        unusable += facts[:1] if not found else []
    return unusable + sorted(usable, key=lambda one: _arrival(one[0]), reverse=True)


def _together(placed: Placed, latest: Placed) -> bool:
    """Return whether two values of one instant arrived together: the order within a message says nothing."""
    one, other = placed.fact, latest.fact
    if one.source == other.source:
        return _arrival(placed) == _arrival(latest)
    stored = one.known is not None and one.known == other.known
    return stored and (one.issued, placed.instant) == (other.issued, latest.instant)


def _arrival(placed: Placed) -> tuple[datetime, datetime, int, str]:
    return placed.fact.issued, placed.instant, placed.fact.arrived, placed.fact.source


def _meaning(value: Decimal | str, source: Source) -> object:
    """Return what a value is to the model: its group where the source declares groups, else itself in its unit."""
    if source.groups is None:
        return value, source.unit
    if isinstance(value, str):
        return next((place for place, group in enumerate(source.groups) if value in _words(group)), value)
    return bisect_left([bound for bound in source.groups if isinstance(bound, Decimal)], value)


def _words(group: frozenset[str] | Decimal) -> frozenset[str]:
    return group if isinstance(group, frozenset) else frozenset()


def _in_words(value: Decimal | str, source: Source) -> str:
    said = value if isinstance(value, str) else f"{figure(float(value))} {unit_in_words(source.unit)}".strip()
    return f"{said} by {source.code}"


def _aggregate(take: Take, inside: Sequence[Candidate]) -> FeatureValue | Gap:
    numbers: dict[Placed, Decimal] = {}
    gaps: list[Gap] = []
    for placed, source, _ in sorted(inside, key=age_order):
        value = read(placed, source)
        if isinstance(value, Gap):
            gaps.append(value)
        else:
            numbers[placed] = value if isinstance(value, Decimal) else Decimal(0)
    limits = [limit for placed, source, _ in inside if not placed.future and (limit := _limit(placed.fact, source))]
    if not numbers and not (limits and take in _OF_NUMBERS):
        return gaps[-1]
    for limit in limits:
        if limit.could_change(take, tuple(numbers.values())):
            return Gap(kind="limit", source=limit.source, detail=limit.in_words)
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


@dataclass(frozen=True, kw_only=True)
class _Limit:
    """What is stated of a value of which only a limit is known."""

    comparator: str
    #: In the unit of the feature; None where it cannot be converted.
    bound: Decimal | None
    in_words: str
    source: str

    def could_change(self, take: Take, values: Sequence[Decimal]) -> bool:
        if take not in _OF_NUMBERS:
            return False
        if not values:
            return True
        upwards = self.comparator.startswith(">")
        if take == "mean" or upwards == (take == "max") or self.bound is None:
            return True
        return self.bound > max(values) if take == "max" else self.bound < min(values)


def _limit(fact: Fact, source: Source) -> _Limit | None:
    """Return the limit that a fact states, by a comparator or in a text such as ``>600``; None where it states none."""
    if source.unit is None:
        return None
    comparator, number = fact.comparator, fact.value
    if comparator is None and isinstance(number, str) and (text := _LIMIT.fullmatch(number)):
        comparator, number = text[1], Decimal(text[2])
    if comparator is None or not isinstance(number, Decimal) or not number.is_finite():
        return None
    bound = convert(number, fact.unit, source.unit, source.analyte)
    shown = figure(float(number)) if bound is None else f"{figure(float(bound))} {unit_in_words(source.unit)}".strip()
    return _Limit(comparator=comparator, bound=bound, in_words=f"{comparator}{shown}", source=fact.source)


def read(placed: Placed, source: Source) -> Decimal | str | Gap:
    """Return the value of a fact in the unit or the words of a source, or why it cannot be used.

    Parameters
    ----------
    placed
        The fact.
    source
        The source that it fits.
    """
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
