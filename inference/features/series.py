"""The features of ``features.yaml`` on a fixed grid: the time series that a model of sequences reads.

The grid ends at the time of the prediction. Each of its intervals holds what was measured after the end of the interval
before it and not after its own end. Times, units and plausible ranges are those of :mod:`inference.features.extract`:
a value that cannot be read is masked, and an older one of the same interval never stands in for it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inference.contract import FactsInput, FeatureUse, GapKind, SeriesInput
from inference.features.choose import Candidate, FeatureValue, Gap, chooser
from inference.features.compiled import counts
from inference.features.extract import compile_features, gap_uses, refusal_of
from inference.features.index import Index, index_facts
from inference.features.records import FeatureSpec
from inference.features.rows import read_words
from inference.features.transform import transformed
from inference.features.windows import Span, window_of
from kernel.errors import Category, Problem


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Intervals of equal length, one after the other, the last of which ends at ``at``."""

    at: datetime
    step: timedelta
    rows: int

    @property
    def start(self) -> datetime:
        """The instant before the first interval; not part of it."""
        return self.at - self.step * self.rows

    @property
    def ends(self) -> tuple[datetime, ...]:
        """The end of each interval, ascending."""
        return tuple(self.at - self.step * back for back in reversed(range(self.rows)))

    def row(self, instant: datetime) -> int:
        """Return the interval that an instant after ``start`` and not after ``at`` lies in, from 0."""
        return self.rows - 1 - (self.at - instant) // self.step


@dataclass(frozen=True, kw_only=True)
class SeriesGap:
    """Why a time series cannot be used."""

    #: Completes "AI result not available: ...".
    reason: str
    #: Titles of the features that would be needed.
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Column:
    values: NDArray[np.float32]
    uses: tuple[FeatureUse, ...]
    sources: frozenset[str]


def series_input(
    specs: Sequence[FeatureSpec], given: FactsInput, *, hours: Decimal, step_hours: Decimal
) -> SeriesInput:
    """Arrange the facts of one patient on a grid.

    Parameters
    ----------
    specs
        Features, one per column; ``window.take`` says which of the values of an interval counts, or what of them, and
        ``window.hours`` how far back the feature is read at all. Age and sex are the same in every interval.
    given
        The facts, and the time of prediction at which the grid ends.
    hours, step_hours
        Length of the grid, and of each of its intervals.

    Returns
    -------
    SeriesInput
        Its ``sources`` are all facts of the features within the grid, whichever interval they lie in: the same facts
        give the same result id although the grid moves with the time of prediction.
    """
    grid = Grid(at=given.at, step=timedelta(hours=float(step_hours)), rows=int(hours / step_hours))
    index = index_facts(given)
    columns = [_measured(spec, index, grid, given) if spec.sources else _constant(spec, given, grid) for spec in specs]
    values = (
        np.stack([column.values for column in columns], axis=1) if columns else np.empty((grid.rows, 0), np.float32)
    )
    return SeriesInput(
        subject=given.subject,
        features=tuple(spec.name for spec in specs),
        grid=grid.ends,
        values=values,
        mask=~np.isnan(values),
        sources=tuple(sorted(frozenset().union(*(column.sources for column in columns)))),
        at=given.at,
        uses=tuple(use for column in columns for use in column.uses),
        next_usable=given.next_usable,
    )


def find_gap(specs: Sequence[FeatureSpec], series: SeriesInput, hours: Decimal) -> SeriesGap | None:
    """Return why a time series cannot be used; None when it can.

    Parameters
    ----------
    specs
        The features it was made of, in order.
    series
        From :func:`series_input`. It cannot be used when no interval holds a measured value, or when a feature whose
        policy is ``refuse`` has none.
    hours
        Length of the grid.
    """
    used = {use.name for use in series.uses if use.status == "used"}
    last = {use.name: use for use in series.uses}
    measured = [spec for spec in specs if spec.sources]
    if not any(spec.name in used for spec in measured):
        titles = tuple(spec.title for spec in measured)
        wanted = ", ".join(titles) or "any feature"
        return SeriesGap(reason=f"no usable value of {wanted} within {hours} hours", missing=titles)
    gaps: defaultdict[GapKind, list[tuple[str, str]]] = defaultdict(list)
    for spec in specs:
        if spec.missing == "refuse" and spec.name not in used:
            use = last[spec.name]
            gaps[use.why or "missing"].append((spec.title, use.detail))
    if not gaps:
        return None
    return SeriesGap(
        reason=refusal_of(gaps),
        missing=tuple(title for named in gaps.values() for title, _ in named),
    )


