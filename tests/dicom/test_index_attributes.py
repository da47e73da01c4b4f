"""The head of a dataset is read as pydicom reads it, or left to pydicom (PS3.5 section 7.1)."""

import random

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from dicom_node.encoding import read_any_head, read_plain_head
from kernel.errors import Problem


def encoded(dataset: Dataset, *, implicit: bool) -> bytes:
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, implicit
    write_dataset(stream, dataset)
    return stream.getvalue()


def header(*, undefined: bool = False) -> Dataset:
    """A head with elements of all kinds of lengths, some of them nested."""
    dataset, item = Dataset(), Dataset()
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "2.25.11"
    dataset.Modality, dataset.StudyDescription = "CT", "Thorax"
    item.ReferencedSOPInstanceUID, item.SOPInstanceUID, item.StudyInstanceUID = "2.25.12", "2.25.13", "2.25.14"
    dataset.ReferencedImageSequence = Sequence([item, item])
    dataset["ReferencedImageSequence"].is_undefined_length = undefined
    dataset.add_new(0x00091001, "UN", b"private\0")
    dataset.add_new(0x00091002, "OB", b"\x01\x02")
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "P1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.1", "2.25.1.3"
    dataset.InstanceNumber = 4
    dataset.add_new(0x7FE00010, "OW", bytes(64))
    return dataset


@pytest.mark.parametrize("implicit", [False, True])
def test_what_almost_every_sender_sends_is_read_without_pydicom(implicit: bool) -> None:
    content = encoded(header(), implicit=implicit)
    expected = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "SOPInstanceUID": "2.25.11",
        "Modality": "CT",
        "StudyInstanceUID": "2.25.1",
        "SeriesInstanceUID": "2.25.1.3",
    }
    assert read_plain_head(content, implicit=implicit) == expected
    assert read_any_head(content, implicit=implicit, little=True) == expected


@pytest.mark.parametrize("implicit", [False, True])
def test_an_item_of_undefined_length_is_left_to_pydicom(implicit: bool) -> None:
    content = encoded(header(undefined=True), implicit=implicit)
    assert read_plain_head(content, implicit=implicit) is None
    assert read_any_head(content, implicit=implicit, little=True)["SOPInstanceUID"] == "2.25.11"


def changed(content: bytes, choice: random.Random) -> bytes:
    """Change a dataset as damage does: bytes, a part missing, a part twice, an end."""
    data = bytearray(content)
    for _ in range(choice.randint(1, 3)):
        at, size = choice.randrange(len(data)), choice.randint(1, 12)
        kind = choice.randrange(4)
        if kind == 0:
            data[at] = choice.choice([0, 1, 8, 0x20, 0x7F, 0xFF, choice.randrange(256)])
        elif kind == 1:
            del data[at : at + size]
        elif kind == 2:
            data[at:at] = data[at : at + size]
        else:
            del data[max(at, 40) :]
    return bytes(data)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_a_damaged_head_is_read_as_pydicom_reads_it_or_not_at_all(seed: int, implicit: bool) -> None:
    choice, content = random.Random(seed), encoded(header(), implicit=implicit)
    for _ in range(300):
        damaged = changed(content, choice)
        ours = read_plain_head(damaged, implicit=implicit)
        if ours is None:
            continue
        try:
            theirs = read_any_head(damaged, implicit=implicit, little=True)
        except Problem:
            theirs = None
        assert ours == theirs, damaged
