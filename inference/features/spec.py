"""``features.yaml``: which facts a model reads, in which unit, from how far back, and what to do without them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, cast

from inference.features.analytes import ANALYTES
from inference.features.units import is_unit
from inference.yaml_mapping import YamlMapping, as_number
from kernel.errors import Category, Problem

LOINC: Final = "http://loinc.org"
LIFETIME: Final = timedelta(days=130 * 365)
"""Longer than any human life, and short enough to be subtracted from today's date."""

Take: TypeAlias = Literal["last", "min", "max", "mean", "count"]
MissingPolicy: TypeAlias = Literal["refuse", "nan", "default"]


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


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """One input of a model."""

    name: str
    #: What a clinician calls it; refusals name it so.
    title: str
    #: In order of preference, which decides between values of the same time that mean the same.
    sources: tuple[Source, ...]
    #: A fact about the patient instead of ``sources``: completed years of age, or sex (male 1, female 0).
    subject: Literal["age", "sex"] | None
    #: How far back to look; ``None`` is without limit.
    hours: Decimal | None
    #: Which of the values in the window, or what of them.
    take: Take
    #: Without a value: refuse to answer, leave it unknown, or use ``default``. Never 0 by accident.
    missing: MissingPolicy
    default: Decimal | None

    @property
    def codes(self) -> tuple[str, ...]:
        """Return the codes it may be read from, of whatever system."""
        return tuple(source.code for source in self.sources)

    @property
    def lookback(self) -> timedelta:
        """Return how far back facts are needed; a lifetime where there is no limit."""
        if self.subject is not None:
            return timedelta(0)
        return LIFETIME if self.hours is None else timedelta(hours=float(self.hours))


def parse_features(content: object) -> tuple[FeatureSpec, ...]:
    """Read the content of ``features.yaml``.

    Raises
    ------
    Problem
        ``incorrect``, naming the key that is missing, unknown or wrong.
    """
    table = YamlMapping("features.yaml", content)
    specs = tuple(_feature(feature) for feature in table.tables("features"))
    table.done()
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise Problem(Category.INCORRECT, f"features.yaml.features: {name} is declared twice")
    return specs


def _feature(table: YamlMapping) -> FeatureSpec:
    missing, default = _missing(table)
    subject = table.choice("subject", "age", "sex") if table.has("subject") else None
    take, hours = _window(table.table("window")) if subject is None else ("last", None)
    spec = FeatureSpec(
        name=table.text("name"),
        title=table.text("title"),
        sources=() if subject else tuple(_source(source) for source in table.tables("sources")),
        subject=cast("Literal['age', 'sex'] | None", subject),
        hours=hours,
        take=cast("Take", take),
        missing=missing,
        default=default,
    )
    table.done()
    if not spec.sources and not spec.subject:
        raise Problem(Category.INCORRECT, f"{table.place}.sources must not be empty")
    _check_groups(table.place, spec.sources)
    units = {source.unit for source in spec.sources}
    if spec.take in {"min", "max", "mean"} and (len(units) > 1 or None in units):
        raise Problem(Category.INCORRECT, f"{table.place}.window.take: {spec.take} needs numbers of one unit")
    return spec


def _missing(table: YamlMapping) -> tuple[MissingPolicy, Decimal | None]:
    policy = table.take("missing", object)
    if policy == "refuse" or policy == "nan":  # noqa: PLR1714 - compared one by one, the type checker knows the word
        return policy, None
    inner = table.table("missing")
    default = inner.number("default")
    inner.done()
    return "default", default


def _window(table: YamlMapping) -> tuple[str, Decimal | None]:
    take = table.choice("take", "last", "min", "max", "mean", "count")
    hours = table.number("hours") if table.has("hours") else None
    table.done()
    if hours is not None and hours <= 0:
        raise Problem(Category.INCORRECT, f"{table.place}.hours must be above 0")
    return take, hours


def _source(table: YamlMapping) -> Source:
    source = Source(
        system=table.text("system") if table.has("system") else LOINC,
        code=table.text("code"),
        unit=table.text("unit") if table.has("unit") else None,
        plausible=_plausible(table) if table.has("plausible") else None,
        answers=_answers(table.table("answers")) if table.has("answers") else MappingProxyType({}),
        analyte=table.choice("analyte", *ANALYTES) if table.has("analyte") else None,
        groups=_groups(table) if table.has("same") else None,
    )
    table.done()
    if (source.unit is None) == (not source.answers):
        raise Problem(Category.INCORRECT, f"{table.place} must have either unit or answers")
    if source.unit is not None and not is_unit(source.unit):
        raise Problem(Category.INCORRECT, f"{table.place}.unit is not a unit of UCUM that can be converted")
    if source.analyte is not None and source.unit is None:
        raise Problem(Category.INCORRECT, f"{table.place}.analyte needs a unit")
    return source


def _plausible(table: YamlMapping) -> tuple[Decimal, Decimal]:
    place = f"{table.place}.plausible"
    bounds = table.take("plausible", list)
    if len(bounds) != 2:
        raise Problem(Category.INCORRECT, f"{place} must be two numbers")
    low, high = (as_number(place, bound) for bound in bounds)
    if low > high:
        raise Problem(Category.INCORRECT, f"{place} must be given from low to high")
    return low, high


def _groups(table: YamlMapping) -> tuple[frozenset[str] | Decimal, ...]:
    place = f"{table.place}.same"
    groups = table.take("same", list)
    if all(isinstance(group, list) and all(isinstance(word, str) for word in group) for group in groups):
        return tuple(frozenset(group) for group in groups)
    bounds = tuple(as_number(place, bound) for bound in groups)
    if any(upper <= lower for lower, upper in pairwise(bounds)):
        raise Problem(Category.INCORRECT, f"{place} must be given from low to high")
    return bounds


def _check_groups(place: str, sources: Sequence[Source]) -> None:
    """Return when either no source has groups, or all have as many, and of words each one in one group."""
    counts = {None if one.groups is None else len(one.groups) + (not one.answers) for one in sources}
    if len(counts) > 1:
        raise Problem(Category.INCORRECT, f"{place}.sources: same must make as many groups of each source")
    for source in sources:
        words = [word for group in source.groups or () if isinstance(group, frozenset) for word in group]
        expected = set(source.answers.values()) if source.groups is not None else set()
        if len(words) != len(set(words)) or set(words) != expected:
            raise Problem(Category.INCORRECT, f"{place}.sources: same must hold each answer once, and numbers else")


def _answers(table: YamlMapping) -> Mapping[str, str]:
    answers: dict[str, str] = {}
    for word in table.all_keys():
        for spelling in table.texts(word):
            if answers.setdefault(spelling.lower(), word) != word:
                raise Problem(Category.INCORRECT, f"{table.place}: {spelling} is listed twice")
    return MappingProxyType(answers)
