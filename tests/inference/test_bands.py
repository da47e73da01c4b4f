"""One table of bands and one sentence of refusal serve every protocol."""

import pytest

from inference.bands import BANDS, BandCodes, codes_of, gravities
from inference.folder import bundled_folder, open_folder
from inference.models import MODELS
from inference.wording import refusal


def test_every_band_of_a_bundled_model_is_in_the_table() -> None:
    for name in MODELS:
        for output in open_folder(bundled_folder(name)).manifest.outputs:
            assert {band.name for band in output.bands} <= set(BANDS)


def test_a_band_that_is_not_in_the_table_has_no_code() -> None:
    assert codes_of("purple") == BandCodes()


@pytest.mark.parametrize(
    ("bands", "expected"),
    [
        (["negative", "positive"], [0, 3]),
        (["low", "low-medium", "medium", "high"], [0, 1, 2, 3]),
        (["calm", "uneasy", "grave"], [0, 2, 3]),
        (["only"], [0]),
    ],
)
def test_gravity_rises_with_the_bands(bands: list[str], expected: list[int]) -> None:
    assert gravities(bands) == expected


def test_a_refusal_is_one_sentence() -> None:
    assert refusal("the model was stopped") == "AI result not available: the model was stopped"
