"""Resources as text: every valid one can be shown, and its digits do not change."""

import pytest

from fhir_adapter.store.document import exact_values
from service.console import reading


def observation(**parts: object) -> dict[str, object]:
    return {"resourceType": "Observation", "code": {"text": "Thing"}} | parts


@pytest.mark.parametrize(
    ("holder", "shown"),
    [
        ({"valueQuantity": {"value": 7, "unit": "mmol/L"}}, ("7", "mmol/L")),
        ({"valueQuantity": {"value": 7, "comparator": "<", "code": "mg"}}, ("<7", "mg")),
        ({"valueQuantity": {"value": 7, "unit": "score", "code": "{score}"}}, ("7", "")),
        ({"valueCodeableConcept": {"coding": [{"code": "c", "display": "Alert"}]}}, ("Alert", "")),
        ({"valueRange": {"low": {"value": 8.1, "unit": "h"}, "high": {"value": 19}}}, ("8.1 to 19", "h")),
        ({"valueSampledData": {"origin": {"value": 0, "unit": "mg"}, "data": "1 2"}}, ("1 2", "mg")),
        ({"valueString": "text"}, ("text", "")),
        ({"valueBoolean": True}, ("true", "")),
        ({"dataAbsentReason": {"text": "refused"}}, ("absent: refused", "")),
        ({}, ("", "")),
    ],
)
def test_a_value_of_any_kind_is_shown(holder: dict[str, object], shown: tuple[str, str]) -> None:
    assert reading.value_of(holder) == shown


def test_a_value_keeps_every_digit() -> None:
    content = exact_values(b'{"valueQuantity": {"value": 1.10, "unit": "mg"}}')
    assert reading.value_of(content) == ("1.10", "mg")


def test_a_panel_shows_each_of_its_components() -> None:
    panel = observation(
        code={"text": "Blood pressure"},
        component=[
            {"code": {"text": "systolic"}, "valueQuantity": {"value": 120, "unit": "mmHg"}},
            {"code": {"text": "diastolic"}, "valueQuantity": {"value": 80, "unit": "mmHg"}},
        ],
    )
    shown = list(reading.inputs("Observation/1/_history/2", panel))
    assert [(entry.name, entry.value) for entry in shown] == [
        ("Blood pressure: systolic", "120"),
        ("Blood pressure: diastolic", "80"),
    ]
    assert {entry.link for entry in shown} == {"/fhir/Observation/1/_history/2"}


def test_an_input_that_is_not_a_resource_has_no_link() -> None:
    (shown,) = reading.inputs("urn:oid:1.2.3#abc", None)
    assert (shown.name, shown.source, shown.link) == ("DICOM instance", "urn:oid:1.2.3#abc", None)


def test_a_risk_without_an_observation_is_shown() -> None:
    prediction = {"outcome": {"text": "Sepsis"}, "probabilityDecimal": 12, "qualitativeRisk": {"text": "low"}}
    (found,) = reading.findings([{"resourceType": "RiskAssessment", "prediction": [prediction]}])
    assert (found.title, found.value, found.unit, found.band) == ("Sepsis", "12", "%", "low")


def test_a_refusal_has_no_finding() -> None:
    assert reading.findings([observation(dataAbsentReason={"text": "AI result not available: stopped"})]) == ()
