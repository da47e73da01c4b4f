"""What an output says in a measurement group (TID 1501, PS3.16), by its kind: one measurement a number.

The band is the group's qualitative evaluation. The whole of a time series and the places of spans stay in the FHIR
and HL7 v2 forms of the result; the report states their headline and what a reader of images needs of them.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from highdicom.sr import CodedConcept, Measurement

from inference.contract import ClassSet, Interval, Output, OutputKind, Spans, TimeSeries
from inference.wording import at, coverage

PRIVATE: Final = "99AUSCULTA"
LONGEST_MEANING: Final = 64
"""Characters of a Code Meaning (PS3.5, VR LO)."""

_NO_UNIT: Final = CodedConcept("1", "UCUM", "no units")
_PASSAGES: Final = CodedConcept("{passages}", "UCUM", "passages")


def measurements_of(output: Output) -> list[Measurement]:
    """Return the measurements of an output; none where its band says it all."""
    return [] if output.value is None else MEASUREMENTS[output.kind](output)


def _measurement(code: str, meaning: str, value: float, unit: CodedConcept = _NO_UNIT) -> Measurement:
    name = CodedConcept(code, PRIVATE, meaning[:LONGEST_MEANING])
    return Measurement(name=name, value=round(float(value), 6), unit=unit)


def _unit(output: Output) -> CodedConcept:
    return _NO_UNIT if output.unit in {None, "", "1"} else CodedConcept(output.unit, "UCUM", output.unit)


def _score(output: Output) -> list[Measurement]:
    return [_measurement("SCORE", "Score", output.value or 0.0, _unit(output))]


def _probability(output: Output) -> list[Measurement]:
    return [_measurement("PROBABILITY", "Probability of the finding", output.value or 0.0)]


def _class_set(output: Output) -> list[Measurement]:
    detail = output.detail
    assert isinstance(detail, ClassSet)
    return [
        _measurement(f"CLASS_{place}", f"Probability of {name}", probability)
        for place, (name, probability) in enumerate(detail.probabilities, start=1)
    ]


def _interval(output: Output) -> list[Measurement]:
    detail = output.detail
    assert isinstance(detail, Interval)
    unit = _unit(output)
    return [
        _measurement("ESTIMATE", "Point estimate", output.value or 0.0, unit),
        _measurement("INTERVAL_LOW", f"Lower limit of the {coverage(detail)}", detail.low, unit),
        _measurement("INTERVAL_HIGH", f"Upper limit of the {coverage(detail)}", detail.high, unit),
    ]


def _time_series(output: Output) -> list[Measurement]:
    detail = output.detail
    assert isinstance(detail, TimeSeries)
    unit = _unit(output)
    greatest, time = max(zip(detail.values, detail.times, strict=True), key=lambda pair: pair[0])
    return [
        _measurement("LAST", f"Value at {at(detail.times[-1])}, the last", detail.values[-1], unit),
        _measurement("HIGHEST", f"Value at {at(time)}, the highest", greatest, unit),
    ]


def _mask(output: Output) -> list[Measurement]:
    return [_measurement("SEGMENTED", "Segmented fraction of the image", output.value or 0.0)]


def _spans(output: Output) -> list[Measurement]:
    detail = output.detail
    assert isinstance(detail, Spans)
    counts = sorted(Counter(span.label for span in detail.spans).items())
    return [
        _measurement("PASSAGES", "Passages", len(detail.spans), _PASSAGES),
        *(
            _measurement(f"PASSAGES_{place}", f"Passages labelled {label}", count, _PASSAGES)
            for place, (label, count) in enumerate(counts, start=1)
        ),
    ]


MEASUREMENTS: Final[Mapping[OutputKind, Callable[[Output], list[Measurement]]]] = MappingProxyType(
    {
        "score": _score,
        "probability": _probability,
        "category": lambda _output: [],
        "class-set": _class_set,
        "interval": _interval,
        "time-series": _time_series,
        "mask": _mask,
        "spans": _spans,
    }
)
"""Kind of an output -> its measurements."""
