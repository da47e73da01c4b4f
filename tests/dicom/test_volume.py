"""A series becomes a volume: slices in spatial order, one file open at a time, in the modality's unit."""

from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite

from dicom_node.study import Series, describe
from dicom_node.synthesise import ChestXRay, chest_x_ray
from dicom_node.volume import load_volume
from kernel.errors import Category, Problem

#: Heights of the slices, in the order of their SOPInstanceUIDs: not their spatial order.
HEIGHTS = (5.0, 0.0, 10.0)


def slice_at(number: int, height: float) -> tuple[str, bytes]:
    dataset = dcmread(BytesIO(chest_x_ray(ChestXRay(rows=4, columns=6, instance=number))))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number}"
    dataset.Modality = "CT"
    dataset.ImagePositionPatient = [-10.0, -20.0, height]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [0.5, 0.25]
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = np.full((4, 6), int(height), dtype=np.uint16).tobytes()
    file = BytesIO()
    dcmwrite(file, dataset)
    return f"1.2.{number}", file.getvalue()


def series_of(files: dict[str, bytes]) -> Series:
    (series,) = describe(iter(files.items())).series
    return series


def test_slices_are_sorted_along_the_normal_and_rescaled() -> None:
    files = dict(slice_at(number, height) for number, height in enumerate(HEIGHTS))
    volume = load_volume(series_of(files), files.__getitem__)
    assert volume.voxels.shape == (3, 4, 6)
    assert volume.voxels[:, 0, 0].tolist() == [-1024.0, -1019.0, -1014.0]
    assert volume.spacing == (5.0, 0.5, 0.25)
    assert volume.orientation == ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    assert volume.origin == (-10.0, -20.0, 0.0)


def test_each_file_is_opened_once() -> None:
    files = dict(slice_at(number, height) for number, height in enumerate(HEIGHTS))
    opened: list[str] = []

    def open_instance(uid: str) -> bytes:
        opened.append(uid)
        return files[uid]

    load_volume(series_of(files), open_instance)
    assert opened == ["1.2.1", "1.2.0", "1.2.2"]


@pytest.mark.parametrize("heights", [(0.0, 5.0, 12.0), (0.0, 0.0, 5.0)])
def test_slices_that_are_not_equally_spaced_are_refused(heights: tuple[float, ...]) -> None:
    files = dict(slice_at(number, height) for number, height in enumerate(heights))
    with pytest.raises(Problem) as refused:
        load_volume(series_of(files), files.__getitem__)
    assert (refused.value.category, refused.value.detail) == (
        Category.UNSUPPORTED,
        "the slices of the series are not equally spaced",
    )


def test_a_series_without_positions_is_refused() -> None:
    files = {"a": chest_x_ray(ChestXRay(rows=4, columns=4))}
    with pytest.raises(Problem, match="do not state their position"):
        load_volume(series_of(files), files.__getitem__)
