"""Features whose values were computed elsewhere: each is checked as one that is read from facts would be."""

from collections.abc import Mapping
from decimal import Decimal

from inference.features.choose import FeatureValue, Gap
from inference.features.spec import FeatureSpec


def stated(spec: FeatureSpec, row: Mapping[str, Decimal | str | None]) -> FeatureValue | Gap:
    """Return the value of a feature as a row states it, or why it cannot be used.

    Parameters
    ----------
    spec
        The feature. A number is in the unit of its first source; an answer is in its words or those of the source.
    row
        Feature name -> value; None, or no entry, is a value that is missing.
    """
    value = row.get(spec.name)
    if value is None:
        return Gap(kind="missing")
    if spec.subject is not None:
        unit = "a" if spec.subject == "age" else "1"
        return FeatureValue(value=value, unit=unit, code="", effective=None, sources=())
    source = spec.sources[0]
    if source.answers:
        word = value if value in source.answers.values() else source.answers.get(str(value).lower())
        if word is None:
            return Gap(kind="unreadable")
        return FeatureValue(value=word, unit=None, code=source.code, effective=None, sources=())
    if not isinstance(value, Decimal):
        return Gap(kind="unreadable")
    if spec.take != "count" and source.plausible and not source.plausible[0] <= value <= source.plausible[1]:
        return Gap(kind="implausible")
    return FeatureValue(value=value, unit=source.unit, code=source.code, effective=None, sources=())
