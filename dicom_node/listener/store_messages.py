"""The two messages of a C-STORE (PS3.7 section 9.3.1), encoded and decoded without a data set for each.

pynetdicom makes a dataset of a command set and a primitive of the dataset, and checks each value on the way; of the
answers the same. For these two messages that costs more CPU time than the digest of the instance. A request that is
written in any unusual way is left to pynetdicom.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pynetdicom.dimse_primitives import C_STORE

from dicom_node.encoding import UID_SYNTAX
from dicom_node.listener.arriving import ArrivingFile

C_STORE_RQ: Final = 0x0001
C_STORE_RSP: Final = 0x8001
"""Values of CommandField (PS3.7 section E.1)."""

NO_DATASET: Final = 0x0101
"""Value of CommandDataSetType of a message without a dataset."""

_GROUP_LENGTH: Final = 0x0000
_SOP_CLASS: Final = 0x0002
_COMMAND: Final = 0x0100
_MESSAGE_ID: Final = 0x0110
_RESPONDED_TO: Final = 0x0120
_DATASET_TYPE: Final = 0x0800
_STATUS: Final = 0x0900
_ERROR_COMMENT: Final = 0x0902
_SOP_INSTANCE: Final = 0x1000
"""Elements of group 0000 (PS3.7 section E.1)."""

_ELEMENT: Final = struct.Struct("<HHL")
_UNSIGNED: Final = struct.Struct("<H")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreRequest:
    """A C-STORE request; its dataset may still arrive."""

    #: None when the peer states none, which ends the association.
    MessageID: int | None
    #: Empty when not stated.
    AffectedSOPClassUID: str
    AffectedSOPInstanceUID: str
    #: The encoded dataset, as far as it has arrived.
    dataset: ArrivingFile = field(repr=False)

    @classmethod
    def of(cls, primitive: C_STORE) -> "StoreRequest":
        """Return the request that pynetdicom has decoded."""
        dataset = ArrivingFile()
        if primitive.DataSet is not None:
            dataset.add(primitive.DataSet.getvalue())
        return cls(
            MessageID=primitive.MessageID,
            AffectedSOPClassUID=str(primitive.AffectedSOPClassUID or ""),
            AffectedSOPInstanceUID=str(primitive.AffectedSOPInstanceUID or ""),
            dataset=dataset,
        )


def read_store_request(command: memoryview, dataset: ArrivingFile) -> StoreRequest | None:
    """Read a command set; None when it is not a C-STORE request as almost every peer writes it.

    Parameters
    ----------
    command
        The complete command set, Implicit VR Little Endian.
    dataset
        Where its dataset is going to be.
    """
    try:
        found = dict(_elements(command))
        (kind,), (dataset_type,) = _UNSIGNED.unpack(found[_COMMAND]), _UNSIGNED.unpack(found[_DATASET_TYPE])
        (message,) = _UNSIGNED.unpack(found[_MESSAGE_ID])
        uids = [bytes(found[element]).rstrip(b"\0 ").decode("ascii") for element in (_SOP_CLASS, _SOP_INSTANCE)]
    except (struct.error, KeyError, ValueError):
        return None
    if kind != C_STORE_RQ or dataset_type == NO_DATASET or not all(UID_SYNTAX.fullmatch(uid) for uid in uids):
        return None
    return StoreRequest(MessageID=message, AffectedSOPClassUID=uids[0], AffectedSOPInstanceUID=uids[1], dataset=dataset)


def store_response(request: StoreRequest, status: int, comment: str = "") -> bytes:
    """Return the command set of the answer.

    Parameters
    ----------
    request
        The request that is answered.
    status
        Its status (PS3.7 Annex C).
    comment
        ErrorComment, of which 64 characters are sent; for a failure.
    """
    elements = [
        _encode(_SOP_CLASS, request.AffectedSOPClassUID.encode("ascii", "replace"), b"\0"),
        _encode(_COMMAND, _UNSIGNED.pack(C_STORE_RSP)),
        _encode(_RESPONDED_TO, _UNSIGNED.pack(request.MessageID or 0)),
        _encode(_DATASET_TYPE, _UNSIGNED.pack(NO_DATASET)),
        _encode(_STATUS, _UNSIGNED.pack(status)),
        _encode(_ERROR_COMMENT, comment[:64].encode("ascii", "replace"), b" "),
        _encode(_SOP_INSTANCE, request.AffectedSOPInstanceUID.encode("ascii", "replace"), b"\0"),
    ]
    body = b"".join(elements)
    return _encode(_GROUP_LENGTH, struct.pack("<L", len(body))) + body


def _elements(command: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at < len(command):
        group, element, length = _ELEMENT.unpack_from(command, at)
        at += _ELEMENT.size + length
        if group != 0 or at > len(command):
            msg = "not a command set"
            raise ValueError(msg)
        yield element, command[at - length : at]


def _encode(element: int, value: bytes, padding: bytes = b"") -> bytes:
    """Encode one element of group 0000, Implicit VR Little Endian; nothing for text that is empty."""
    if not value:
        return b""
    value += padding * (len(value) % 2)
    return _ELEMENT.pack(0, element, len(value)) + value
