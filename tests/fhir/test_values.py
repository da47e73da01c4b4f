"""Each kind of output as R4: valid, with its headline in value[x] and the rest in components."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from fhir_adapter.results import resources_for
from fhir_adapter.results.values import OBSERVATIONS, PREDICTIONS
from fhir_adapter.store import document
from fhir_adapter.store.validate import Validator
from inference.contract import Interval, Output, Prediction, TimeSeries, result_id
from inference.testing import NOW, output_of_each_kind

from .outcomes import IMAGING, PLAIN, READING, RISK

NOW_KINDS, FUTURE_KINDS = output_of_each_kind(), output_of_each_kind(future=True)


def built(output: Output, resource: str, outcome: Prediction = RISK) -> dict[str, Any]:
    resources = resources_for(replace(outcome, outputs=(output,)), PLAIN)
    (found,) = [one for one in resources if one["resourceType"] == resource]
    return found


def test_every_kind_is_listed() -> None:
    assert set(OBSERVATIONS) == set(PREDICTIONS) == set(NOW_KINDS)


@pytest.mark.parametrize("kind", NOW_KINDS)
@pytest.mark.parametrize("future", [False, True])
def test_every_resource_of_every_kind_is_valid_r4(kind: str, *, future: bool) -> None:
    output = (FUTURE_KINDS if future else NOW_KINDS)[kind]
    outcome, context = (RISK, PLAIN) if future else (READING, IMAGING)
    for resource in resources_for(replace(outcome, outputs=(output,)), context):
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)
        Validator().check(document.of(resource))


def components(observation: dict[str, Any]) -> dict[str, Any]:
    return {
        part["code"]["text"]: next(value for name, value in part.items() if name.startswith("value"))
        for part in observation["component"]
    }


def test_a_category_is_a_concept() -> None:
    assert built(NOW_KINDS["category"], "Observation")["valueCodeableConcept"] == {"text": "high"}


def test_a_class_set_names_the_likeliest_class_and_has_a_component_for_each() -> None:
    observation = built(NOW_KINDS["class-set"], "Observation")
    assert observation["valueCodeableConcept"] == {"text": "high"}
    found = {name: quantity["value"] for name, quantity in components(observation).items()}
    assert found == {"low": 0.2, "high": 0.71, "other": 0.09}


def test_a_class_set_of_the_future_makes_a_prediction_for_each_class() -> None:
    predictions = built(FUTURE_KINDS["class-set"], "RiskAssessment")["prediction"]
    found = [(one["qualitativeRisk"]["text"], one["probabilityDecimal"]) for one in predictions]
    assert found == [("low", 20), ("high", 71), ("other", 9)]


def test_an_interval_has_its_estimate_and_its_range() -> None:
    observation = built(NOW_KINDS["interval"], "Observation")
    assert (observation["valueQuantity"]["value"], observation["valueQuantity"]["code"]) == (12.3, "h")
    limits = components(observation)["90 % interval"]
    assert [(limits[end]["value"], limits[end]["unit"]) for end in ("low", "high")] == [(8.1, "h"), (19, "h")]
    assert "probabilityRange" not in built(FUTURE_KINDS["interval"], "RiskAssessment")["prediction"][0]


def test_an_interval_of_a_probability_is_a_probability_range_in_per_cent() -> None:
    detail = Interval(low=0.1, high=0.4, coverage=0.95)
    output = replace(FUTURE_KINDS["interval"], value=0.2, unit=None, detail=detail)
    assessment = built(output, "RiskAssessment")
    limits = assessment["prediction"][0]["probabilityRange"]
    assert [(limits[end]["value"], limits[end]["code"]) for end in ("low", "high")] == [(10, "%"), (40, "%")]
    Validator().check(document.of(assessment))


def test_equidistant_values_are_sampled_data_over_their_period() -> None:
    observation = built(NOW_KINDS["time-series"], "Observation")
    assert observation["valueQuantity"]["value"] == 0.42
    sampled = components(observation)["Time series"]
    assert (sampled["period"], sampled["dimensions"], sampled["data"]) == (3_600_000, 1, "0.5 0.77 0.42")
    assert observation["effectivePeriod"] == {"start": "2026-01-15T12:00:00.000Z", "end": "2026-01-15T14:00:00.000Z"}
    assert "effectiveDateTime" not in observation


@pytest.mark.parametrize("hours", [(0,), (0, 1, 3)])
def test_other_values_have_a_component_for_each_time(hours: tuple[int, ...]) -> None:
    times = tuple(NOW + timedelta(hours=hour) for hour in hours)
    series = TimeSeries(times=times, values=tuple(float(hour) for hour in hours))
    output = replace(NOW_KINDS["time-series"], value=series.values[-1], detail=series)
    observation = built(output, "Observation")
    assert [quantity["value"] for quantity in components(observation).values()] == list(hours)
    assert next(iter(components(observation))) == "2026-01-15T12:00:00.000Z"
    Validator().check(document.of(observation))


def test_a_mask_is_a_fraction_that_names_its_artefact() -> None:
    outcome = replace(RISK, outputs=(NOW_KINDS["mask"],))
    observation = built(NOW_KINDS["mask"], "Observation")
    assert observation["valueQuantity"]["value"] == 0.124
    assert components(observation)["Mask"] == f"urn:ausculta:result:{result_id(outcome)}#lesion"


def test_spans_are_counted_and_have_their_offsets() -> None:
    observation = built(NOW_KINDS["spans"], "Observation")
    assert observation["valueInteger"] == 2
    found = {name: (place["low"]["value"], place["high"]["value"]) for name, place in components(observation).items()}
    assert found == {"drug": (0, 4), "dose": (9, 12)}
