"""Encoding and decoding: the DICOM file format, index attributes read without a full parse, and safe full reads.

DICOM PS3.10 section 7.1 (file meta information), PS3.5 section 7.1 (data elements) and A.5 (deflated syntax).
"""

import re
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator, read_partial
from pydicom.uid import (
    PYDICOM_IMPLEMENTATION_UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_16, EXPLICIT_VR_LENGTH_32

from dicom_node.character_sets import add_latin_9
from kernel.errors import Category, Problem

UID_SYNTAX: Final = re.compile(r"[0-9.]{1,64}", re.ASCII)
"""Syntax of a UID (PS3.5 section 9.1). Leading zeros, which the section forbids, occur in practice and are accepted."""

HEAD_BYTES: Final = 4 * 1024 * 1024
"""Largest part of a dataset, in bytes, up to SeriesInstanceUID."""

INFLATED_BYTES: Final = 256 * 1024 * 1024
"""Largest size of a deflated dataset after inflating, in bytes."""

_WANTED: Final = {
    0x00080016: "SOPClassUID",
    0x00080018: "SOPInstanceUID",
    0x00080060: "Modality",
    0x0020000D: "StudyInstanceUID",
    0x0020000E: "SeriesInstanceUID",
}
_LAST: Final = max(_WANTED)
_IMPLICIT: Final = struct.Struct("<HHL")
_EXPLICIT: Final = struct.Struct("<HH2sH")
_LONG_LENGTH: Final = struct.Struct("<L")
_SHORT_VRS: Final = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_16)
_LONG_VRS: Final = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)
_LAST_OF_META: Final = 0x0002FFFF
_TRANSFER_SYNTAX: Final = 0x00020010
_PREAMBLE: Final = bytes(128) + b"DICM"


def keep_values_out_of_warnings() -> None:
    """Stop pydicom from quoting values that violate the standard, which may be PHI, in Python warnings.

    This, and a character set that it lacks, are the only process-wide settings that this package makes: pydicom has no
    other place for them. Such values are read and passed on as they were sent.
    """
    add_latin_9()
    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE


@dataclass(frozen=True, kw_only=True)
class IndexAttributes:
    """The attributes of an instance that are indexed."""

    SOPClassUID: str
    SOPInstanceUID: str
    StudyInstanceUID: str
    SeriesInstanceUID: str
    Modality: str | None


def read_index_attributes(encoded: bytes | memoryview, TransferSyntaxUID: str) -> IndexAttributes:
    """Read an encoded dataset as far as SeriesInstanceUID, decoding nothing else.

    Parameters
    ----------
    encoded
        Dataset as it was transferred.
    TransferSyntaxUID
        How it is encoded.

    Raises
    ------
    Problem
        ``incorrect`` when the bytes are no dataset or an identifier is missing.
    """
    implicit = TransferSyntaxUID == ImplicitVRLittleEndian
    little = TransferSyntaxUID != ExplicitVRBigEndian
    if TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
        encoded = _inflate(encoded, HEAD_BYTES)
    found = read_plain_head(encoded, implicit=implicit) if little else None
    if found is None:
        found = read_any_head(encoded, implicit=implicit, little=little)
    missing = [keyword for keyword in _WANTED.values() if keyword != "Modality" and not found.get(keyword)]
    if missing:
        raise Problem(Category.INCORRECT, f"the dataset lacks {', '.join(missing)}")
    if not all(UID_SYNTAX.fullmatch(value) for keyword, value in found.items() if keyword != "Modality"):
        raise Problem(Category.INCORRECT, "a UID of the dataset is malformed")
    return IndexAttributes(Modality=found.pop("Modality", None) or None, **found)


def read_plain_head(encoded: bytes | memoryview, *, implicit: bool) -> dict[str, str] | None:
    """Read the indexed attributes of a dataset, little endian; None when anything in it is unusual or damaged.

    It reads what almost every sender sends: elements of known length and known VR.

    Parameters
    ----------
    encoded
        The dataset.
    implicit
        Whether its VRs are implicit.
    """
    found: dict[str, str] = {}
    at, end = 0, min(len(encoded), HEAD_BYTES)
    try:
        while at < end:
            if implicit:
                group, element, length = _IMPLICIT.unpack_from(encoded, at)
            else:
                group, element, vr, length = _EXPLICIT.unpack_from(encoded, at)
                if vr in _LONG_VRS:
                    (length,) = _LONG_LENGTH.unpack_from(encoded, at + 8)
                    at += 4
                elif vr not in _SHORT_VRS:
                    return None
            at += 8
            tag = group << 16 | element
            if tag > _LAST:
                return found
            if length > end - at:  # cut short, or of undefined length
                return None
            if length and tag in _WANTED:
                found[_WANTED[tag]] = bytes(encoded[at : at + length]).rstrip(b"\0 ").decode("ascii")
            at += length
    except (struct.error, UnicodeDecodeError):
        return None
    return found if at == len(encoded) else None


def read_any_head(encoded: bytes | memoryview, *, implicit: bool, little: bool) -> dict[str, str]:
    """Read the indexed attributes of a dataset with pydicom.

    Parameters
    ----------
    encoded
        The dataset.
    implicit, little
        How it is encoded.

    Raises
    ------
    Problem
        ``incorrect`` when the bytes are no dataset.
    """
    found: dict[str, str] = {}
    try:
        elements = data_element_generator(
            BytesIO(encoded[:HEAD_BYTES]), implicit, little, stop_when=lambda tag, _vr, _length: tag > _LAST
        )
        for element in elements:
            keyword = _WANTED.get(int(element.tag))
            if keyword and isinstance(element.value, bytes):
                found[keyword] = element.value.rstrip(b"\0 ").decode("ascii")
    except RecursionError as failure:
        raise Problem(Category.INCORRECT, "the dataset is nested too deeply") from failure
    except Exception as failure:
        raise Problem(Category.INCORRECT, "the dataset cannot be read", diagnostics=repr(failure)) from failure
    return found


