"""Files that are written once, whole, and past the page cache where that is possible.

A copy in the page cache costs more CPU time than encryption and digest together, and the fsync would write it out while
the sender waits. What is written past the cache must be whole blocks: a file is therefore padded to a multiple of
:data:`BLOCK`, and its last bytes say how long its content is. A last block that went through the cache would be
allocated and written apart, at the fsync.
"""

import errno
import fcntl
import mmap
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from kernel.durable import sync_folder

BLOCK: Final = 4096
"""Multiple of the size of a block of any disk: what is written past the page cache is a multiple of it."""

BUFFER: Final = 1024 * 1024
"""Size of the buffers that are kept; a larger file gets one of its own."""

_MARK: Final = b"AUSCEND\x01"
_TRAILER: Final = struct.Struct(f"<Q{len(_MARK)}s")
"""The last bytes of a file: how long its content is, and that this is such a file."""

_buffers: Final[deque[mmap.mmap]] = deque(maxlen=64)
"""Buffers that nobody uses at present."""


def write_once(
    place: str | Path, size: int, fill: Callable[[memoryview], None], is_right: Callable[[bytes], bool]
) -> None:
    """Make a file durable under its name; one with the right content is kept.

    The file is locked while it is looked at or written. What is not right, such as half a file that a crash left, is
    written again. When writing fails, nothing is left under the name.

    Parameters
    ----------
    place
        The name; its folder exists.
    size
        Bytes of the content.
    fill
        Writes the content into a buffer of this size.
    is_right
        Whether the content of an existing file is what it should be.

    Raises
    ------
    OSError
        The file system refuses.
    """
    name = os.fspath(place)
    handle, length = _lock(name)
    try:
        if not length or not is_right(read_whole(place)):
            if length:
                os.ftruncate(handle, 0)
            _write_or_remove(handle, name, size, fill)
        else:  # it may not be durable yet: another process, or an attempt that failed
            os.fsync(handle)
            sync_folder(os.path.dirname(name))  # noqa: PTH120 - on each instance's way
    finally:
        os.close(handle)


def read_whole(place: str | Path) -> bytes:
    """Return the content of a file; of one that ends without a trailer, everything.

    Raises
    ------
    OSError
        It cannot be read.
    """
    whole = Path(place).read_bytes()
    if len(whole) % BLOCK == 0 and whole.endswith(_MARK):
        size, _ = _TRAILER.unpack_from(whole, len(whole) - _TRAILER.size)
        return whole[:size]
    return whole


def _lock(name: str) -> tuple[int, int]:
    """Open a file, made when it is not there, and be the only one that looks at it or writes it.

    Returns its handle and its length.
    """
    while True:
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            found = os.fstat(handle)
            if found.st_nlink:  # else it was removed before it was locked
                return handle, found.st_size
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _write_or_remove(handle: int, name: str, size: int, fill: Callable[[memoryview], None]) -> None:
    try:
        with _padded(size) as whole:
            with whole[:size] as content:
                fill(content)
            _write_all(handle, whole)
        os.fsync(handle)
        sync_folder(os.path.dirname(name))  # noqa: PTH120 - as above
    except BaseException:
        with suppress(OSError):
            os.unlink(name)  # noqa: PTH108 - as above
        raise


@contextmanager
def _padded(size: int) -> Iterator[memoryview]:
    """Give a buffer at the beginning of a page of memory, as O_DIRECT demands, that ends with padding and trailer."""
    length = -(-(size + _TRAILER.size) // BLOCK) * BLOCK
    buffer = _buffer(length)
    with memoryview(buffer) as everything, everything[:length] as whole:
        padding = length - size - _TRAILER.size
        whole[size:] = bytes(padding) + _TRAILER.pack(size, _MARK)
        yield whole
    if len(buffer) == BUFFER:
        _buffers.append(buffer)
    else:
        buffer.close()


def _buffer(length: int) -> mmap.mmap:
    if length > BUFFER:
        return mmap.mmap(-1, length)
    try:
        return _buffers.pop()
    except IndexError:
        return mmap.mmap(-1, BUFFER)


def _write_all(handle: int, whole: memoryview) -> None:
    """Write whole blocks directly to the disk, or through the cache where that is not possible."""
    direct = _set_direct(handle, wanted=True)
    rest = whole
    while rest:
        try:
            rest = rest[os.write(handle, rest) :]
        except OSError as failure:
            if not direct or failure.errno != errno.EINVAL:
                raise
            direct = _set_direct(handle, wanted=False)  # the file system takes the flag and refuses the write


def _set_direct(handle: int, *, wanted: bool) -> bool:
    """Turn O_DIRECT on or off; return whether it is on, which not every file system can."""
    flag = getattr(os, "O_DIRECT", 0) if wanted else 0
    try:
        fcntl.fcntl(handle, fcntl.F_SETFL, flag)
    except OSError:
        return False
    return bool(flag)
