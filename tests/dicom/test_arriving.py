"""The DICOM file that grows while its dataset arrives."""

import random

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicom_node.encoding import file_head, part10
from dicom_node.listener.arriving import HEAD_ROOM, KEPT, ArrivingFile


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_file_of_its_fragments_and_holds_nothing_of_the_former_one(seed: int) -> None:
    choice, file = random.Random(seed), ArrivingFile()
    for _ in range(4):
        file.clear()
        fragments = [choice.randbytes(choice.choice([0, 1, 700, 130_000])) for _ in range(choice.randint(1, 9))]
        for fragment in fragments:
            file.add(memoryview(fragment))
        encoded = b"".join(fragments)
        uids = {
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": "1." * choice.randint(1, 31) + "2",
            "TransferSyntaxUID": ExplicitVRLittleEndian,
        }
        assert (len(file), file.dataset()) == (len(encoded), encoded)
        if encoded:
            assert file.file(file_head(**uids)) == part10(encoded, **uids)


def test_there_is_room_before_the_dataset_for_the_longest_uids() -> None:
    longest = dict.fromkeys(("SOPClassUID", "SOPInstanceUID", "TransferSyntaxUID"), "1." * 31 + "12")
    assert len(file_head(**longest)) <= HEAD_ROOM


def test_the_memory_of_a_large_one_is_given_back() -> None:
    file = ArrivingFile()
    file.add(bytes(KEPT))
    file.clear()
    assert len(file._view) == 0
    file.add(bytes(KEPT // 2))
    file.clear()
    assert len(file._view) > KEPT // 2