def part10(encoded: bytes | memoryview, *, SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str) -> bytes:
    """Put the preamble and file meta information before an encoded dataset (PS3.10 section 7.1).

    Parameters
    ----------
    encoded
        The dataset, encoded in the transfer syntax.
    SOPClassUID, SOPInstanceUID, TransferSyntaxUID
        As for :func:`file_head`.
    """
    head = file_head(SOPClassUID=SOPClassUID, SOPInstanceUID=SOPInstanceUID, TransferSyntaxUID=TransferSyntaxUID)
    return b"".join((head, encoded))


def file_head(*, SOPClassUID: str, SOPInstanceUID: str, TransferSyntaxUID: str) -> bytes:
    """Return the preamble and file meta information that stand before an encoded dataset (PS3.10 section 7.1).

    The result depends on the arguments only, so that an instance that is sent twice becomes the same file.

    Parameters
    ----------
    SOPClassUID, SOPInstanceUID
        Written as MediaStorageSOPClassUID and MediaStorageSOPInstanceUID; ASCII.
    TransferSyntaxUID
        Transfer syntax of the dataset.
    """
    meta = (
        struct.pack("<HH2sHL", 0x0002, 0x0001, b"OB", 0, 2)
        + b"\x00\x01"
        + _uid(0x0002, SOPClassUID)
        + _uid(0x0003, SOPInstanceUID)
        + _uid(0x0010, TransferSyntaxUID)
        + _IMPLEMENTATION
    )
    length = struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(meta))
    return b"".join((_PREAMBLE, length, meta))


def open_file(content: bytes, *, stop_before_pixels: bool = False) -> Dataset:
    """Read a DICOM file; a deflated dataset may inflate to at most :data:`INFLATED_BYTES`.

    Parameters
    ----------
    content
        DICOM file format (PS3.10).
    stop_before_pixels
        Leave PixelData and what follows unread.

    Raises
    ------
    Problem
        ``incorrect`` when the bytes are no DICOM file, or inflate beyond the limit.
    """
    try:
        dataset: Dataset = dcmread(BytesIO(_plain(content)), stop_before_pixels=stop_before_pixels)
    except Problem:
        raise
    except RecursionError as failure:
        raise Problem(Category.INCORRECT, "the dataset is nested too deeply") from failure
    except Exception as failure:
        raise Problem(Category.INCORRECT, "the file is not readable as DICOM", diagnostics=repr(failure)) from failure
    return dataset


def open_head(content: bytes) -> Dataset:
    """Read a DICOM file as far as SeriesInstanceUID: the patient and identifiers of one that breaks off after them.

    Raises
    ------
    Problem
        ``incorrect`` when not even that can be read.
    """
    try:
        content = _plain(content)
        head: Dataset = read_partial(BytesIO(content), stop_when=lambda tag, _vr, _length: tag > _LAST)
    except Problem:
        raise
    except Exception as failure:
        raise Problem(Category.INCORRECT, "the file is not readable as DICOM", diagnostics=repr(failure)) from failure
    return head


def _plain(content: bytes) -> bytes:
    """Return a DICOM file that is not deflated."""
    start, TransferSyntaxUID = _after_meta(content)
    if TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
        return content
    inflated = _inflate(content[start:], INFLATED_BYTES, complete=True)
    plain = ExplicitVRLittleEndian
    return part10(inflated, SOPClassUID=plain, SOPInstanceUID=plain, TransferSyntaxUID=plain)


def _after_meta(content: bytes) -> tuple[int, str]:
    """Return where the dataset of a DICOM file starts, and its transfer syntax."""
    if content[128:132] != b"DICM":
        raise Problem(Category.INCORRECT, "the file is not in the DICOM file format")
    stream = BytesIO(content)
    stream.seek(len(_PREAMBLE))
    syntax = ""
    for element in data_element_generator(
        stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, _vr, _length: tag > _LAST_OF_META
    ):
        if element.tag == _TRANSFER_SYNTAX:
            syntax = element.value.rstrip(b"\0 ").decode("ascii")
    return stream.tell(), syntax


def _inflate(deflated: bytes | memoryview, most: int, *, complete: bool = False) -> bytes:
    """Inflate at most ``most`` bytes (PS3.5 section A.5); with ``complete``, more than that is refused."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(deflated, most)
    except zlib.error as failure:
        raise Problem(Category.INCORRECT, "the deflated dataset is damaged") from failure
    if complete and inflater.unconsumed_tail:
        raise Problem(Category.INCORRECT, "the deflated dataset is larger than this server reads")
    return inflated


def _uid(element: int, value: str) -> bytes:
    """Encode one UI element of group 0002, Explicit VR Little Endian."""
    encoded = value.encode("ascii")
    encoded += b"\0" * (len(encoded) % 2)
    return struct.pack("<HH2sH", 0x0002, element, b"UI", len(encoded)) + encoded


_IMPLEMENTATION: Final = _uid(0x0012, PYDICOM_IMPLEMENTATION_UID)
