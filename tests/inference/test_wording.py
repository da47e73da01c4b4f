"""Each kind of output in one line, the same in every protocol."""

from datetime import timedelta

import pytest

from inference.contract import Spans, TimeSeries
from inference.testing import NOW, output_of_each_kind
from inference.wording import LINES, figure, line, line_of, percent

OUTPUTS = output_of_each_kind()

WORDS = {
    "score": "7 (high)",
    "probability": "87.3 % (high)",
    "category": "high",
    "class-set": "high 71 %, low 20 %, other 9 %",
    "interval": "12.3 h (90 % interval 8.1 to 19), high",
    "time-series": "last 0.42 mg/dL, highest 0.77 mg/dL at 2026-01-15 13:00 UTC (high)",
    "mask": "12.4 % of the image (high)",
    "spans": "2 passages: 1 dose, 1 drug (high)",
}


@pytest.mark.parametrize("kind", WORDS)
def test_each_kind_has_words_of_its_own(kind: str) -> None:
    assert line_of(OUTPUTS[kind]) == WORDS[kind]


def test_every_kind_is_listed() -> None:
    assert set(LINES) == set(OUTPUTS) == set(WORDS)


def test_a_unit_is_shown_and_points_have_none() -> None:
    assert line("score", 2.5, unit="mmol/L", band="low", detail=None) == "2.5 mmol/L (low)"
    assert line("score", 2.0, unit="{score}", band="low", detail=None) == "2 (low)"


def test_no_passage_is_said_as_well() -> None:
    assert line("spans", 0.0, unit=None, band="none", detail=Spans(spans=())) == "0 passages (none)"


def test_the_first_of_equal_values_is_the_highest() -> None:
    series = TimeSeries(times=(NOW, NOW + timedelta(hours=1)), values=(1.0, 1.0))
    said = line("time-series", 1.0, unit=None, band="low", detail=series)
    assert said == "last 1, highest 1 at 2026-01-15 12:00 UTC (low)"


@pytest.mark.parametrize(
    ("value", "shown"), [(7.0, "7"), (-0.5, "-0.5"), (123456.7, "123457"), (0.00001, "0.000010"), (19.03, "19.03")]
)
def test_a_number_is_written_plainly(value: float, shown: str) -> None:
    assert figure(value) == shown


def test_a_share_is_written_in_per_cent() -> None:
    assert [percent(share) for share in (0.0, 0.5, 0.1234, 1.0)] == ["0 %", "50 %", "12.3 %", "100 %"]
