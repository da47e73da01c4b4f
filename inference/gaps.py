"""Features without a usable value: how many a model bears, and what its result says of them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from inference.contract import FeatureUse, GapKind, Output
from inference.features.spec import FeatureSpec
from inference.manifest import Limits
from inference.runners.base import Declined

_WORDS: Final[Mapping[GapKind, str]] = MappingProxyType(
    {
        "missing": "missing",
        "old": "too old",
        "implausible": "implausible",
        "unreadable": "unreadable",
        "absent": "stated as absent",
        "untimed": "without a time",
        "unstated": "without a status",
        "future": "in the future",
        "contradictory": "contradictory",
        "limit": "known only as a limit",
    }
)
"""Why a value cannot be used -> how a result says so, after the feature's title."""


def most_without_value(limits: Limits, specs: Sequence[FeatureSpec]) -> int:
    """Return how many features may have no usable value: as declared, or else half of those that may do without one.

    Parameters
    ----------
    limits
        Of the manifest.
    specs
        The features of the model.
    """
    if limits.max_without_value is not None:
        return limits.max_without_value
    return len([spec for spec in specs if spec.missing != "refuse" and not spec.subject]) // 2


def check_gaps(limits: Limits, specs: Sequence[FeatureSpec], uses: Sequence[FeatureUse]) -> None:
    """Return when no more features are without a usable value than the model bears.

    Parameters
    ----------
    limits
        Of the manifest.
    specs
        The features of the model.
    uses
        What became of each feature.

    Raises
    ------
    Declined
        With the names of those features, by their reasons.
    """
    measured = {spec.name: spec.title for spec in specs if not spec.subject}
    without = {name: use for name, use in _without_value(uses).items() if name in measured}
    bearable = most_without_value(limits, specs)
    if len(without) <= bearable:
        return
    named = _in_words(list(without.values()), measured)
    raise Declined(
        f"{len(without)} of {len(measured)} values cannot be used, and the model bears {bearable}: {named}",
        missing=tuple(measured[name] for name in without),
        features=tuple(uses),
    )


def with_gaps(output: Output, uses: Sequence[FeatureUse], titles: Mapping[str, str]) -> Output:
    """Return an output whose text also names the features without a value, and the values that were left out.

    Parameters
    ----------
    output
        As the model's runner expressed it.
    uses
        What became of each feature.
    titles
        Name of a feature -> what a clinician calls it.
    """
    without = _without_value(uses)
    left_out = [use for use in uses if use.status != "used" and use.name not in without]
    text = output.text
    if without:
        text += f" Computed without {_in_words(list(without.values()), titles)}."
    if left_out:
        text += f" Values left out: {_in_words(left_out, titles)}."
    return output if text == output.text else replace(output, text=text)


def _without_value(uses: Sequence[FeatureUse]) -> Mapping[str, FeatureUse]:
    """Return, of each feature none of whose values was used, why the newest was not."""
    used = {use.name for use in uses if use.status == "used"}
    return {use.name: use for use in uses if use.name not in used}


def _in_words(uses: Sequence[FeatureUse], titles: Mapping[str, str]) -> str:
    """Return ``creatinine, potassium (unreadable), lactate (missing)``."""
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for use in uses:
        reason = _WORDS[use.why or "missing"]
        by_reason[f"{reason}: {use.detail}" if use.detail else reason].append(titles.get(use.name, use.name))
    return ", ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
