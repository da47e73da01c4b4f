"""NEWS2: Royal College of Physicians, *National Early Warning Score (NEWS) 2*, London, December 2017.

Seven parameters, 0 to 3 points each (supplemental oxygen 0 or 2), 20 points at the most. The bands below are the
chart's; oxygen saturation is scored on scale 1. Scale 2 is for patients whose clinician has documented hypercapnic
respiratory failure with a target of 88-92 %; no measurement shows that, so it is never inferred here.
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from typing import Final

from inference.features.extract import FeatureValue
from inference.runners.score import Score

Bands = tuple[tuple[Decimal | None, int], ...]
"""(greatest value of the band, points), upwards; ``None`` is without limit."""


def _bands(*bands: tuple[str, int], above: int) -> Bands:
    limits = (*((Decimal(greatest), points) for greatest, points in bands), (None, above))
    assert all(low[0] < high[0] for low, high in pairwise(limits[:-1]) if low[0] is not None and high[0] is not None)
    return limits


RESPIRATIONS: Final = _bands(("8", 3), ("11", 1), ("20", 0), ("24", 2), above=3)
SPO2_SCALE_1: Final = _bands(("91", 3), ("93", 2), ("95", 1), above=0)
SYSTOLIC: Final = _bands(("90", 3), ("100", 2), ("110", 1), ("219", 0), above=3)
PULSE: Final = _bands(("40", 3), ("50", 1), ("90", 0), ("110", 1), ("130", 2), above=3)
TEMPERATURE: Final = _bands(("35.0", 3), ("36.0", 1), ("38.0", 0), ("39.0", 1), above=2)

OXYGEN_POINTS: Final = 2
CVPU_POINTS: Final = 3

AIR_PERCENT: Final = Decimal(21)
"""Inspired oxygen up to this is room air."""
GLASGOW_ALERT: Final = Decimal(15)
"""The Glasgow total of a patient who is alert and oriented; below it, C, V, P or U."""

_WHOLE: Final = Decimal(1)
_TENTH: Final = Decimal("0.1")

RESPONSE: Final[Mapping[str, str]] = {
    "low": "Low clinical risk: ward-based response, assessment by a registered nurse.",
    "low-medium": "Low-medium clinical risk: one parameter alone scores 3; urgent ward-based review.",
    "medium": "Medium clinical risk: urgent response, review by a clinician skilled in acute illness within 1 hour.",
    "high": "High clinical risk: emergency response, assessment by a critical care team within 30 minutes.",
}


def score(readings: Mapping[str, FeatureValue | None]) -> tuple[Score, ...]:
    """Score one patient.

    Parameters
    ----------
    readings
        Every feature of ``features.yaml``; none may be ``None``.

    Returns
    -------
    tuple of Score
        The total, 0 to 20.
    """
    given = {name: reading for name, reading in readings.items() if reading is not None}
    parts = (
        _measured("respiratory rate", given["respirations"], RESPIRATIONS, _WHOLE),
        _measured("oxygen saturation (scale 1)", given["oxygen_saturation"], SPO2_SCALE_1, _WHOLE),
        _oxygen(given["oxygen"]),
        _measured("systolic blood pressure", given["systolic"], SYSTOLIC, _WHOLE),
        _measured("pulse", given["pulse"], PULSE, _WHOLE),
        _consciousness(given["consciousness"]),
        _measured("temperature", given["temperature"], TEMPERATURE, _TENTH),
    )
    points = [points for _, points in parts]
    total = sum(points)
    band = risk_band(points)
    arithmetic = "; ".join(f"{words} = {points}" for words, points in parts)
    return (Score(value=float(total), band=band, text=f"NEWS2 {total} of 20. {RESPONSE[band]} Points: {arithmetic}."),)


def risk_band(points: list[int]) -> str:
    """Return the clinical risk of the parameters' points (RCP 2017, "thresholds and triggers")."""
    total = sum(points)
    if total >= 7:
        return "high"
    if total >= 5:
        return "medium"
    return "low-medium" if 3 in points else "low"


def points_of(value: Decimal, bands: Bands, step: Decimal) -> int:
    """Return the points of a value, which is rounded half up to the step of the chart first.

    Without rounding, a value such as 90.5 would lie between two bands.

    Parameters
    ----------
    value
        In the unit of the chart.
    bands
        Bands of the parameter, upwards.
    step
        Smallest difference that the chart distinguishes.
    """
    rounded = value.quantize(step, rounding=ROUND_HALF_UP)
    return next(points for greatest, points in bands if greatest is None or rounded <= greatest)


def _measured(title: str, reading: FeatureValue, bands: Bands, step: Decimal) -> tuple[str, int]:
    value = Decimal(reading.value)
    shown = value.quantize(step, rounding=ROUND_HALF_UP)
    return f"{title} {shown} {reading.unit}", points_of(value, bands, step)


def _oxygen(reading: FeatureValue) -> tuple[str, int]:
    amount = Decimal(reading.value)
    on_air = amount <= AIR_PERCENT if reading.unit == "%" else amount == 0
    return ("room air", 0) if on_air else (f"supplemental oxygen {amount} {reading.unit}", OXYGEN_POINTS)


def _consciousness(reading: FeatureValue) -> tuple[str, int]:
    if isinstance(reading.value, str):
        return f"consciousness {reading.value}", 0 if reading.value == "alert" else CVPU_POINTS
    return f"consciousness by Glasgow total {reading.value}", 0 if reading.value >= GLASGOW_ALERT else CVPU_POINTS
