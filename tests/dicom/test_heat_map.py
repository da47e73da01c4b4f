"""The heat map says of its sides and of its maker what is known, and no more."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.results import RESULTS
from dicom_node.synthesise import ChestXRay, chest_x_ray
from inference.contract import Prediction
from inference.testing import heat_map

from .test_results import FOUND


def made(rows: int = 96, columns: int = 80, orientation: list[str] | None = None) -> Dataset:
    source = dcmread(BytesIO(chest_x_ray(ChestXRay(rows=rows, columns=columns))))
    if orientation is None:
        del source.PatientOrientation
    else:
        source.PatientOrientation = orientation
    stream = BytesIO()
    source.save_as(stream)
    outcome: Prediction = replace(FOUND, artefacts=(heat_map(np.zeros((rows, columns), dtype=np.float32)),))
    content = RESULTS["heat-map"](outcome, [stream.getvalue()])  # type: ignore[call-arg]
    assert content
    return dcmread(BytesIO(content))


@pytest.mark.parametrize("orientation", [["L", "F"], ["R", "F"], ["A", "F"], ["P", "H"], ["LF", "FA"]])
def test_the_sides_are_those_of_the_image(orientation: list[str]) -> None:
    assert list(made(orientation=orientation).PatientOrientation) == orientation


def test_an_image_that_does_not_state_its_sides_has_a_heat_map_that_does_not() -> None:
    assert not made(orientation=None).PatientOrientation
    assert not made(orientation=[]).PatientOrientation


@pytest.mark.parametrize(("rows", "columns"), [(96, 80), (128, 128), (512, 512), (2048, 1024), (600, 200)])
def test_the_banner_is_written_in_full(rows: int, columns: int) -> None:
    """Its letters end before the right edge, and there are as many as on a picture that is wide enough."""
    shown = made(rows, columns).pixel_array
    letters = (shown[..., 0] > 200) & (shown[..., 1] > 200) & (shown[..., 2] < 60)
    assert letters.any()
    assert not letters[:, -2:].any()
    wide = made(rows, columns * 12).pixel_array
    all_letters = (wide[..., 0] > 200) & (wide[..., 1] > 200) & (wide[..., 2] < 60)
    assert letters.sum() >= 0.8 * all_letters.sum()
