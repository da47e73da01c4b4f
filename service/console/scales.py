"""Where a model's value can lie: from its manifest's bands, or from the model's own rule for a known score."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from inference.bands import gravities
from inference.manifest import OutputSpec
from inference.models.news2 import model as news2
from service.console.plots import Scale, Segment


def _counted(band_of: Callable[[list[int]], str], greatest: int, note: str) -> Scale:
    """Derive the scale of a score from its own rule: the band of each total that is made of single points."""
    bands = [band_of([1] * total) for total in range(greatest + 1)]
    starts = [total for total, band in enumerate(bands) if total == 0 or band != bands[total - 1]]
    ends = [*(start - 0.5 for start in starts[1:]), greatest + 0.5]
    grave = gravities([bands[start] for start in starts])
    return Scale(
        low=-0.5,
        high=greatest + 0.5,
        segments=tuple(
            Segment(name=bands[start], end=end, gravity=gravity)
            for start, end, gravity in zip(starts, ends, grave, strict=True)
        ),
        ticks=tuple((total, str(total)) for total in (*starts, greatest)),
        note=note,
    )


_NEWS2: Final = _counted(
    news2.risk_band,
    sum(
        max(points for _, points in bands)
        for bands in (news2.RESPIRATIONS, news2.SPO2_SCALE_1, news2.SYSTOLIC, news2.PULSE, news2.TEMPERATURE)
    )
    + news2.OXYGEN_POINTS
    + news2.CVPU_POINTS,
    note="Low-medium is a total below 5 in which one parameter alone scores 3.",
)
"""From the bundled model: its manifest's bands have no limits, because its own rule decides. A whole number has its
half on either side."""

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
