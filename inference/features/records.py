"""The records that ``features.yaml`` is read into."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final, Literal, TypeAlias

from inference.contract import FactKind

LOINC: Final = "http://loinc.org"
LIFETIME: Final = timedelta(days=130 * 365)
"""Longer than any human life, and short enough to be subtracted from today's date."""

MOST_HOURS: Final = LIFETIME.days * 24
"""No window is longer."""

Take: TypeAlias = Literal[
    "last",
    "first",
    "min",
    "max",
    "mean",
    "median",
    "sum",
    "std",
    "slope",
    "delta",
    "count",
    "any",
    "time_since",
]
MissingPolicy: TypeAlias = Literal["refuse", "nan", "default"]
Subjects: TypeAlias = Literal["age", "sex"]

OF_ANSWERS: Final[frozenset[Take]] = frozenset({"last", "first", "count", "any", "time_since"})
"""What can be taken of answers, and of numbers of several units; the others need numbers of one unit."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One code that a feature may be read from: a number in a unit, or an answer from a list."""

    system: str
    code: str
    #: Canonical UCUM unit; ``None`` for answers.
    unit: str | None
    #: Least and greatest value that can be true of a living patient, in ``unit``.
    plausible: tuple[Decimal, Decimal] | None
    #: Accepted code or text, in lower case -> the feature's own word for it; empty for numbers.
    answers: Mapping[str, str]
    #: Key of :data:`~inference.features.analytes.ANALYTES`, by which mass, amount and equivalents are converted.
    analyte: str | None = None
    #: Values that mean the same to the model, where several sources have one at the same time: of answers the words of
    #: each group, of numbers the greatest value of each group but the last. None: every value has its own meaning.
    groups: tuple[frozenset[str] | Decimal, ...] | None = None
    #: Statuses of an Observation that count; empty for all. A status that nobody can name is never passed over.
    statuses: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class CodeSet:
    """Codes of one system: each one named, or all that begin alike."""

    system: str
    codes: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

    def holds(self, system: str, code: str) -> bool:
        """Return whether a code belongs to the set.

        Parameters
        ----------
        system, code
            As in a Coding.
        """
        return system == self.system and (
            code in self.codes or (bool(self.prefixes) and code.startswith(self.prefixes))
        )


@dataclass(frozen=True, kw_only=True)
class Stated:
    """Conditions or medications: 1 where one of a set of codes is in force."""

    codes: CodeSet
    #: Of which kinds of statement.
    kinds: frozenset[FactKind]
    #: Verification statuses of a Condition that count; empty for statements that have none.
    statuses: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A number below ``low`` becomes ``low``, one above ``high`` becomes ``high``."""

    low: Decimal
    high: Decimal


@dataclass(frozen=True, kw_only=True)
class Log:
    """The natural logarithm."""


Transform: TypeAlias = Clip | Log


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """One input of a model."""

    name: str
    #: What a clinician calls it; refusals name it so.
    title: str
    #: In order of preference, which decides between values of the same time that mean the same.
    sources: tuple[Source, ...]
    #: A fact about the patient instead of ``sources``: completed years of age, or sex (male 1, female 0).
    subject: Subjects | None
    #: How far back to look; ``None`` is without limit.
    hours: Decimal | None
    #: Which of the values in the window, or what of them.
    take: Take
    #: Without a value: refuse to answer, leave it unknown, or use ``default``. Never 0 by accident.
    missing: MissingPolicy
    default: Decimal | None
    #: How many hours before the moment the window ends; what was measured then or later is outside.
    offset: Decimal = Decimal(0)
    #: Whether the window begins at the admission at the earliest.
    since_admission: bool = False
    #: How many hours after the admission the window ends; ``None`` is without limit.
    first_hours: Decimal | None = None
    #: Applied to a value, and to the default, one after the other.
    transform: tuple[Transform, ...] = ()
    #: The answer of which this feature says whether it was given (1) or another (0).
    indicates: str | None = None
    #: The name in the file of a feature that became several, one for each answer; else its own.
    declared: str = ""
    #: Name of the feature of which this one says whether it has no value (1) or one (0).
    missing_of: str | None = None
    #: Conditions or medications instead of ``sources``.
    stated: tuple[Stated, ...] = ()

    @property
    def codes(self) -> tuple[str, ...]:
        """Return the codes it may be read from, of whatever system."""
        return tuple(source.code for source in self.sources)

    @property
    def lookback(self) -> timedelta:
        """Return how far back facts are needed; a lifetime where there is no limit."""
        if not self.sources:
            return timedelta(0)
        return LIFETIME if self.hours is None else timedelta(hours=float(self.hours))

    @property
    def newest_only(self) -> bool:
        """Return whether the newest values decide, so that the others of the window need not be read."""
        filtered = any(source.statuses for source in self.sources)
        bounded = bool(self.offset) or self.first_hours is not None
        return self.take in {"last", "time_since"} and not bounded and not filtered


@dataclass(frozen=True, kw_only=True)
class StatedCodes:
    """Which conditions and medications features are made of."""

    kinds: frozenset[FactKind]
    codes: tuple[CodeSet, ...]

    def holds(self, system: str, code: str) -> bool:
        """Return whether a feature is made of a code.

        Parameters
        ----------
        system, code
            As in a Coding.
        """
        return any(one.holds(system, code) for one in self.codes)


def stated_codes(specs: Iterable[FeatureSpec]) -> StatedCodes:
    """Return which conditions and medications some features are made of."""
    stated = [one for spec in specs for one in spec.stated]
    return StatedCodes(
        kinds=frozenset(kind for one in stated for kind in one.kinds), codes=tuple(one.codes for one in stated)
    )
