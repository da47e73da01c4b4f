"""What an output says in FHIR R4, by its kind: in an Observation, and in the predictions of a RiskAssessment.

The headline of every output is ``value[x]``, so that a reader who takes no components still has the value. Components
hold the rest.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

from fhir_adapter.results.common import RESULT_SYSTEM, concept, number, when
from fhir_adapter.store.document import Json
from inference.bands import codes_of
from inference.contract import ClassSet, Interval, MaskReference, Output, OutputKind, Spans, TimeSeries
from inference.wording import coverage, unit_in_words

_UCUM: Final = "http://unitsofmeasure.org"
_RISK: Final = "http://terminology.hl7.org/CodeSystem/risk-probability"
_CHARACTERS: Final = "{characters}"


def value_of(output: Output, result: str) -> Json:
    """Return ``value[x]`` and, where the kind has them, ``component`` and ``effectivePeriod`` of an Observation.

    Parameters
    ----------
    output
        The output.
    result
        The result's id, by which an artefact is named.
    """
    return _category(output, result) if output.value is None else OBSERVATIONS[output.kind](output, result)


def predictions_of(output: Output) -> list[Json]:
    """Return the predictions that a RiskAssessment makes of an output; a class set makes one for each class."""
    return _qualitative(output) if output.value is None else PREDICTIONS[output.kind](output)


def _quantity(value: float, unit: str | None) -> Json:
    code = unit or "1"
    return {"value": number(value), "unit": code.strip("{}"), "system": _UCUM, "code": code}


def _probability_quantity(value: float) -> Json:
    return {"value": number(value), "unit": "probability (0 to 1)", "system": _UCUM, "code": "1"}


def _score(output: Output, _result: str) -> Json:
    return _measured(output, output.unit or "{score}")


def _measured(output: Output, unit: str | None) -> Json:
    return {"valueQuantity": _quantity(output.value or 0.0, unit)}


def _probability(output: Output, _result: str) -> Json:
    return {"valueQuantity": _probability_quantity(output.value or 0.0)}


def _category(output: Output, _result: str) -> Json:
    return {"valueCodeableConcept": {"text": output.band}}


def _class_set(output: Output, result: str) -> Json:
    detail = output.detail
    assert isinstance(detail, ClassSet)
    return _category(output, result) | {
        "component": [
            {"code": {"text": name}, "valueQuantity": _probability_quantity(probability)}
            for name, probability in detail.probabilities
        ]
    }


def _interval(output: Output, _result: str) -> Json:
    detail = output.detail
    assert isinstance(detail, Interval)
    limits = {"low": _quantity(detail.low, output.unit), "high": _quantity(detail.high, output.unit)}
    return _measured(output, output.unit) | {
        "component": [{"code": {"text": coverage(detail)}, "valueRange": limits}],
    }


def _time_series(output: Output, _result: str) -> Json:
    detail = output.detail
    assert isinstance(detail, TimeSeries)
    step = _step(detail)
    effective = {"effectivePeriod": {"start": when(detail.times[0]), "end": when(detail.times[-1])}}
    if step is None:
        component = [
            {"code": {"text": when(time)}, "valueQuantity": _quantity(value, output.unit)}
            for time, value in zip(detail.times, detail.values, strict=True)
        ]
    else:
        origin = _quantity(0, output.unit)
        sampled: dict[str, Any] = {"origin": origin, "period": step / timedelta(milliseconds=1), "dimensions": 1}
        sampled["period"] = number(sampled["period"])
        sampled["data"] = " ".join(f"{value:.6g}" for value in detail.values)
        component = [{"code": {"text": "Time series"}, "valueSampledData": sampled}]
    return effective | _measured(output, output.unit) | {"component": component}


def _step(series: TimeSeries) -> timedelta | None:
    """Return the time between two values; None when it is not always the same, or there is one value alone."""
    steps = {later - earlier for earlier, later in pairwise(series.times)}
    return steps.pop() if len(steps) == 1 else None


def _mask(output: Output, result: str) -> Json:
    detail = output.detail
    assert isinstance(detail, MaskReference)
    share = _quantity(output.value or 0.0, "1") | {"unit": "fraction of the image (0 to 1)"}
    name = f"{RESULT_SYSTEM}:{result}#{detail.artefact}"
    return {"valueQuantity": share, "component": [{"code": {"text": "Mask"}, "valueString": name}]}


def _spans(output: Output, _result: str) -> Json:
    detail = output.detail
    assert isinstance(detail, Spans)
    components = [
        {
            "code": {"text": span.label},
            "valueRange": {"low": _quantity(span.start, _CHARACTERS), "high": _quantity(span.end, _CHARACTERS)},
        }
        for span in detail.spans
    ]
    return {"valueInteger": len(detail.spans)} | ({"component": components} if components else {})


OBSERVATIONS: Final[Mapping[OutputKind, Callable[[Output, str], Json]]] = MappingProxyType(
    {
        "score": _score,
        "probability": _probability,
        "category": _category,
        "class-set": _class_set,
        "interval": _interval,
        "time-series": _time_series,
        "mask": _mask,
        "spans": _spans,
    }
)
"""Kind of an output -> what an Observation says of it."""


def _qualitative(output: Output) -> list[Json]:
    return [_prediction(concept(output), {}, output.band, output.text)]


def _likely(output: Output) -> list[Json]:
    probability = {"probabilityDecimal": number((output.value or 0.0) * 100)}
    return [_prediction(concept(output), probability, output.band, output.text)]


def _each_class(output: Output) -> list[Json]:
    detail = output.detail
    assert isinstance(detail, ClassSet)
    return [
        _prediction(
            concept(output) | {"text": f"{output.display}: {name}"},
            {"probabilityDecimal": number(probability * 100)},
            name,
            output.text,
        )
        for name, probability in detail.probabilities
    ]


def _range(output: Output) -> list[Json]:
    """State the range as ``probabilityRange`` where it is one of probabilities: without a unit, within 0 and 1."""
    detail = output.detail
    assert isinstance(detail, Interval)
    if unit_in_words(output.unit) or not 0 <= detail.low <= detail.high <= 1:
        return _qualitative(output)
    limits = {"low": _quantity(detail.low * 100, "%"), "high": _quantity(detail.high * 100, "%")}
    return [_prediction(concept(output), {"probabilityRange": limits}, output.band, output.text)]


def _prediction(outcome: Json, probability: Json, band: str, rationale: str) -> Json:
    risk = codes_of(band).risk
    coding = {"coding": [{"system": _RISK, "code": risk[0], "display": risk[1]}]} if risk else {}
    return {"outcome": outcome, **probability, "qualitativeRisk": coding | {"text": band}, "rationale": rationale}


PREDICTIONS: Final[Mapping[OutputKind, Callable[[Output], list[Json]]]] = MappingProxyType(
    {
        "score": _qualitative,
        "probability": _likely,
        "category": _qualitative,
        "class-set": _each_class,
        "interval": _range,
        "time-series": _qualitative,
        "mask": _qualitative,
        "spans": _qualitative,
    }
)
"""Kind of an output -> what a RiskAssessment says of it; a kind without a probability is stated by its band."""
