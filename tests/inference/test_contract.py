"""Records check their values, and a result's id depends on the model and its inputs."""

from dataclasses import FrozenInstanceError, replace
from datetime import datetime

import numpy as np
import pytest

from inference.contract import FactsInput, NotAvailable, Prediction, result_id
from inference.testing import ADULT, NOW, fact, radiograph, toy_folder

MODEL = toy_folder().identity("active")
PREDICTION = Prediction(model=MODEL, subject=ADULT, outputs=(), inputs=(), input_versions=("a", "b"), at=NOW)
DECLINED = NotAvailable(
    model=MODEL, subject=ADULT, kind="declined", reason="r", missing=(), inputs=(), input_versions=("a", "b"), at=NOW
)


def test_records_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        PREDICTION.at = NOW  # type: ignore[misc]


def test_times_without_a_zone_are_refused() -> None:
    with pytest.raises(ValueError, match="at must carry a time zone"):
        FactsInput(subject=ADULT, facts=(), at=datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test
    with pytest.raises(ValueError, match="effective must carry a time zone"):
        replace(fact("1", "1", None), effective=datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test


def test_pixels_must_be_one_image() -> None:
    with pytest.raises(ValueError, match=r"\(rows, columns\)"):
        radiograph(pixels=np.zeros((2, 3, 4), dtype=np.float32))


def test_the_same_inputs_give_the_same_id_in_any_order_and_at_any_time() -> None:
    again = replace(PREDICTION, input_versions=("b", "a"), at=NOW.replace(year=2027))
    assert result_id(again) == result_id(PREDICTION)
    assert len(result_id(PREDICTION)) == 64


@pytest.mark.parametrize(
    "other",
    [
        replace(PREDICTION, input_versions=("a",)),
        replace(PREDICTION, subject=replace(ADULT, reference="Patient/other")),
        replace(PREDICTION, model=replace(MODEL, name="n")),
        replace(PREDICTION, model=replace(MODEL, version="2.0.0")),
        replace(PREDICTION, model=replace(MODEL, digest="1")),
        DECLINED,
        replace(DECLINED, kind="failed"),
    ],
)
def test_another_input_or_model_has_another_result_id(other: Prediction | NotAvailable) -> None:
    assert result_id(other) != result_id(PREDICTION)


def test_each_kind_of_refusal_has_its_own_result_id() -> None:
    names = {result_id(replace(DECLINED, kind=kind)) for kind in ("declined", "failed", "stopped")}
    assert len(names) == 3
