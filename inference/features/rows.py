"""Features whose values were computed elsewhere: each is checked as one that is read from facts would be."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final, TypeAlias

from inference.features.compiled import answer, for_model
from inference.features.records import FeatureSpec, Take
from inference.features.values import FeatureValue, Gap

Row: TypeAlias = Mapping[str, Decimal | str | None]
"""Name of a feature in the file -> value; None, or no entry, is a value that is missing."""
RowFeature: TypeAlias = Callable[[Row], FeatureValue | Gap]

_IN_RANGE: Final[frozenset[Take]] = frozenset({"last", "first", "min", "max", "mean", "median"})
"""What is as plausible as the values that it is taken of."""


_OLDEST: Final = 130
"""Years."""


def row_columns(specs: Sequence[FeatureSpec]) -> Mapping[str, FeatureSpec]:
    """Return what a row states, by its name in the file; of an answer that became several features there is one."""
    return {spec.declared or spec.name: spec for spec in specs if spec.missing_of is None}


def is_word(spec: FeatureSpec) -> bool:
    """Return whether a row states a feature by a word."""
    return spec.take in {"last", "first"} and any(source.answers for source in spec.sources)


def read_words(spec: FeatureSpec) -> frozenset[str]:
    """Return the words that a model may read of a feature; none of one that says how many, when, or whether."""
    if spec.indicates is not None or not is_word(spec):
        return frozenset()
    return frozenset(word for source in spec.sources for word in source.answers.values())


def row_feature(spec: FeatureSpec) -> RowFeature:
    """Return what reads a feature of a row: a number in the unit of its first source, before its transforms, or a word.

    The word is one of the feature's own or of the source's.
    """
    name = spec.declared or spec.name

    def read(row: Row) -> FeatureValue | Gap:
        value = row.get(name)
        return Gap(kind="missing") if value is None else for_model(spec, _stated(spec, value))

    return read


def _stated(spec: FeatureSpec, value: Decimal | str) -> FeatureValue | Gap:
    if spec.stated:
        return answer(holds=bool(value)) if value in {Decimal(0), Decimal(1)} else Gap(kind="unreadable")
    if spec.subject is not None:
        is_age = spec.subject == "age"
        if isinstance(value, str) or not (0 <= value <= _OLDEST if is_age else value in {Decimal(0), Decimal(1)}):
            return Gap(kind="implausible")
        return FeatureValue(value=value, unit="a" if is_age else "1", code="", effective=None, sources=())
    source = spec.sources[0]
    if is_word(spec):
        words = {key: word for one in spec.sources for key, word in one.answers.items()}
        word = value if value in words.values() else words.get(str(value).lower())
        if word is None:
            return Gap(kind="unreadable")
        return FeatureValue(value=word, unit=None, code=source.code, effective=None, sources=())
    if not isinstance(value, Decimal):
        return Gap(kind="unreadable")
    limits = source.plausible if spec.take in _IN_RANGE else None
    if limits is not None and not limits[0] <= value <= limits[1]:
        return Gap(kind="implausible")
    return FeatureValue(value=value, unit=source.unit, code=source.code, effective=None, sources=())
