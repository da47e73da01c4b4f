"""Rows of values that were computed elsewhere are read as the facts of a patient would be."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
import yaml

from inference.contract import RowInput, Subject
from inference.features.extract import compile_features
from inference.features.rows import row_columns
from inference.features.spec import parse_features

AT = datetime(2026, 1, 15, 12, tzinfo=UTC)
FEATURES = """
features:
  - name: lactate
    title: lactate
    window: {take: max, hours: 24}
    missing: {default: 1}
    sources: [{code: 2524-7, unit: mmol/L, plausible: [0.1, 30]}]
    transform: [{clip: [1, 10]}, log]
  - {name: no_lactate, title: without lactate, missing_of: lactate}
  - name: trend
    title: trend
    window: {take: slope, hours: 24}
    missing: nan
    sources: [{code: 2524-7, unit: mmol/L, plausible: [0.1, 30]}]
  - name: alertness
    title: alertness
    window: {take: last}
    missing: nan
    sources: [{code: 67775-7, answers: {alert: [LA1], voice: [LA2]}}]
    one_hot: true
  - {name: diabetes, title: diabetes, conditions: [{system: urn:icd, prefix: [E11]}]}
"""


def read(**row: Decimal | str | None) -> dict[str, Decimal | str | None]:
    specs = parse_features(yaml.safe_load(FEATURES))
    subject = Subject(reference="", birth_date=None, sex=None, identifier=None)
    found = compile_features(specs)(RowInput(subject=subject, facts=(), at=AT, row=row))
    return {name: None if reading is None else reading.value for name, reading in found.readings.items()}


def test_a_row_has_the_features_of_the_file() -> None:
    specs = parse_features(yaml.safe_load(FEATURES))
    assert list(row_columns(specs)) == ["lactate", "trend", "alertness", "diabetes"]


def test_transforms_words_and_indicators_are_made_of_a_row() -> None:
    found = read(lactate=Decimal(20), trend=Decimal("-0.5"), alertness="la2", diabetes=Decimal(1))
    assert found["lactate"] == Decimal("2.30258509299")
    assert found["no_lactate"] == 0
    assert found["trend"] == Decimal("-0.5"), "a slope is not as plausible as a value"
    assert (found["alertness=alert"], found["alertness=voice"]) == (0, 1)
    assert found["diabetes"] == 1


def test_what_a_row_does_not_state_is_missing() -> None:
    found = read()
    assert (found["lactate"], found["no_lactate"], found["trend"]) == (0, 1, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("lactate", Decimal(99)), ("lactate", "high"), ("alertness", "asleep"), ("diabetes", Decimal(3))],
)
def test_a_value_that_cannot_be_used_is_not_used(name: str, value: Decimal | str) -> None:
    assert read(**{name: value}) == read()


@pytest.mark.parametrize(
    ("subject", "value", "is_read"),
    [
        ("age", "0", True),
        ("age", "130", True),
        ("age", "-1", False),
        ("age", "131", False),
        ("sex", "0", True),
        ("sex", "1", True),
        ("sex", "0.5", False),
        ("sex", "-3", False),
    ],
)
def test_what_a_person_cannot_be_is_implausible(subject: str, value: str, is_read: bool) -> None:
    specs = parse_features({"features": [{"name": "of", "title": "of", "subject": subject, "missing": "nan"}]})
    person = Subject(reference="", birth_date=None, sex=None, identifier=None)
    found = compile_features(specs)(RowInput(subject=person, facts=(), at=AT, row={"of": Decimal(value)}))
    reading = found.readings["of"]
    assert (None if reading is None else reading.value) == (Decimal(value) if is_read else None)
