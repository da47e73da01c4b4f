"""From stored pixels to a picture: modality LUT, then VOI, then MONOCHROME1 inversion, in that order.

DICOM PS3.4 Annex N.2 (the grayscale transformation sequence), PS3.3 C.11.1 (modality LUT), C.11.2 (VOI LUT) and
C.7.6.3.1.2 (photometric interpretation). The picture is float32 in [0, 1], bright = dense, whatever the file chose.
"""

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import pixel_array

from dicom_node.codestream import frame_size
from dicom_node.encoding import open_file
from kernel.errors import Category, Problem

Picture: TypeAlias = NDArray[np.float32]
"""(rows, columns) in [0, 1], bright = dense."""

_Values: TypeAlias = NDArray[np.float64]

MOST_PIXELS: Final = 64 * 1024 * 1024
"""Largest Rows x Columns that is decoded; the largest digital radiographs have some 16 million."""

GREY: Final = ("MONOCHROME1", "MONOCHROME2")


def picture(dataset: Dataset) -> Picture:
    """Render a single-frame grey image.

    Parameters
    ----------
    dataset
        An image, with its file meta information.

    Returns
    -------
    Picture
        float32 (rows, columns) in [0, 1].

    Raises
    ------
    Problem
        ``unsupported`` for colour, several frames or a codec that is not installed; ``incorrect`` for pixels that
        contradict their description.
    """
    _check_geometry(dataset)
    stored = _decode(dataset)
    values, lowest, highest = _modality(stored.astype(np.float64), dataset)
    shown = _voi(values, dataset, lowest, highest)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 1.0 - shown
    return np.ascontiguousarray(np.clip(shown, 0.0, 1.0), dtype=np.float32)


def rescaled(dataset: Dataset) -> NDArray[np.float64]:
    """Decode a single-frame grey image and apply its modality LUT or rescale (PS3.3 C.11.1).

    Parameters
    ----------
    dataset
        An image, with its file meta information.

    Returns
    -------
    array
        float64 (rows, columns) in the modality's unit, Hounsfield units for CT.

    Raises
    ------
    Problem
        As :func:`picture` does.
    """
    _check_geometry(dataset)
    values, _, _ = _modality(_decode(dataset).astype(np.float64), dataset)
    return values


def same_picture(one: bytes, other: bytes) -> bool:
    """Return whether two DICOM files hold the same stored pixels, however they are encoded, or none at all.

    Parameters
    ----------
    one, other
        DICOM file format (PS3.10).
    """
    try:
        first, second = open_file(one), open_file(other)
        if "PixelData" not in first and "PixelData" not in second:
            return True
        if first.PixelData == second.PixelData:
            return True
        return np.array_equal(_decode(first), _decode(second))
    except Exception:  # noqa: BLE001 - what cannot be compared is not known to be the same
        return False


def _check_geometry(dataset: Dataset) -> None:
    """Refuse, before memory is allocated, everything except one plausible grey frame."""
    if "PixelData" not in dataset:
        raise Problem(Category.INCORRECT, "the instance holds no pixels")
    frames = _integer(dataset, "NumberOfFrames", default=1)
    if frames != 1:
        raise Problem(Category.UNSUPPORTED, "the image has several frames")
    grey = dataset.get("PhotometricInterpretation") in GREY
    if not grey or _integer(dataset, "SamplesPerPixel", default=1) != 1:
        raise Problem(Category.UNSUPPORTED, "the image is in colour")
    rows, columns = _integer(dataset, "Rows"), _integer(dataset, "Columns")
    allocated, stored = _integer(dataset, "BitsAllocated"), _integer(dataset, "BitsStored")
    if rows < 1 or columns < 1 or rows * columns > MOST_PIXELS:
        raise Problem(Category.INCORRECT, "the image's size is implausible")
    if allocated not in {8, 16} or not 1 <= stored <= allocated:
        raise Problem(Category.UNSUPPORTED, "the image's pixels are neither of 8 nor of 16 bits")
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        if len(dataset.PixelData) < rows * columns * allocated // 8:
            raise Problem(Category.INCORRECT, "the image holds fewer pixels than it says")
        return
    try:
        size = frame_size(get_frame(dataset.PixelData, 0, number_of_frames=1))
    except Exception as failure:
        raise Problem(Category.INCORRECT, "the compressed pixels are damaged", diagnostics=repr(failure)) from failure
    if size not in {None, (rows, columns)}:
        raise Problem(Category.INCORRECT, "the compressed image is not of the size that it says")


