"""Stored pixels to a picture: every branch of the grayscale pipeline on files made for it, then on real ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.pixels import picture
from dicom_node.synthesise import ChestXRay, chest_x_ray
from dicom_node.volume import load_image
from kernel.errors import Category, Problem

Write = Callable[[Dataset], bytes]


def grey(values: list[list[int]], *, bits: int = 12, signed: bool = False, **attributes: object) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, "1.2.3"
    allocated = 8 if bits <= 8 else 16
    stored = np.array(values, dtype=f"<{'i' if signed else 'u'}{allocated // 8}")
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, bits, bits - 1
    dataset.PixelRepresentation = int(signed)
    dataset.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    dataset["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def table(first: int, bits: int, data: list[int]) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(data), first, bits])
    item.add_new("LUTData", "US", data)
    return item


def expect(dataset: Dataset, *rows: list[float]) -> None:
    shown = picture(dataset)
    assert shown.dtype == np.float32
    np.testing.assert_allclose(shown, np.array(rows), atol=1e-6)


def test_without_anything_the_whole_range_is_shown() -> None:
    expect(grey([[0, 255]], bits=8), [0.0, 1.0])
    expect(grey([[0, 4095]], bits=12), [0.0, 1.0])
    expect(grey([[0, 65535]], bits=16), [0.0, 1.0])


def test_signed_pixels_start_below_zero() -> None:
    expect(grey([[-2048, 2047]], bits=12, signed=True), [0.0, 1.0])


def test_rescale_comes_before_the_window() -> None:
    dataset = grey([[1000, 1024, 1100]], RescaleSlope=2, RescaleIntercept=-2000, WindowCenter=100, WindowWidth=201)
    expect(dataset, [(0 - 99.5) / 200 + 0.5, (48 - 99.5) / 200 + 0.5, 1.0])


def test_a_negative_rescale_slope_inverts_the_picture() -> None:
    expect(grey([[0, 4095]], RescaleSlope=-1, RescaleIntercept=4095), [1.0, 0.0])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("LINEAR", [0.0, 0.5 + 0.5 / 99, 1.0]),
        ("LINEAR_EXACT", [0.0, 0.5, 1.0]),
        ("SIGMOID", [1 / (1 + np.exp(4)), 0.5, 1 / (1 + np.exp(-4))]),
    ],
)
def test_each_window_function(function: str, expected: list[float]) -> None:
    expect(grey([[0, 100, 200]], WindowCenter=100, WindowWidth=100, VOILUTFunction=function), expected)


def test_of_several_windows_the_first_is_used() -> None:
    dataset = grey([[0, 100]], WindowCenter=[50, 9], WindowWidth=[100, 9], VOILUTFunction="LINEAR_EXACT")
    expect(dataset, [0.0, 1.0])


def test_a_voi_lut_wins_over_a_window() -> None:
    dataset = grey([[0, 10, 11, 12, 4095]], WindowCenter=1, WindowWidth=1)
    dataset.VOILUTSequence = [table(10, 8, [0, 51, 255])]
    expect(dataset, [0.0, 0.0, 0.2, 1.0, 1.0])


def test_a_modality_lut_takes_the_place_of_rescale() -> None:
    dataset = grey([[0, 1, 2]], RescaleSlope=7, RescaleIntercept=7)
    dataset.ModalityLUTSequence = [table(0, 16, [65535, 0, 0])]
    expect(dataset, [1.0, 0.0, 0.0])


def test_monochrome1_is_inverted_after_the_window() -> None:
    window = {"WindowCenter": 100, "WindowWidth": 100, "VOILUTFunction": "LINEAR_EXACT"}
    expect(grey([[0, 75, 200]], PhotometricInterpretation="MONOCHROME1", **window), [1.0, 0.75, 0.0])


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_an_inverted_image_gives_the_same_picture(bits: int) -> None:
    as_is, inverted = (
        load_image(chest_x_ray(ChestXRay(rows=64, columns=48, bits=bits, photometric=photometric)))[0]
        for photometric in ("MONOCHROME2", "MONOCHROME1")
    )
    np.testing.assert_allclose(as_is, inverted, atol=1.5 / 2**bits)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_pixels_are_the_same_picture(syntax: str, written: Write) -> None:
    from dicom_node.encoding import open_file

    content = chest_x_ray(ChestXRay(rows=64, columns=48))
    compressed = open_file(content)
    plugins = {RLELossless: "pydicom", JPEG2000Lossless: "pylibjpeg", JPEGLSLossless: "pyjpegls"}
    try:
        compressed.compress(syntax, encoding_plugin=plugins[syntax], generate_instance_uid=False)
    except (RuntimeError, ValueError) as reason:
        pytest.skip(f"no encoder for this syntax is installed: {reason}")
    np.testing.assert_array_equal(load_image(written(compressed))[0], load_image(content)[0])


@pytest.mark.parametrize(
    ("change", "category", "reason"),
    [
        ({"NumberOfFrames": 2}, Category.UNSUPPORTED, "several frames"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, Category.UNSUPPORTED, "colour"),
        ({"Rows": 60000, "Columns": 60000}, Category.INCORRECT, "implausible"),
        ({"Rows": 3}, Category.INCORRECT, "fewer pixels"),
        ({"BitsAllocated": 32, "BitsStored": 32}, Category.UNSUPPORTED, "16 bits"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, Category.INCORRECT, "RescaleSlope"),
        ({"WindowCenter": 1, "WindowWidth": 0}, Category.INCORRECT, "WindowWidth"),
        ({"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "ODD"}, Category.UNSUPPORTED, "VOI LUT function"),
    ],
)
def test_an_image_that_cannot_be_rendered_is_refused_with_the_reason(
    change: dict[str, object], category: Category, reason: str
) -> None:
    with pytest.raises(Problem, match=reason) as refusal:
        picture(grey([[0, 1]], **change))
    assert refusal.value.category is category


def test_a_codestream_larger_than_its_description_is_never_decoded() -> None:
    dataset = grey([[0, 1]])
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    size = (60000).to_bytes(4) * 2 + bytes(8)
    dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51\x00\x29\x00\x00" + size + bytes(64)])
    dataset["PixelData"].is_undefined_length = True
    with pytest.raises(Problem, match="not of the size"):
        picture(dataset)


def test_a_shortened_lookup_table_is_refused() -> None:
    dataset = grey([[0, 1]])
    dataset.VOILUTSequence = [table(0, 8, [1, 2, 3])]
    dataset.VOILUTSequence[0].LUTDescriptor = [200, 0, 8]
    with pytest.raises(Problem, match="shorter"):
        picture(dataset)


def test_a_file_that_is_not_dicom_is_refused() -> None:
    for content in (b"", b"%PDF", bytes(128) + b"DICM" + b"\xff" * 40):
        with pytest.raises(Problem):
            load_image(content)


def test_real_radiographs_are_read_and_inverted(shared: Path) -> None:
    files = sorted((shared / "data" / "cxr-samples" / "tests").glob("*.dcm"))
    if len(files) < 2:
        pytest.skip("the sample radiographs are absent")
    (original, description), (fake_monochrome1, _) = (load_image(file.read_bytes()) for file in files[:2])
    assert original.shape == (1024, 1024)
    assert description.modality == "CR"
    np.testing.assert_allclose(original, 1 - fake_monochrome1, atol=1e-6)
