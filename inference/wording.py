"""The sentences that every protocol carries for a result: one line for it, or why there is none."""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from inference.contract import (
    ClassSet,
    Interval,
    NotAvailable,
    Outcome,
    Output,
    OutputDetail,
    OutputKind,
    Spans,
    TimeSeries,
)

NOT_AVAILABLE: Final = "AI result not available"
"""Begins every refusal, in FHIR, HL7 v2, DICOM and the console."""


def refusal(reason: str) -> str:
    """Return the sentence that stands where a result would; ``reason`` completes it."""
    return f"{NOT_AVAILABLE}: {reason}"


def summary(outcome: Outcome) -> str:
    """Return a result in one line, without PHI."""
    if isinstance(outcome, NotAvailable):
        return refusal(outcome.reason)
    return "; ".join(f"{output.display}: {line_of(output)}" for output in outcome.outputs)


def line_of(output: Output) -> str:
    """Return what an output states, without its name: value, unit and band, by its kind."""
    return line(output.kind, output.value, unit=output.unit, band=output.band, detail=output.detail)


def line(kind: OutputKind, value: float | None, *, unit: str | None, band: str, detail: OutputDetail | None) -> str:
    """Return what an output states, without its name.

    Parameters
    ----------
    kind, value, unit, band, detail
        As the fields of :class:`~inference.contract.Output`.
    """
    said = None if value is None else LINES[kind](value, unit, detail)
    if said is None:
        return band
    return {"class-set": said, "interval": f"{said}, {band}"}.get(kind, f"{said} ({band})")


def figure(value: float) -> str:
    """Return a number as a person would write it: ``7`` for 7.0, else at most four significant digits, plainly."""
    if float(value).is_integer():
        return f"{value:.0f}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) >= 1e-4 else f"{value:.6f}"


def percent(share: float) -> str:
    """Return a share of 1 in per cent, to one decimal."""
    return f"{share * 100:.1f}".removesuffix(".0") + " %"


def unit_in_words(unit: str | None) -> str:
    """Return a UCUM unit as it is shown; empty for points and other numbers without one (UCUM section 6)."""
    return "" if unit in {None, "", "1", "{score}"} else str(unit).replace("{", "").replace("}", "")


def at(moment: datetime) -> str:
    """Return an aware datetime in UTC, to the minute."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def coverage(interval: Interval) -> str:
    """Name an interval by its coverage, such as ``90 % interval``."""
    return f"{percent(interval.coverage)} interval"


Line = Callable[[float, str | None, OutputDetail | None], str | None]


def _quantity(value: float, unit: str | None, _detail: OutputDetail | None) -> str:
    return f"{figure(value)} {unit_in_words(unit)}".strip()


def _class_set(_value: float, _unit: str | None, detail: OutputDetail | None) -> str | None:
    if not isinstance(detail, ClassSet):
        return None
    ranked = sorted(detail.probabilities, key=lambda pair: -pair[1])
    return ", ".join(f"{name} {percent(probability)}" for name, probability in ranked)


def _interval(value: float, unit: str | None, detail: OutputDetail | None) -> str:
    said = _quantity(value, unit, None)
    if not isinstance(detail, Interval):
        return said
    return f"{said} ({coverage(detail)} {figure(detail.low)} to {figure(detail.high)})"


def _time_series(value: float, unit: str | None, detail: OutputDetail | None) -> str:
    said = f"last {_quantity(value, unit, None)}"
    if not isinstance(detail, TimeSeries):
        return said
    greatest, moment = max(zip(detail.values, detail.times, strict=True), key=lambda pair: pair[0])
    return f"{said}, highest {_quantity(greatest, unit, None)} at {at(moment)}"


def _mask(value: float, _unit: str | None, _detail: OutputDetail | None) -> str:
    return f"{percent(value)} of the image"


def _spans(value: float, _unit: str | None, detail: OutputDetail | None) -> str:
    said = f"{value:.0f} {'passage' if value == 1 else 'passages'}"
    counts = Counter(span.label for span in detail.spans) if isinstance(detail, Spans) else Counter[str]()
    labels = ", ".join(f"{count} {label}" for label, count in sorted(counts.items()))
    return f"{said}: {labels}" if labels else said


LINES: Final[Mapping[OutputKind, Line]] = MappingProxyType(
    {
        "score": _quantity,
        "probability": lambda value, _unit, _detail: percent(value),
        "category": lambda _value, _unit, _detail: None,
        "class-set": _class_set,
        "interval": _interval,
        "time-series": _time_series,
        "mask": _mask,
        "spans": _spans,
    }
)
"""Kind of an output -> its value in words; None where the band says it all."""
