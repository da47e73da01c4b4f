"""Transforms of a feature's value: clipped to a range, or its natural logarithm.

A logarithm is only accepted where every value is above 0: by a plausible range, or by a clip that stands before it.
"""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from inference.features.records import Clip, FeatureSpec, Log, Take, Transform
from inference.yaml_mapping import YamlMapping
from kernel.errors import Category, Problem

_IN_RANGE: Final[frozenset[Take]] = frozenset({"last", "first", "min", "max", "mean", "median"})
"""What is never outside the range of the values that it is taken of."""


def parse_transform(table: YamlMapping, spec: FeatureSpec) -> tuple[Transform, ...]:
    """Read ``transform``.

    Parameters
    ----------
    table
        The entry of the feature.
    spec
        What else the entry declares; it says how low its values may be.

    Raises
    ------
    Problem
        ``incorrect`` when it is no list of transforms, when the feature is no number, or when a value may have no
        logarithm.
    """
    place = f"{table.place}.transform"
    if any(source.answers for source in spec.sources) and spec.take in {"last", "first"}:
        raise Problem(Category.INCORRECT, f"{place} needs a number; an answer becomes one by one_hot: true")
    steps = tuple(_step(f"{place}[{number}]", step) for number, step in enumerate(table.take("transform", list)))
    if not steps:
        raise Problem(Category.INCORRECT, f"{place} must not be empty")
    least = _least(spec)
    for number, step in enumerate(steps):
        if isinstance(step, Clip):
            least = step.low if least is None else min(max(least, step.low), step.high)
        elif least is None or least <= 0:
            detail = "needs values above 0: declare plausible from above 0 of each source, or a clip before it"
            raise Problem(Category.INCORRECT, f"{place}[{number}]: log {detail}")
        else:
            least = _log(least)
    return steps


def transformed(value: Decimal, steps: Sequence[Transform]) -> Decimal | None:
    """Return a number after its transforms; None where one of them is not defined.

    Parameters
    ----------
    value
        The number.
    steps
        Applied one after the other.
    """
    for step in steps:
        if isinstance(step, Clip):
            value = min(max(value, step.low), step.high)
        elif value > 0:
            value = _log(value)
        else:
            return None
    return value


def _log(value: Decimal) -> Decimal:
    """Return the natural logarithm to twelve digits, which are the same on every machine."""
    return Decimal(f"{math.log(value):.12g}")


def _least(spec: FeatureSpec) -> Decimal | None:
    """Return the least value that a feature may have; None where nothing says it."""
    if spec.subject is not None or spec.take in {"count", "any", "time_since", "std"}:
        return Decimal(0)
    lows = [None if source.plausible is None else source.plausible[0] for source in spec.sources]
    known = [low for low in lows if low is not None]
    return min(known) if spec.take in _IN_RANGE and len(known) == len(lows) else None


def _step(place: str, content: object) -> Transform:
    if content == "log":
        return Log()
    if not isinstance(content, dict):
        raise Problem(Category.INCORRECT, f"{place} must be log, or clip with two numbers")
    table = YamlMapping(place, content)
    low, high = table.range("clip")
    table.done()
    return Clip(low=low, high=high)
