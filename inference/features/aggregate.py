"""What is computed of all values of a window.

A value that cannot be used is left out and named, except by a sum, which would be too small without it. A value that is
only known to lie above or below a limit leaves the result without a value where it could change it: a minimum, maximum
or median unless the result is the same wherever beyond the limit the value lies; a mean, sum, standard deviation and
slope always. An Observation that is coded several times is one value.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

from inference.features.records import Take
from inference.features.units import LARGEST, tidy
from inference.features.values import Candidate, FeatureValue, Gap, Limit, age_order, limits_of, read

_MICROSECOND: Final = timedelta(microseconds=1)
_HOUR: Final = Decimal(3_600_000_000)


class Point(NamedTuple):
    """A value that can be used."""

    instant: datetime
    value: Decimal


Points: TypeAlias = Sequence[Point]
OnLimit: TypeAlias = Literal["left out", "range", "always"]


def per_hour(unit: str | None) -> str | None:
    """Return the unit of a change of values in an hour."""
    return f"{of_difference(unit)}/h"


def of_difference(unit: str | None) -> str | None:
    """Return the unit of a difference of values; of temperatures it is the kelvin (UCUM section 23)."""
    return "K" if unit == "Cel" else unit


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How one aggregate is computed, and what it does with what is not a plain number."""

    #: The values oldest first, at least one.
    of: Callable[[Points], Decimal]
    #: Limits are left out, or leave it without a value where it is not the same in their whole range, or always.
    on_limit: OnLimit = "always"
    #: Whether a limit takes part in the result by its side; else one that does not change it is left out and named.
    counts_limits: bool = False
    #: Whether a value that cannot be used leaves it without one.
    complete: bool = False
    #: How many values it needs.
    least: int = 1
    #: Whether they must be of different times.
    spread: bool = False
    decimals: int = 6
    #: The unit of the result, made of that of the values.
    unit: Callable[[str | None], str | None] = str


def aggregate(take: Take, inside: Sequence[Candidate]) -> FeatureValue | Gap:
    """Return what is computed of the values of a window.

    Parameters
    ----------
    take
        A key of :data:`RULES`.
    inside
        The values, at least one.
    """
    rule = RULES[take]
    points, sources, gaps = _readings(inside)
    limits = limits_of(inside) if gaps and rule.on_limit != "left out" else []
    if not points and not limits:
        return gaps[-1]
    blocking = _blocking(rule, points, limits)
    if blocking is not None:
        return Gap(kind="limit", source=blocking.source, detail=blocking.in_words)
    if rule.complete and gaps:
        return gaps[-1]
    if len(points) < rule.least or (rule.spread and points[0].instant == points[-1].instant):
        return Gap(kind="missing", source=sources[-1], detail="too few values")
    counted = limits if rule.counts_limits else []
    value, (_, first, _) = rule.of(_with(points, counted, low=True)), inside[0]
    if abs(value) > LARGEST:
        return Gap(kind="unreadable", source=sources[-1])
    return FeatureValue(
        value=tidy(value, rule.decimals),
        unit=rule.unit(first.unit),
        code=first.code,
        effective=max(point.instant for point in points),
        sources=tuple(sorted({*sources, *(limit.source for limit in counted)})),
        left_out=tuple(gap for gap in gaps if gap.source not in {limit.source for limit in counted}),
    )


def _readings(inside: Sequence[Candidate]) -> tuple[list[Point], list[str], list[Gap]]:
    """Return what can be used with where it was read, and what cannot, oldest first."""
    points: dict[tuple[str, datetime, Decimal | str], Point] = {}
    gaps: list[tuple[str, bool, Gap]] = []
    for placed, source, _ in sorted(inside, key=age_order):
        value, origin = read(placed, source), placed.fact.source
        if isinstance(value, Gap):
            gaps.append((origin, bool(source.answers), value))
        else:
            number = value if isinstance(value, Decimal) else Decimal(0)
            points[origin, placed.instant, value] = Point(placed.instant, number)
    sources = [origin for origin, _, _ in points]
    answered = set(sources)  # one code of an answer that can be read is enough
    return list(points.values()), sources, [gap for origin, word, gap in gaps if not (word and origin in answered)]


def _blocking(rule: Rule, points: Points, limits: Sequence[Limit]) -> Limit | None:
    """Return a limit that leaves an aggregate without a value."""
    if not limits:
        return None
    if rule.on_limit == "always" or not points:
        return limits[0]

    def changes(some: Sequence[Limit]) -> bool:
        return rule.of(_with(points, some, low=True)) != rule.of(_with(points, some, low=False))

    return next((limit for limit in limits if changes([limit])), limits[0] if changes(limits) else None)


def _with(points: Points, limits: Sequence[Limit], *, low: bool) -> Points:
    """Return values together with the least, or the greatest, that those beyond limits can be."""
    return [*points, *(Point(one.instant, one.least if low else one.greatest) for one in limits)]


def _mean(points: Points) -> Decimal:
    return _sum(points) / len(points)


def _sum(points: Points) -> Decimal:
    return sum((point.value for point in points), Decimal(0))


def _median(points: Points) -> Decimal:
    ordered = sorted(point.value for point in points)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _std(points: Points) -> Decimal:
    """Return the standard deviation of a sample."""
    mean = _mean(points)
    return (sum(((point.value - mean) ** 2 for point in points), Decimal(0)) / (len(points) - 1)).sqrt()


def _slope(points: Points) -> Decimal:
    """Return the slope of the line of least squares, in units per hour."""
    hours = [Decimal((point.instant - points[0].instant) // _MICROSECOND) / _HOUR for point in points]
    middle, mean = sum(hours, Decimal(0)) / len(hours), _mean(points)
    both = sum(((hour - middle) * (one.value - mean) for hour, one in zip(hours, points, strict=True)), Decimal(0))
    return both / sum(((hour - middle) ** 2 for hour in hours), Decimal(0))


RULES: Final[Mapping[Take, Rule]] = MappingProxyType(
    {
        "min": Rule(of=lambda points: min(point.value for point in points), on_limit="range"),
        "max": Rule(of=lambda points: max(point.value for point in points), on_limit="range"),
        "median": Rule(of=_median, on_limit="range", counts_limits=True),
        "mean": Rule(of=_mean, on_limit="range"),
        "sum": Rule(of=_sum, on_limit="range", complete=True),
        "std": Rule(of=_std, least=2, unit=of_difference),
        "slope": Rule(of=_slope, least=2, spread=True, decimals=9, unit=per_hour),
        "count": Rule(of=lambda points: Decimal(len(points)), on_limit="left out", unit=lambda _: "1"),
    }
)
"""What is taken of a window -> how it is computed."""
