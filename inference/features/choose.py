"""Which of several values a feature has: the newest or the oldest one, or what :mod:`.aggregate` makes of a window.

The time of a value is as wide as its finest part that is not zero: a time at the full minute may be of a clock without
seconds and means that minute. Of values of one code whose times overlap a corrected one counts before a final one, and
a final one before a preliminary one; at the same status nobody can say which is newer, and the one that arrived last
counts. Usable values of different codes whose times overlap must mean the same to the model, and so must those of one
code and time that arrived together, in one message; else the feature is *contradictory* and has no value. The oldest
value is chosen as the newest one is, from the other end of the window; ``delta`` is the difference of the two.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import groupby, islice
from types import MappingProxyType
from typing import Final, TypeAlias

from inference.features.aggregate import aggregate, of_difference
from inference.features.records import Source, Take
from inference.features.units import tidy
from inference.features.values import Candidate, FeatureValue, Gap, Placed, age_order, limits_of, read
from inference.wording import figure, unit_in_words

__all__ = ["Candidate", "Chooser", "FeatureValue", "Gap", "Placed", "age_order", "chooser", "in_force", "read"]

Chooser: TypeAlias = Callable[[Sequence[Candidate], datetime], FeatureValue | Gap]
"""Makes one value of several candidates, at least one, at a moment."""

_MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = Decimal(3600)


def chooser(take: Take) -> Chooser:
    """Return what makes one value of several candidates; it is called with at least one."""
    return _OTHERS.get(take) or partial(_aggregate, take)


def in_force(series: Sequence[Placed]) -> Sequence[Placed]:
    """Leave out the values that gave way to one of a later status whose time overlaps theirs.

    Parameters
    ----------
    series
        The values of one code, oldest first. One whose times lie in the future replaces none.
    """
    standings = {placed.fact.standing for placed in series}
    if len(standings) < 2:
        return series
    later = {
        standing: [one for one in series if one.fact.standing > standing and not one.future] for standing in standings
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


def _aggregate(take: Take, inside: Sequence[Candidate], _at: datetime) -> FeatureValue | Gap:
    return aggregate(take, inside)


def _last(inside: Sequence[Candidate], _at: datetime) -> FeatureValue | Gap:
    return _one_of(_newest(inside))


def _first(inside: Sequence[Candidate], _at: datetime) -> FeatureValue | Gap:
    return _one_of(_oldest(inside))


def _newest(inside: Sequence[Candidate]) -> Sequence[Candidate]:
    """Return the candidates of the newest time, with those whose times reach into it."""
    newest = max(placed.instant for placed, _, _ in inside)
    return [one for one in inside if one[0].instant == newest or one[0].until > newest]


def _oldest(inside: Sequence[Candidate]) -> Sequence[Candidate]:
    """Return the candidates of the oldest time, with those that its time reaches to."""
    first = min((placed for placed, _, _ in inside), key=lambda placed: placed.instant)
    until = max(placed.until for placed, _, _ in inside if placed.instant == first.instant)
    return [one for one in inside if one[0].instant == first.instant or one[0].instant < until]


def _delta(inside: Sequence[Candidate], _at: datetime) -> FeatureValue | Gap:
    """Return the newest value less the oldest one; values between them do not count."""
    newest, oldest = _newest(inside), _oldest(inside)
    last, first = _one_of(newest), _one_of(oldest)
    if isinstance(last, Gap):
        return last
    if isinstance(first, Gap):
        return first
    if not {id(one[0]) for one in newest}.isdisjoint(id(one[0]) for one in oldest):
        return Gap(kind="missing", source=last.sources[0], detail="too few values")
    assert isinstance(last.value, Decimal)
    assert isinstance(first.value, Decimal)
    return FeatureValue(
        value=tidy(last.value - first.value),
        unit=of_difference(last.unit),
        code=last.code,
        effective=last.effective,
        sources=tuple(dict.fromkeys((*last.sources, *first.sources))),
    )


def _any(inside: Sequence[Candidate], _at: datetime) -> FeatureValue | Gap:
    """Return 1: there is a value, and be it one of which only a limit is known."""
    found: list[tuple[Candidate, Gap | None]] = []
    limited = {limit.source for limit in limits_of(inside)}
    for one in sorted(inside, key=age_order, reverse=True):
        value = read(one[0], one[1])
        found.append((one, value if isinstance(value, Gap) and one[0].fact.source not in limited else None))
    usable = next((one for one, gap in found if gap is None), None)
    if usable is None:
        return next(gap for _, gap in found if gap is not None)
    fact = usable[0].fact
    return FeatureValue(
        value=Decimal(1), unit="1", code=usable[1].code, effective=fact.effective, sources=(fact.source,)
    )


def _time_since(inside: Sequence[Candidate], at: datetime) -> FeatureValue | Gap:
    """Return the hours since the newest value, also one of which only a limit is known."""
    newest = _newest(inside)
    placed, source, _ = max(newest, key=age_order)
    chosen = [one for one in newest if not isinstance(read(one[0], one[1]), Gap)]
    if not chosen and not limits_of(newest):
        gap = read(placed, source)
        assert isinstance(gap, Gap)  # none of them can be read
        return gap
    hours = Decimal((at - placed.instant) // timedelta(microseconds=1)) / (_HOUR * 1_000_000)
    fact = placed.fact
    return FeatureValue(value=tidy(hours), unit="h", code=source.code, effective=fact.effective, sources=(fact.source,))


def _one_of(current: Sequence[Candidate]) -> FeatureValue | Gap:
    """Return the value that counts among those of one time."""
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
    if len(candidates) == 1:
        return list(candidates)
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


_OTHERS: Final[Mapping[Take, Chooser]] = MappingProxyType(
    {"last": _last, "first": _first, "delta": _delta, "any": _any, "time_since": _time_since}
)
"""What is taken by the times of values; the others are in :data:`~inference.features.aggregate.RULES`."""