def check_series(specs: Sequence[FeatureSpec]) -> None:
    """Return when a time series can hold these features.

    Raises
    ------
    Problem
        ``incorrect``, naming the feature whose answers are not numbers, or whose default would look like a measurement.
    """
    if not any(spec.sources for spec in specs):
        raise Problem(Category.INCORRECT, "features.yaml must declare a feature that is measured, for a time series")
    for spec in specs:
        if any(_number(word) is None for word in read_words(spec)):
            raise Problem(
                Category.INCORRECT,
                f"features.yaml: the answers of {spec.name} must be numbers; or declare one_hot: true",
            )
        if spec.missing == "default":
            raise Problem(Category.INCORRECT, f"features.yaml: {spec.name} cannot have a default in a time series")
        if spec.missing_of is not None:
            detail = "is not needed in a time series, whose mask says it; remove it"
            raise Problem(Category.INCORRECT, f"features.yaml: {spec.name} {detail}")


def _measured(spec: FeatureSpec, index: Index, grid: Grid, given: FactsInput) -> _Column:
    span = window_of(spec)(grid.at, given.admission)
    inside = {} if isinstance(span, Gap) else _by_interval(spec, index, grid, span)
    choose, ends = chooser(spec.take), grid.ends
    values = np.full(grid.rows, np.nan, dtype=np.float32)
    uses: dict[str, tuple[FeatureUse, ...]] = {}
    for row in sorted(inside):
        found = choose(inside[row], ends[row])
        number = None if isinstance(found, Gap) else _for_model(spec, found.value)
        became = _uses(spec.name, found, number, inside[row])
        uses[became[0].status] = became
        if number is not None:
            values[row] = number
    sources = {placed.fact.source for candidates in inside.values() for placed, _, _ in candidates}
    if sources and spec.since_admission and given.admission is not None:
        sources.add(given.admission.source)  # another admission is another series
    missing = tuple(gap_uses(spec.name, span, "missing")) if isinstance(span, Gap) else ()
    return _Column(values=values, uses=missing or _in_order(spec.name, uses), sources=frozenset(sources))


def _by_interval(spec: FeatureSpec, index: Index, grid: Grid, span: Span) -> Mapping[int, Sequence[Candidate]]:
    """Return what was measured in the window of a feature, by the interval of the grid."""
    inside: defaultdict[int, list[Candidate]] = defaultdict(list)
    for rank, source in enumerate(spec.sources):
        for placed in index.get((source.system, source.code), ()):
            instant = min(placed.instant, grid.at)  # what lies within the tolerance of clocks counts as now
            if instant > grid.start and span.holds(instant) and counts(placed, source):
                inside[grid.row(instant)].append((placed, source, rank))
    return inside


def _constant(spec: FeatureSpec, given: FactsInput, grid: Grid) -> _Column:
    extraction = compile_features((spec,))(given)
    reading = extraction.readings[spec.name]
    number = np.nan if reading is None else float(reading.value)
    return _Column(
        values=np.full(grid.rows, number, dtype=np.float32),
        uses=extraction.features,
        sources=frozenset(() if reading is None else reading.sources),
    )


def _uses(
    name: str, found: FeatureValue | Gap, number: float | None, candidates: Sequence[Candidate]
) -> tuple[FeatureUse, ...]:
    if isinstance(found, FeatureValue) and number is not None:
        return (FeatureUse(name=name, value=found.value, unit=found.unit, status="used", source=found.sources[0]),)
    if isinstance(found, Gap) and found.detail:
        return tuple(gap_uses(name, found, "dropped"))
    newest, _, _ = max(
        candidates, key=lambda one: (one[0].instant, one[0].fact.issued, one[0].fact.arrived, one[0].fact.source)
    )
    implausible = isinstance(found, Gap) and found.kind == "implausible"
    status: Literal["implausible", "dropped"] = "implausible" if implausible else "dropped"
    why: GapKind = found.kind if isinstance(found, Gap) else "unreadable"
    return (FeatureUse(name=name, value=None, unit=None, status=status, source=newest.fact.source, why=why),)


def _in_order(name: str, newest: Mapping[str, tuple[FeatureUse, ...]]) -> tuple[FeatureUse, ...]:
    """Return the newest use of each status, the value that was used last; ``missing`` when there was no value."""
    found = tuple(use for status in ("dropped", "implausible", "used") for use in newest.get(status, ()))
    return found or (FeatureUse(name=name, value=None, unit=None, status="missing", source=None, why="missing"),)


def _for_model(spec: FeatureSpec, value: Decimal | str) -> float | None:
    """Return a value as the model reads it; None where it is no number."""
    if spec.indicates is not None:
        return float(value == spec.indicates)
    changed = transformed(value, spec.transform) if spec.transform and isinstance(value, Decimal) else value
    return None if changed is None else _number(changed)


def _number(value: Decimal | str) -> float | None:
    """Return a value as a number; None when it is a word."""
    try:
        return float(value)
    except ValueError:
        return None
