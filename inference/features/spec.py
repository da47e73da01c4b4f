"""``features.yaml``: which facts a model reads, in which unit, from how far back, and what to do without them.

``inference/schema/features.schema.json`` states the same structure for editors; a test compares the two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Final, cast, get_args

from inference.features.code_sets import CodeSets, code_sets
from inference.features.in_force_spec import stated_feature
from inference.features.records import (
    MOST_HOURS,
    OF_ANSWERS,
    CodeSet,
    FeatureSpec,
    MissingPolicy,
    Source,
    Subjects,
    Take,
)
from inference.features.source_spec import check_groups, sources_of
from inference.features.transform import parse_transform, transformed
from inference.yaml_mapping import YamlMapping
from kernel.errors import Category, Problem

__all__ = ["CodeSet", "FeatureSpec", "Source", "Take", "parse_features"]

_SUBJECTS: Final = get_args(Subjects)
_TAKES: Final = get_args(Take)


@dataclass(frozen=True, kw_only=True)
class _Window:
    take: Take
    hours: Decimal | None
    offset: Decimal
    since_admission: bool
    first_hours: Decimal | None


def parse_features(content: object) -> tuple[FeatureSpec, ...]:
    """Read the content of ``features.yaml``.

    Raises
    ------
    Problem
        ``incorrect``, naming the key that is missing, unknown or wrong.
    """
    table = YamlMapping("features.yaml", content)
    sets = code_sets(table)
    specs = tuple(spec for feature in table.tables("features") for spec in _feature(feature, sets))
    table.done()
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise Problem(Category.INCORRECT, f"features.yaml.features: {name} is declared twice")
    for place, spec in enumerate(specs):
        _check_named(f"features.yaml.features[{place}]", spec, specs)
    return specs


def _feature(table: YamlMapping, sets: CodeSets) -> Sequence[FeatureSpec]:
    """Return the specs of one entry: several where its answers become features of their own."""
    for key, read in _KINDS.items():
        if table.has(key):
            specs = read(table, sets)
            table.done()
            return specs
    specs = _measured(table, sets)
    table.done()
    return specs


def _of_subject(table: YamlMapping, _sets: CodeSets) -> Sequence[FeatureSpec]:
    missing, default = _missing(table)
    spec = _unmeasured(table, missing=missing, default=default)
    subject = cast("Subjects", table.choice("subject", *_SUBJECTS))
    return (_with_transform(table, replace(spec, subject=subject)),)


def _of_missing(table: YamlMapping, _sets: CodeSets) -> Sequence[FeatureSpec]:
    return (replace(_unmeasured(table), missing_of=table.text("missing_of")),)


def _of_conditions(table: YamlMapping, sets: CodeSets) -> Sequence[FeatureSpec]:
    return _in_force(table, "conditions", sets)


def _of_medications(table: YamlMapping, sets: CodeSets) -> Sequence[FeatureSpec]:
    return _in_force(table, "medications", sets)


def _in_force(table: YamlMapping, key: str, sets: CodeSets) -> Sequence[FeatureSpec]:
    stated, hours, offset = stated_feature(table, key, sets)
    return (replace(_unmeasured(table), stated=stated, take="any", hours=hours, offset=offset),)


_KINDS: Final[Mapping[str, Callable[[YamlMapping, CodeSets], Sequence[FeatureSpec]]]] = MappingProxyType(
    {
        "subject": _of_subject,
        "missing_of": _of_missing,
        "conditions": _of_conditions,
        "medications": _of_medications,
    }
)
"""Key of an entry that stands in the place of ``sources`` -> what reads the entry."""


def _measured(table: YamlMapping, sets: CodeSets) -> Sequence[FeatureSpec]:
    one_hot = table.take("one_hot", bool) if table.has("one_hot") else False
    word = _default_word(table) if one_hot else None
    missing, default = _missing(table) if word is None else ("default", None)
    window = _window(table.table("window"))
    spec = FeatureSpec(
        name=table.text("name"),
        title=table.text("title"),
        sources=sources_of(table, sets),
        subject=None,
        hours=window.hours,
        take=window.take,
        missing=missing,
        default=default,
        offset=window.offset,
        since_admission=window.since_admission,
        first_hours=window.first_hours,
    )
    if not spec.sources:
        raise Problem(Category.INCORRECT, f"{table.place}.sources must not be empty")
    check_groups(table.place, spec.sources)
    units = {source.unit for source in spec.sources}
    if spec.take not in OF_ANSWERS and (len(units) > 1 or None in units):
        raise Problem(Category.INCORRECT, f"{table.place}.window.take: {spec.take} needs numbers of one unit")
    return _one_hot(table, spec, word) if one_hot else (_with_transform(table, spec),)


def _unmeasured(table: YamlMapping, *, missing: MissingPolicy = "nan", default: Decimal | None = None) -> FeatureSpec:
    """Return the spec of a feature that is not measured; what always has a value needs no policy."""
    name = table.text("name")
    title = table.text("title")
    return FeatureSpec(
        name=name, title=title, sources=(), subject=None, hours=None, take="last", missing=missing, default=default
    )


def _with_transform(table: YamlMapping, spec: FeatureSpec) -> FeatureSpec:
    if not table.has("transform"):
        return spec
    spec = replace(spec, transform=parse_transform(table, spec))
    if spec.default is not None and transformed(spec.default, spec.transform) is None:
        raise Problem(Category.INCORRECT, f"{table.place}.missing.default has no logarithm; choose one above 0")
    return spec


def _one_hot(table: YamlMapping, spec: FeatureSpec, default: str | None) -> Sequence[FeatureSpec]:
    words = tuple(dict.fromkeys(word for source in spec.sources for word in source.answers.values()))
    if spec.take not in {"last", "first"} or not all(source.answers for source in spec.sources):
        detail = "needs sources with answers, of which the last or the first is taken"
        raise Problem(Category.INCORRECT, f"{table.place}.one_hot {detail}")
    if default is not None and default not in words:
        raise Problem(Category.INCORRECT, f"{table.place}.missing.default must be one of: {', '.join(words)}")
    return tuple(
        replace(
            spec,
            name=f"{spec.name}={word}",
            declared=spec.name,
            indicates=word,
            default=None if default is None else Decimal(word == default),
        )
        for word in words
    )


def _default_word(table: YamlMapping) -> str | None:
    """Return the answer that stands in for a missing one; None where the policy is another."""
    if not table.has("missing") or isinstance(table.take("missing", object), str):
        return None
    inner = table.table("missing")
    word = inner.text("default")
    inner.done()
    return word


def _missing(table: YamlMapping) -> tuple[MissingPolicy, Decimal | None]:
    policy = table.take("missing", object)
    if policy == "refuse" or policy == "nan":  # noqa: PLR1714 - compared one by one, the type checker knows the word
        return policy, None
    inner = table.table("missing")
    default = inner.number("default")
    inner.done()
    return "default", default


def _window(table: YamlMapping) -> _Window:
    admission = table.choice("since", "admission") == "admission" if table.has("since") else False
    window = _Window(
        take=cast("Take", table.choice("take", *_TAKES)),
        hours=table.positive("hours", MOST_HOURS) if table.has("hours") else None,
        offset=table.positive("offset", MOST_HOURS) if table.has("offset") else Decimal(0),
        since_admission=admission,
        first_hours=table.positive("first_hours", MOST_HOURS) if table.has("first_hours") else None,
    )
    table.done()
    if window.hours is not None and window.offset >= window.hours:
        raise Problem(Category.INCORRECT, f"{table.place}.offset must be below hours, where the window begins")
    if window.first_hours is not None and not admission:
        raise Problem(Category.INCORRECT, f"{table.place}.first_hours needs since: admission")
    return window


def _check_named(place: str, spec: FeatureSpec, specs: Sequence[FeatureSpec]) -> None:
    """Return when the feature that a missing indicator names is one that may be without a value."""
    if spec.missing_of is None:
        return
    named = [one for one in specs if spec.missing_of in {one.name, one.declared}]
    if not named:
        raise Problem(Category.INCORRECT, f"{place}.missing_of: no feature has the name {spec.missing_of}")
    if any(one.missing == "refuse" or one.missing_of or one.stated for one in named):
        detail = f"{spec.missing_of} is never missing where the model answers; give it missing: nan or a default"
        raise Problem(Category.INCORRECT, f"{place}.missing_of: {detail}")
