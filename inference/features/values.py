"""A fact as features see it: when it counts as measured, its value in the unit of a source, or why it has none."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, NamedTuple, TypeAlias

from inference.contract import Fact, GapKind
from inference.features.records import Source
from inference.features.units import convert
from inference.wording import figure, unit_in_words

_LIMIT: Final = re.compile(r"\s*(<=?|>=?)\s*(\d{1,15}(?:\.\d{1,15})?)\s*")
_INFINITY: Final = Decimal("Infinity")
_MINUTE, _SECOND = timedelta(minutes=1), timedelta(seconds=1)


class Placed(NamedTuple):
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

    #: What the model reads: a number, or one of the feature's own words.
    value: Decimal | str
    #: Of what was measured.
    unit: str | None
    #: The code it was read under; empty for what comes from the patient's record or a default.
    code: str
    effective: datetime | None
    #: Versioned references to what was read.
    sources: tuple[str, ...]
    #: Values of the window that cannot be used, for an aggregate of the others.
    left_out: tuple["Gap", ...] = ()
    #: What was measured, in ``unit``, where a transform made another number of it; None where it did not.
    measured: Decimal | str | None = None

    @property
    def in_unit(self) -> Decimal | str:
        """What was measured, in ``unit``."""
        return self.value if self.measured is None else self.measured


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


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What is stated of a value of which only a limit is known."""

    comparator: str
    #: In the unit of the feature; None where it cannot be converted.
    bound: Decimal | None
    in_words: str
    source: str
    instant: datetime

    @property
    def least(self) -> Decimal:
        """The least that the value can be."""
        return self.bound if self.bound is not None and self.comparator.startswith(">") else -_INFINITY

    @property
    def greatest(self) -> Decimal:
        """The greatest that the value can be."""
        return self.bound if self.bound is not None and self.comparator.startswith("<") else _INFINITY


def age_order(candidate: Candidate) -> tuple[datetime, int, datetime, int, str]:
    """Return the key by which the newest candidate is the greatest."""
    placed, _, rank = candidate
    fact = placed.fact
    return placed.instant, -rank, fact.issued, fact.arrived, fact.source


def limits_of(candidates: Sequence[Candidate]) -> list[Limit]:
    """Return the limits among values whose times do not lie in the future."""
    found = [None if placed.future else _limit(placed, source) for placed, source, _ in candidates]
    return [limit for limit in found if limit is not None]


def _limit(placed: Placed, source: Source) -> Limit | None:
    """Return the limit that a fact states, by a comparator or in a text such as ``>600``; None where it states none."""
    fact = placed.fact
    if source.unit is None:
        return None
    comparator, number = fact.comparator, fact.value
    if comparator is None and isinstance(number, str) and (text := _LIMIT.fullmatch(number)):
        comparator, number = text[1], Decimal(text[2])
    if comparator is None or not isinstance(number, Decimal) or not number.is_finite():
        return None
    bound = convert(number, fact.unit, source.unit, source.analyte)
    shown = figure(float(number)) if bound is None else f"{figure(float(bound))} {unit_in_words(source.unit)}".strip()
    return Limit(
        comparator=comparator,
        bound=bound,
        in_words=f"{comparator}{shown}",
        source=fact.source,
        instant=placed.instant,
    )


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
