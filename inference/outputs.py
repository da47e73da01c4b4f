"""From a declared output and what the model computed to an :class:`~inference.contract.Output`."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from inference.contract import ClassSet, Interval, MaskReference, Output, OutputDetail, Spans, TimeSeries
from inference.manifest import OutputSpec
from inference.wording import line
from kernel.errors import Category, Problem

_DETAILS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "class-set": ClassSet,
        "interval": Interval,
        "time-series": TimeSeries,
        "mask": MaskReference,
        "spans": Spans,
    }
)
"""Kind of an output -> the record of its detail; the other kinds have none."""


def make_output(
    spec: OutputSpec,
    value: float | None = None,
    *,
    notice: str,
    detail: OutputDetail | None = None,
    band: str | None = None,
    text: str | None = None,
) -> Output:
    """Express what a model computed in the codes of its manifest.

    Parameters
    ----------
    spec
        The declared output.
    value
        The number of a score, probability, interval (its point estimate) or mask (the segmented part, in [0, 1]).
        Computed from ``detail`` for a class set, a time series and spans.
    notice
        Begins the text.
    detail
        The rest of an output that is more than one number, of the record that belongs to the kind.
    band
        Name of a declared band; computed from the value when not given.
    text
        What a clinician reads after the notice; display, value and band when not given.

    Returns
    -------
    Output
        With its band and text.

    Raises
    ------
    Problem
        ``fault`` when the band is not declared or the detail does not fit the kind.
    """
    if type(detail) is not _DETAILS.get(spec.kind, type(None)) or not _is_finite(detail):
        raise Problem(Category.FAULT, f"the model gave a value that does not fit {spec.name}")
    value = _headline(detail, value)
    band = _band(spec, detail, value) if band is None else band
    if band not in {declared.name for declared in spec.bands}:
        raise Problem(Category.FAULT, f"the model gave a band that {spec.name} does not have")
    said = f"{spec.display}: {line(spec.kind, value, unit=spec.unit, band=band, detail=detail)}."
    return Output(
        name=spec.name,
        system=spec.system,
        code=spec.code,
        display=spec.display,
        kind=spec.kind,
        value=value,
        unit=spec.unit,
        band=band,
        text=f"{notice} {said if text is None else text}",
        future=spec.future,
        detail=detail,
    )


def _headline(detail: OutputDetail | None, value: float | None) -> float | None:
    if isinstance(detail, ClassSet):
        return max(probability for _, probability in detail.probabilities)
    if isinstance(detail, TimeSeries):
        return detail.values[-1]
    if isinstance(detail, Spans):
        return float(len(detail.spans))
    return value


def _band(spec: OutputSpec, detail: OutputDetail | None, value: float | None) -> str:
    if isinstance(detail, ClassSet):
        return max(detail.probabilities, key=lambda pair: pair[1])[0]
    if value is None:
        raise Problem(Category.FAULT, f"the model gave neither a value nor a band for {spec.name}")
    return spec.band(value)


def _is_finite(detail: OutputDetail | None) -> bool:
    if isinstance(detail, ClassSet):
        return bool(detail.probabilities) and all(math.isfinite(each) for _, each in detail.probabilities)
    if isinstance(detail, Interval):
        return math.isfinite(detail.low) and math.isfinite(detail.high) and detail.low <= detail.high
    if isinstance(detail, TimeSeries):
        return 0 < len(detail.values) == len(detail.times) and all(map(math.isfinite, detail.values))
    return True
