"""What an output says in OBX (HL7 v2.5.1 section 7.4.2), by its kind: its headline first, then the rest of it.

The rest has local identifiers of its own in OBX-3, so that a receiver who files by code never mistakes a limit or a
class for the headline.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, TypeAlias

from fhir_adapter.hl7v2 import writer
from inference.contract import ClassSet, Interval, MaskReference, Output, OutputKind, Spans, TimeSeries
from inference.wording import coverage

Code: TypeAlias = tuple[str, str, str]
"""A code, its text and its system (CWE.1 to CWE.3)."""

LOCAL: Final = "99AUSCULTA"
_CHARACTERS: Final[writer.Field] = ("{characters}", "characters", "UCUM")


@dataclass(frozen=True, kw_only=True)
class ObxValue:
    """The value of one OBX."""

    #: OBX-2, table 0125.
    type: str
    #: OBX-5.
    content: writer.Field
    #: OBX-6; empty where there is none.
    unit: writer.Field = ""
    #: OBX-3; None for the output's own code.
    identifier: Code | None = None
    #: OBX-14, where it is not the result's time.
    at: datetime | None = None


def values_of(output: Output, result: str) -> list[ObxValue]:
    """Return the values of an output, the headline first.

    Parameters
    ----------
    output
        The output.
    result
        The result's id, by which an artefact is named.
    """
    return [_band(output)] if output.value is None else VALUES[output.kind](output, result)


def _band(output: Output) -> ObxValue:
    return ObxValue(type="CWE", content=(output.band, output.band, LOCAL))


def _number(value: float, unit: writer.Field = "") -> ObxValue:
    return ObxValue(type="NM", content=writer.number(value), unit=unit)


def _unit(output: Output) -> writer.Field:
    return (output.unit, "", "UCUM") if output.unit else ""


def _range(low: float, high: float, unit: writer.Field, identifier: Code) -> ObxValue:
    """Write a range as SN (section 2.A.71): two numbers with ``-`` between them."""
    content = ("", writer.number(low), "-", writer.number(high))
    return ObxValue(type="SN", content=content, unit=unit, identifier=identifier)


def _quantity(output: Output, _result: str) -> list[ObxValue]:
    return [_number(output.value or 0.0, _unit(output))]


def _class_set(output: Output, _result: str) -> list[ObxValue]:
    detail = output.detail
    assert isinstance(detail, ClassSet)
    return [
        _band(output),
        *(
            ObxValue(type="NM", content=writer.number(probability), identifier=(name, f"Probability of {name}", LOCAL))
            for name, probability in detail.probabilities
        ),
    ]


def _interval(output: Output, result: str) -> list[ObxValue]:
    detail = output.detail
    assert isinstance(detail, Interval)
    identifier = ("INTERVAL", coverage(detail), LOCAL)
    return [*_quantity(output, result), _range(detail.low, detail.high, _unit(output), identifier)]


def _time_series(output: Output, result: str) -> list[ObxValue]:
    detail = output.detail
    assert isinstance(detail, TimeSeries)
    identifier = ("VALUE_AT", f"{output.display} at the time of OBX-14", LOCAL)
    return [
        *_quantity(output, result),
        *(
            ObxValue(type="NM", content=writer.number(value), unit=_unit(output), identifier=identifier, at=time)
            for time, value in zip(detail.times, detail.values, strict=True)
        ),
    ]


def _mask(output: Output, result: str) -> list[ObxValue]:
    detail = output.detail
    assert isinstance(detail, MaskReference)
    name = ObxValue(
        type="ST", content=f"urn:ausculta:result:{result}#{detail.artefact}", identifier=("MASK", "Mask", LOCAL)
    )
    return [_number(output.value or 0.0, ("1", "fraction of the image", "UCUM")), name]


def _spans(output: Output, _result: str) -> list[ObxValue]:
    detail = output.detail
    assert isinstance(detail, Spans)
    return [
        _number(len(detail.spans)),
        *(_range(span.start, span.end, _CHARACTERS, (span.label, span.label, LOCAL)) for span in detail.spans),
    ]


VALUES: Final[Mapping[OutputKind, Callable[[Output, str], list[ObxValue]]]] = MappingProxyType(
    {
        "score": _quantity,
        "probability": _quantity,
        "category": lambda output, _result: [_band(output)],
        "class-set": _class_set,
        "interval": _interval,
        "time-series": _time_series,
        "mask": _mask,
        "spans": _spans,
    }
)
"""Kind of an output -> its values in OBX."""
