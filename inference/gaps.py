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
from inference.wording import percent

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

    Where the model declares a share of imputed values instead, that share alone decides.

    Parameters
    ----------
    limits
        Of the manifest.
    specs
        The features of the model.
    """
    if limits.max_without_value is not None:
        return limits.max_without_value
    measured = _measured(specs)
    if limits.imputed_at_most is not None:
        return len(measured)
    return len({_declared(spec) for spec in specs if spec.sources and spec.missing != "refuse"}) // 2


def check_gaps(limits: Limits, specs: Sequence[FeatureSpec], uses: Sequence[FeatureUse]) -> None:
    """Return when no more features are without a usable value, or imputed, than the model bears.

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
    measured, without = _measured(specs), _gaps_of(specs, uses)
    bearable = most_without_value(limits, specs)
    if len(without) > bearable:
        reason = f"{len(without)} of {len(measured)} values cannot be used, and the model bears {bearable}"
        raise _too_many(reason, without, measured, uses)
    imputed = {name: use for name, use in without.items() if use.value is not None}
    if limits.imputed_at_most is not None and len(imputed) > limits.imputed_at_most * len(measured):
        most = percent(float(limits.imputed_at_most))
        reason = f"{_share(len(imputed), len(measured))} would be imputed, and the model bears {most}"
        raise _too_many(reason, imputed, measured, uses)


def imputed_in_words(limits: Limits, specs: Sequence[FeatureSpec], uses: Sequence[FeatureUse]) -> str:
    """Return how much was imputed, for the text of a result; empty where nothing was, or no share is declared.

    Parameters
    ----------
    limits, specs, uses
        As for :func:`check_gaps`.
    """
    imputed = [use for use in _gaps_of(specs, uses).values() if use.value is not None]
    if limits.imputed_at_most is None or not imputed:
        return ""
    return f"Imputed: {_share(len(imputed), len(_measured(specs)))}."


def with_gaps(output: Output, uses: Sequence[FeatureUse], titles: Mapping[str, str], imputed: str = "") -> Output:
    """Return an output whose text also names the features without a value, and the values that were left out.

    Parameters
    ----------
    output
        As the model's runner expressed it.
    uses
        What became of each feature.
    titles
        Name of a feature -> what a clinician calls it.
    imputed
        How much was imputed, from :func:`imputed_in_words`.
    """
    without = _without_value(uses)
    left_out = [use for use in uses if use.status != "used" and use.name not in without]
    text = output.text
    if without:
        text += f" Computed without {_in_words(list(without.values()), titles)}."
    if imputed:
        text += f" {imputed}"
    if left_out:
        text += f" Values left out: {_in_words(left_out, titles)}."
    return output if text == output.text else replace(output, text=text)


def _too_many(
    reason: str, gaps: Mapping[str, FeatureUse], measured: Mapping[str, str], uses: Sequence[FeatureUse]
) -> Declined:
    named = _in_words([replace(use, name=name) for name, use in gaps.items()], measured)
    return Declined(f"{reason}: {named}", missing=tuple(measured[name] for name in gaps), features=tuple(uses))


def _measured(specs: Sequence[FeatureSpec]) -> Mapping[str, str]:
    """Return the features that are measured, by their names in the file, with their titles."""
    return {_declared(spec): spec.title for spec in specs if spec.sources}


def _gaps_of(specs: Sequence[FeatureSpec], uses: Sequence[FeatureUse]) -> Mapping[str, FeatureUse]:
    """Return why measured features have no value, by their names in the file."""
    without = _without_value(uses)
    return {_declared(spec): without[spec.name] for spec in specs if spec.sources and spec.name in without}


def _declared(spec: FeatureSpec) -> str:
    """Return the name in the file: several features of one answer each are one."""
    return spec.declared or spec.name


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} values ({percent(part / whole)})"


def _without_value(uses: Sequence[FeatureUse]) -> Mapping[str, FeatureUse]:
    """Return, of each feature none of whose values was used, why the newest was not."""
    used = {use.name for use in uses if use.status == "used"}
    return {use.name: use for use in uses if use.name not in used}


def _in_words(uses: Sequence[FeatureUse], titles: Mapping[str, str]) -> str:
    """Return ``creatinine, potassium (unreadable), lactate (missing)``; each title once for a reason."""
    by_reason: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for use in uses:
        reason = _WORDS[use.why or "missing"]
        by_reason[f"{reason}: {use.detail}" if use.detail else reason][titles.get(use.name, use.name)] = None
    return ", ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
