"""Every kind of output is made in one place, and what does not fit its declaration is a fault."""

from datetime import timedelta

import pytest

from inference.contract import ClassSet, Interval, MaskReference, OutputDetail, Span, Spans, TimeSeries
from inference.manifest import Band, OutputSpec
from inference.outputs import make_output
from inference.testing import NOW
from kernel.errors import Category, Problem


def spec(kind: str, *bands: Band) -> OutputSpec:
    return OutputSpec(
        name="x", system="urn:test", code="x", display="X", kind=kind, unit=None, future=False, bands=bands
    )


LEVELS = (Band(name="low", at_least=0), Band(name="high", at_least=0.5))
CLASSES = (Band(name="cat", at_least=None), Band(name="dog", at_least=None))


@pytest.mark.parametrize(
    ("declared", "value", "detail", "headline", "band", "words"),
    [
        (spec("score", *LEVELS), 3.0, None, 3.0, "high", "3 (high)"),
        (spec("probability", *LEVELS), 0.25, None, 0.25, "low", "25 % (low)"),
        (
            spec("class-set", *CLASSES),
            None,
            ClassSet(probabilities=(("cat", 0.3), ("dog", 0.7))),
            0.7,
            "dog",
            "dog 70 %, cat 30 %",
        ),
        (
            spec("interval", *LEVELS),
            0.6,
            Interval(low=0.4, high=0.9, coverage=0.9),
            0.6,
            "high",
            "0.6 (90 % interval 0.4 to 0.9), high",
        ),
        (
            spec("time-series", *LEVELS),
            None,
            TimeSeries(times=(NOW, NOW + timedelta(hours=1)), values=(0.9, 0.1)),
            0.1,
            "low",
            "last 0.1, highest 0.9 at 2026-01-15 12:00 UTC (low)",
        ),
        (spec("mask", *LEVELS), 0.75, MaskReference(artefact="lungs"), 0.75, "high", "75 % of the image (high)"),
        (
            spec("spans", *LEVELS),
            None,
            Spans(spans=(Span(start=0, end=4, label="drug"),)),
            1.0,
            "high",
            "1 passage: 1 drug (high)",
        ),
    ],
)
def test_each_kind_has_a_value_and_a_band(
    declared: OutputSpec, value: float | None, detail: OutputDetail | None, headline: float, band: str, words: str
) -> None:
    output = make_output(declared, value, detail=detail, notice="Notice.")
    assert (output.kind, output.value, output.band, output.detail) == (declared.kind, headline, band, detail)
    assert output.text == f"Notice. X: {words}."


def test_a_category_is_its_band_alone() -> None:
    output = make_output(spec("category", *CLASSES), band="cat", notice="Notice.")
    assert (output.value, output.text) == (None, "Notice. X: cat.")


@pytest.mark.parametrize(
    ("declared", "value", "detail", "band"),
    [
        (spec("score", *LEVELS), 1.0, None, "huge"),
        (spec("score", *LEVELS), -1.0, None, None),
        (spec("score", *LEVELS), None, None, None),
        (spec("score", *LEVELS), 1.0, MaskReference(artefact="lungs"), None),
        (spec("interval", *LEVELS), 1.0, None, None),
        (spec("interval", *LEVELS), 1.0, Interval(low=2.0, high=1.0, coverage=0.9), None),
        (spec("time-series", *LEVELS), None, TimeSeries(times=(), values=()), None),
        (spec("class-set", *CLASSES), None, ClassSet(probabilities=(("bird", 1.0),)), None),
    ],
)
def test_what_does_not_fit_its_declaration_is_a_fault(
    declared: OutputSpec, value: float | None, detail: OutputDetail | None, band: str | None
) -> None:
    with pytest.raises(Problem) as refused:
        make_output(declared, value, detail=detail, band=band, notice="Notice.")
    assert refused.value.category is Category.FAULT
