"""Pixels for imaging models: one image, or the slices of one series as a volume."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dicom_node.acquisition import acquired_at
from dicom_node.encoding import open_file
from dicom_node.pixels import Picture, picture, rescaled
from dicom_node.study import Instance, Series
from kernel.errors import Category, Problem

Vector3: TypeAlias = tuple[float, float, float]

MOST_VOXELS: Final = 768 * 1024 * 1024
"""Largest slices x rows x columns that is read: 2,900 slices of 512 x 512."""

_UNEVEN: Final = 0.02
"""How far one gap between slices may differ from the median gap, as a part of it."""


@dataclass(frozen=True, kw_only=True)
class ImageDescription:
    """What the file states about an image; the fields of ``inference.contract.ImageInput`` beside the pixels."""

    SOPInstanceUID: str
    modality: str
    #: Upper case; empty when not stated.
    body_part: str
    #: Upper case; empty when not stated.
    view: str
    acquired_at: datetime | None


def load_image(content: bytes, *, zone: tzinfo = UTC) -> tuple[Picture, ImageDescription]:
    """Read one image from a DICOM file.

    Parameters
    ----------
    content
        DICOM file format (PS3.10).
    zone
        Time zone of dates in files that do not state their own.

    Returns
    -------
    Picture
        float32 (rows, columns) in [0, 1], bright = dense.
    ImageDescription
        What the file states about it.

    Raises
    ------
    Problem
        ``incorrect`` or ``unsupported``, with the reason.
    """
    dataset = open_file(content)
    description = ImageDescription(
        SOPInstanceUID=str(dataset.get("SOPInstanceUID", "")),
        modality=str(dataset.get("Modality") or ""),
        body_part=str(dataset.get("BodyPartExamined") or "").upper(),
        view=str(dataset.get("ViewPosition") or "").upper(),
        acquired_at=acquired_at(dataset, zone),
    )
    return picture(dataset), description


@dataclass(frozen=True, kw_only=True)
class Volume:
    """The slices of one series; the fields of ``inference.contract.VolumeInput`` that come from the files."""

    #: float32 (slices, rows, columns) after RescaleSlope and RescaleIntercept: Hounsfield units for CT.
    voxels: NDArray[np.float32]
    #: Millimetres between the centres of neighbouring slices, rows and columns.
    spacing: Vector3
    #: Unit vectors (LPS) along increasing slice, row and column index.
    orientation: tuple[Vector3, Vector3, Vector3]
    #: Centre of the first voxel (LPS), millimetres.
    origin: Vector3
    acquired_at: datetime | None


def load_volume(series: Series, open_instance: Callable[[str], bytes], *, zone: tzinfo = UTC) -> Volume:
    """Read the slices of a series, one file at a time.

    Slices are sorted by ImagePositionPatient along the normal of ImageOrientationPatient (PS3.3 C.7.6.2.1.1).

    Parameters
    ----------
    series
        Single-frame slices.
    open_instance
        SOPInstanceUID -> DICOM file (PS3.10).
    zone
        Time zone of dates in files that do not state their own.

    Returns
    -------
    Volume
        With its geometry.

    Raises
    ------
    Problem
        ``unsupported`` when the slices are not parallel, of one size and equally spaced; ``incorrect`` when a slice
        cannot be read.
    """
    slices, spacing, orientation = _geometry(series)
    voxels = np.empty((len(slices), slices[0].Rows, slices[0].Columns), dtype=np.float32)
    acquired = None
    for index, instance in enumerate(slices):
        dataset = open_file(open_instance(instance.SOPInstanceUID))
        if index == 0:
            acquired = acquired_at(dataset, zone)
        values = rescaled(dataset)
        if values.shape != voxels.shape[1:]:
            raise Problem(Category.UNSUPPORTED, "the slices of the series are not of one size")
        voxels[index] = values
    assert slices[0].ImagePositionPatient is not None  # checked by _geometry
    return Volume(
        voxels=voxels,
        spacing=spacing,
        orientation=orientation,
        origin=slices[0].ImagePositionPatient,
        acquired_at=acquired,
    )


def slices_in_order(series: Series) -> tuple[Instance, ...]:
    """Return the slices of a series in the order of :func:`load_volume`; raises ``unsupported`` as it does."""
    return tuple(_geometry(series)[0])


def _geometry(series: Series) -> tuple[list[Instance], Vector3, tuple[Vector3, Vector3, Vector3]]:
    """Return the slices in order, the spacing and the orientation, from the headers alone."""
    first = series.instances[0]
    positions = [one.ImagePositionPatient for one in series.instances]
    if first.ImageOrientationPatient is None or first.PixelSpacing is None or None in positions:
        raise Problem(Category.UNSUPPORTED, "the slices of the series do not state their position")
    shapes = {(one.Rows, one.Columns, one.PixelSpacing) for one in series.instances}
    axes = [one.ImageOrientationPatient or (0.0,) * 6 for one in series.instances]
    if len(shapes) > 1 or not np.allclose(axes, axes[0], atol=1e-4):
        raise Problem(Category.UNSUPPORTED, "the slices of the series are not parallel and of one size")
    if first.Rows * first.Columns * len(series.instances) > MOST_VOXELS:
        raise Problem(Category.UNSUPPORTED, "the series is too large to be read as a volume")
    along_row, along_column = np.array(axes[0][:3]), np.array(axes[0][3:])
    normal = np.cross(along_row, along_column)
    depths = np.array(positions, dtype=np.float64) @ normal
    order = np.argsort(depths, kind="stable")
    gap = _gap(depths[order], first)
    orientation = _vector(normal), _vector(along_column), _vector(along_row)
    row_gap, column_gap = first.PixelSpacing
    return [series.instances[index] for index in order], (gap, row_gap, column_gap), orientation


def _gap(depths: NDArray[np.float64], first: Instance) -> float:
    """Return the distance between neighbouring slices; SliceThickness where there is only one slice."""
    if len(depths) == 1:
        return first.SliceThickness or 1.0
    gaps = np.diff(depths)
    gap = float(np.median(gaps))
    if gap <= 0 or np.abs(gaps - gap).max() > _UNEVEN * gap:
        raise Problem(Category.UNSUPPORTED, "the slices of the series are not equally spaced")
    return gap


def _vector(values: Sequence[float] | NDArray[np.float64]) -> Vector3:
    x, y, z = (float(value) for value in values)
    return x, y, z
