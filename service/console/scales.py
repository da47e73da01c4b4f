"""Where a model's value can lie: from its manifest for a probability, from the literature for a known score."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from inference.bands import gravities
from inference.manifest import OutputSpec
from service.console.plots import Scale, Segment

_NEWS2: Final = Scale(
    low=-0.5,
    high=20.5,
    segments=(
        Segment(name="low", end=4.5, gravity=0),
        Segment(name="medium", end=6.5, gravity=2),
        Segment(name="high", end=20.5, gravity=3),
    ),
    ticks=((0, "0"), (5, "5"), (7, "7"), (20, "20")),
    note="Low-medium is a total below 5 in which one parameter alone scores 3.",
)
"""Royal College of Physicians, NEWS2 (2017), "thresholds and triggers"; a whole number has its half on either side."""

_SCORES: Final[Mapping[tuple[str, str], Scale]] = MappingProxyType(
    {("http://snomed.info/sct", "1104051000000101"): _NEWS2}
)


def scale_of(output: OutputSpec) -> Scale | None:
    """Return the scale of an output; none where nothing is known of it."""
    if output.kind == "probability":
        return _probability(output)
    return _SCORES.get((output.system, output.code))


def _probability(output: OutputSpec) -> Scale:
    starts = [float(band.at_least or 0) for band in output.bands]
    grave = gravities([band.name for band in output.bands])
    segments = tuple(
        Segment(name=band.name, end=end, gravity=gravity)
        for band, end, gravity in zip(output.bands, [*starts[1:], 1.0], grave, strict=True)
    )
    ticks = tuple((start, f"threshold {start:g}" if start else "0") for start in starts)
    return Scale(low=0, high=1, segments=segments, ticks=(*ticks, (1, "1")))
