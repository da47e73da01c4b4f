"""The messages of a C-STORE are read and written as pynetdicom reads and writes them (PS3.7 section 9.3.1)."""

import struct
from io import BytesIO

import pytest
from pydicom.uid import CTImageStorage
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import decode, encode

from dicom_node.listener.arriving import ArrivingFile
from dicom_node.listener.store_messages import StoreRequest, read_store_request, store_response

UID = "2.25.4711"


def command(message: C_STORE_RQ | C_STORE_RSP, primitive: C_STORE) -> bytes:
    """Encode a primitive's command set with pynetdicom."""
    message.primitive_to_message(primitive)
    message._set_command_group_length()
    encoded = encode(message.command_set, is_implicit_vr=True, is_little_endian=True)
    assert encoded is not None
    return encoded


def request(**changes: object) -> bytes:
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 7, 1
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CTImageStorage, UID
    primitive.DataSet = BytesIO(b"x")
    for name, value in changes.items():
        setattr(primitive, name, value)
    return command(C_STORE_RQ(), primitive)


def test_a_request_is_read() -> None:
    read = read_store_request(memoryview(request(MoveOriginatorMessageID=3)), ArrivingFile())
    assert read is not None
    assert (read.MessageID, read.AffectedSOPClassUID, read.AffectedSOPInstanceUID) == (7, CTImageStorage, UID)


@pytest.mark.parametrize(
    "unusual",
    [
        b"",
        request()[:-1],
        request()[:-12] + b"\xff" * 12,
        request().replace(UID.encode(), b"2.25.471x"),
        request().replace(struct.pack("<HHLH", 0, 0x0100, 2, 0x0001), struct.pack("<HHLH", 0, 0x0100, 2, 0x0020)),
        request(DataSet=None),
        b"\x08" + request()[1:],
    ],
    ids=["nothing", "cut short", "damaged", "a malformed UID", "a C-FIND", "no dataset", "another group"],
)
def test_what_is_unusual_is_left_to_pynetdicom(unusual: bytes) -> None:
    assert read_store_request(memoryview(unusual), ArrivingFile()) is None


@pytest.mark.parametrize(("status", "comment"), [(0x0000, ""), (0xA700, "odd"), (0x0111, "x" * 100)])
def test_an_answer_is_encoded_as_pynetdicom_encodes_it(status: int, comment: str) -> None:
    primitive = C_STORE()
    primitive.MessageIDBeingRespondedTo, primitive.Status = 7, status
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CTImageStorage, UID
    if comment:
        primitive.ErrorComment = comment[:64]
    theirs = command(C_STORE_RSP(), primitive)
    stated = StoreRequest(
        MessageID=7, AffectedSOPClassUID=CTImageStorage, AffectedSOPInstanceUID=UID, dataset=ArrivingFile()
    )
    ours = store_response(stated, status, comment)
    assert decode(BytesIO(ours), True, True) == decode(BytesIO(theirs), True, True)
    assert ours == theirs
