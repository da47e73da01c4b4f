"""The size that a compressed frame declares, read from its header before a decoder allocates memory for it.

JPEG (ISO/IEC 10918-1 B.2.2) and JPEG-LS (ISO/IEC 14495-1 C.2.2) declare it in a frame header, JPEG 2000 (ISO/IEC
15444-1 A.5.1) in SIZ. RLE (PS3.5 Annex G) declares none; its output is bounded by its input.
"""

import struct
from typing import Final

_START_JPEG: Final = b"\xff\xd8"
_START_JPEG_2000: Final = b"\xff\x4f\xff\x51"
_NOT_A_FRAME: Final = frozenset({0xC4, 0xC8, 0xCC})
_FRAMES: Final = (frozenset(range(0xC0, 0xD0)) - _NOT_A_FRAME) | {0xF7}
_FILL: Final = 0xFF


def frame_size(frame: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) of a compressed frame; None when its codec does not declare them.

    Raises
    ------
    ValueError
        The header is damaged.
    """
    try:
        if frame.startswith(_START_JPEG_2000):
            width, height, left, top = struct.unpack_from(">4L", frame, 8)
            return height - top, width - left
        if frame.startswith(_START_JPEG):
            return _jpeg_size(frame)
    except (struct.error, IndexError) as failure:
        raise ValueError("the compressed frame ends within its header") from failure
    return None


def _jpeg_size(frame: bytes) -> tuple[int, int]:
    at = len(_START_JPEG)
    while True:
        if frame[at] != _FILL:
            raise ValueError("a marker is missing in the compressed frame")
        if frame[at + 1] == _FILL:
            at += 1
            continue
        if frame[at + 1] in _FRAMES:
            rows, columns = struct.unpack_from(">HH", frame, at + 5)
            return rows, columns
        (length,) = struct.unpack_from(">H", frame, at + 2)
        at += 2 + length
