"""Model cards, made from the manifest and from measured results; no figure is written by hand.

The headings follow Mitchell et al. 2019, *Model Cards for Model Reporting*.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from inference.manifest import Manifest
from inference.measure import Estimate, ReliabilityBin
from inference.wording import percent

INTERVALS: Final = (
    "Intervals are 95 % intervals over images: Wilson intervals of sensitivity and specificity, else percentile "
    "bootstrap intervals."
)


@dataclass(frozen=True, kw_only=True)
class DeclinedShare:
    """How many images of a kind the check of likeness declines."""

    what: str
    declined: int
    of: int


@dataclass(frozen=True, kw_only=True)
class BinaryEvaluation:
    """The measured performance of a binary classifier on a held-out part of the data."""

    #: What the data are, where from, under which licence.
    data: str
    #: How the parts were made.
    split: str
    #: Cases measured on, and how many of them are positive.
    cases: int
    positives: int
    auroc: Estimate
    #: The performance of a simpler model on the same cases, and by how much this one is better.
    baseline: str
    baseline_auroc: Estimate
    difference: Estimate
    #: Chosen on a part of its own.
    threshold: float
    sensitivity: Estimate
    specificity: Estimate
    brier: Estimate
    calibration_error: Estimate
    reliability: tuple[ReliabilityBin, ...]
    #: How calibration and threshold were chosen.
    calibration: str
    #: Of the images measured on, and of images that the model must decline.
    right_declined: DeclinedShare
    declined: tuple[DeclinedShare, ...]
    #: What the data cannot tell, one sentence or more each.
    unknown: tuple[str, ...]


def evaluation_sections(found: BinaryEvaluation) -> Mapping[str, str]:
    """Return the sections of a card that report what was measured."""
    rows = (
        ("Area under the ROC curve", found.auroc),
        (f"The same, {found.baseline}", found.baseline_auroc),
        ("Difference, on the same images", found.difference),
        (f"Sensitivity at {found.threshold:.4f}", found.sensitivity),
        (f"Specificity at {found.threshold:.4f}", found.specificity),
        ("Brier score", found.brier),
        ("Expected calibration error, 10 bins", found.calibration_error),
    )
    table = [f"| {name} | {value.value:.3f} | {value.low:.3f} to {value.high:.3f} |" for name, value in rows]
    return {
        "Data": found.data,
        "Split": found.split,
        "Results": "\n".join(
            [
                f"On {found.cases} images that took part in nothing, {found.positives} of them positive.",
                INTERVALS,
                "",
                "| measure | value | interval |",
                "|---|---|---|",
                *table,
            ]
        ),
        "Calibration": _calibration(found),
        "Images that it declines": _declined(found),
        "What it cannot know": "\n".join(f"- {one}" for one in found.unknown),
    }


def _calibration(found: BinaryEvaluation) -> str:
    rows = [
        f"| {one.low:.1f} to {one.high:.1f} | {one.cases} | {one.predicted:.3f} | {one.observed:.3f} |"
        for one in found.reliability
    ]
    header = ["| probability | images | mean probability | share positive |", "|---|---|---|---|"]
    return "\n".join([found.calibration, "", *header, *rows])


def _declined(found: BinaryEvaluation) -> str:
    rows = [
        f"| {one.what} | {one.declined} | {one.of} | {one.declined / one.of:.1%} |"
        for one in (found.right_declined, *found.declined)
    ]
    words = (
        "An image is declined when it is unlike the training images: by the network's features, or by the picture "
        "itself. The bounds were chosen on right images only, on a part of their own."
    )
    return "\n".join([words, "", "| images | declined | of | share |", "|---|---|---|---|", *rows])


def render_card(manifest: Manifest, sections: Mapping[str, str], *, limits: Sequence[str] = ()) -> str:
    """Write a card.

    Parameters
    ----------
    manifest
        Who the model is.
    sections
        Heading -> Markdown: evidence.
    limits
        Known weaknesses, beside the manifest's warnings.
    """
    outputs = "; ".join(f"{output.display} ({output.system} {output.code})" for output in manifest.outputs)
    demonstration = ["**A DEMONSTRATION MODEL, NOT FOR CLINICAL USE.**", ""] if manifest.demonstration else []
    lines = [
        f"# {manifest.title}",
        "",
        *demonstration,
        f"- Name and version: {manifest.name} {manifest.version}",
        f"- Owner: {manifest.owner}",
        f"- Intended use: {manifest.intended_use}",
        f"- Intended users: {', '.join(manifest.users)}",
        f"- Says: {outputs}",
        "",
    ]
    for heading, text in sections.items():
        lines += [f"## {heading}", "", text, ""]
    lines += ["## Limits", "", *(f"- {limit}" for limit in (*_scope(manifest), *manifest.warnings, *limits)), ""]
    plan = manifest.change_plan
    lines += ["## Change plan", "", "May change without a new approval:", ""]
    lines += [*(f"- {item}" for item in plan.allowed or ("nothing",)), "", "A change must show:", ""]
    lines += [*(f"- {item}" for item in plan.acceptance), ""]
    return "\n".join(lines)


def _scope(manifest: Manifest) -> list[str]:
    scope = []
    low, high = manifest.limits.min_age_years, manifest.limits.max_age_years
    ages = [f"{word} {age} years" for word, age in (("under", low), ("over", high)) if age is not None]
    if ages:
        scope.append(f"Declines patients {' or '.join(ages)}, and those of unknown age.")
    if manifest.limits.spread_hours is not None:
        scope.append(f"Declines values that were measured more than {manifest.limits.spread_hours} hours apart.")
    if manifest.limits.max_without_value is not None:
        scope.append(f"Declines when more than {manifest.limits.max_without_value} values cannot be used.")
    if manifest.limits.imputed_at_most is not None:
        scope.append(
            f"Declines when more than {percent(float(manifest.limits.imputed_at_most))} of the values are imputed."
        )
    if manifest.input.modalities:
        rules = [part.selection for part in manifest.input.parts or (manifest.input,)]
        words = [word for rule in rules for word in (*sorted(rule.modalities), *rule.body_parts, *rule.views)]
        scope.append(f"Declines images other than: {', '.join(words)}.")
        if any(rule.body_part_required for rule in rules):
            scope.append("Declines images of which nothing in the header says that they show the body part.")
    return scope