def _decode(dataset: Dataset) -> NDArray[Any]:
    try:
        decoded: NDArray[Any] = pixel_array(dataset)
    except (NotImplementedError, RuntimeError) as failure:
        detail = "the image's pixels cannot be decoded here"
        raise Problem(Category.UNSUPPORTED, detail, diagnostics=repr(failure)) from failure
    except Exception as failure:
        raise Problem(Category.INCORRECT, "the image's pixels are damaged", diagnostics=repr(failure)) from failure
    if decoded.ndim != 2:
        raise Problem(Category.UNSUPPORTED, "the image is not one grey frame")
    return decoded


def _modality(values: _Values, dataset: Dataset) -> tuple[_Values, float, float]:
    """Apply the modality LUT or rescale (PS3.3 C.11.1); returns the values and the range that they can have."""
    if dataset.get("ModalityLUTSequence"):
        return _look_up(values, dataset.ModalityLUTSequence[0])
    slope, intercept = _number(dataset, "RescaleSlope", 1.0), _number(dataset, "RescaleIntercept", 0.0)
    signed = _integer(dataset, "PixelRepresentation", default=0) == 1
    bits = _integer(dataset, "BitsStored")
    ends = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    lowest, highest = sorted(end * slope + intercept for end in ends)
    if slope == 0:
        raise Problem(Category.INCORRECT, "RescaleSlope is zero")
    return values * slope + intercept, lowest, highest


def _voi(values: _Values, dataset: Dataset, lowest: float, highest: float) -> _Values:
    """Apply the first VOI LUT, or else the first window, or else nothing (PS3.3 C.11.2); returns [0, 1]."""
    if dataset.get("VOILUTSequence"):
        values, lowest, highest = _look_up(values, dataset.VOILUTSequence[0])
    elif _is_given(dataset, "WindowWidth") and _is_given(dataset, "WindowCenter"):
        return window(
            values,
            centre=_number(dataset, "WindowCenter", 0.0),
            width=_number(dataset, "WindowWidth", 0.0),
            function=str(dataset.get("VOILUTFunction") or "LINEAR"),
        )
    return (values - lowest) / (highest - lowest)


def window(values: _Values, *, centre: float, width: float, function: str) -> _Values:
    """Apply a window (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Parameters
    ----------
    values
        Output of the modality LUT.
    centre, width
        WindowCenter and WindowWidth, in the unit of ``values``.
    function
        VOILUTFunction: LINEAR, LINEAR_EXACT or SIGMOID.

    Returns
    -------
    array
        In [0, 1].

    Raises
    ------
    Problem
        ``incorrect`` for a width that the standard forbids, ``unsupported`` for another function.
    """
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise Problem(Category.INCORRECT, "WindowWidth is too small")
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (values - centre) / width)))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0.0, 1.0)
    if function != "LINEAR":
        raise Problem(Category.UNSUPPORTED, "the VOI LUT function is unknown")
    if width == 1:
        return np.asarray(values > centre - 0.5, dtype=np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0)


def _look_up(values: _Values, item: Dataset) -> tuple[_Values, float, float]:
    """Map values through a lookup table (PS3.3 C.11.1.1); returns the output and its range."""
    try:
        entries, first, bits = (int(number) for number in item.LUTDescriptor)
        entries = entries or 65536
        data = item["LUTData"].value
        if isinstance(data, bytes):
            data = np.frombuffer(data, dtype="<u1" if bits <= 8 and len(data) < 2 * entries else "<u2")
        table = np.atleast_1d(np.asarray(data, dtype=np.float64))[:entries]
    except Exception as failure:
        raise Problem(Category.INCORRECT, "a lookup table is damaged", diagnostics=repr(failure)) from failure
    if len(table) < entries or not 1 <= bits <= 16:
        raise Problem(Category.INCORRECT, "a lookup table is shorter than it says")
    if first > 32767 and values.min() < 0:
        first -= 65536  # the descriptor's second value is signed when the pixels are (C.11.1.1.1)
    index = np.clip(values - first, 0, entries - 1).astype(np.intp)
    return table[index], 0.0, 2.0**bits - 1


def _is_given(dataset: Dataset, keyword: str) -> bool:
    value = dataset.get(keyword)
    return value is not None and value != ""


def _integer(dataset: Dataset, keyword: str, *, default: int = 0) -> int:
    try:
        return int(dataset[keyword].value) if _is_given(dataset, keyword) else default
    except (TypeError, ValueError) as failure:
        raise Problem(Category.INCORRECT, f"{keyword} is no number") from failure


def _number(dataset: Dataset, keyword: str, default: float) -> float:
    """Return the first of an attribute's values."""
    if not _is_given(dataset, keyword):
        return default
    value = dataset[keyword].value
    try:
        number = float(value if isinstance(value, int | float | str) else value[0])
    except (TypeError, ValueError, IndexError) as failure:
        raise Problem(Category.INCORRECT, f"{keyword} is no number") from failure
    if not np.isfinite(number):
        raise Problem(Category.INCORRECT, f"{keyword} is no number")
    return number
