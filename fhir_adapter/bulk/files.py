"""Files of lines that are sealed at rest: what a bulk export lies on the disk as is PHI.

A file is a sequence of parts. Each part is sealed by itself, under the name of the file and its number, so that neither
writing nor reading holds more than one part in memory, and none can be changed, exchanged or left out unnoticed.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kernel.blobs import Cipher
from kernel.durable import sync_folder
from kernel.errors import Category, Problem

PART: Final = 1024 * 1024
"""Bytes of lines that are sealed together, about."""
_LENGTH: Final = struct.Struct("<I")


class SealedLines:
    """Writes a file of lines.

    Parameters
    ----------
    place
        The file; its folder exists.
    context
        Names the file; whoever reads it gives the same.
    cipher
        Seals each part.
    """

    def __init__(self, place: Path, context: str, cipher: Cipher) -> None:
        self._place = place
        self._context = context
        self._cipher = cipher
        self._file = os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
        self._lines: list[bytes] = []
        self._waiting = 0
        self.count = self.size = self.parts = 0

    def finish(self) -> None:
        """Make the file durable."""
        self._seal()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        sync_folder(self._place.parent)

    def abandon(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def add(self, line: bytes) -> None:
        """Add one line, without its end."""
        self._lines.append(line)
        self._waiting += len(line) + 1
        self.count += 1
        if self._waiting >= PART:
            self._seal()

    def _seal(self) -> None:
        if not self._lines:
            return
        self._lines.append(b"")
        sealed = self._cipher.seal(b"\n".join(self._lines), _part(self._context, self.parts))
        self._file.write(_LENGTH.pack(len(sealed)) + sealed)
        self.size += self._waiting
        self.parts += 1
        self._lines, self._waiting = [], 0


def read_lines(place: Path, context: str, cipher: Cipher, parts: int) -> Iterator[bytes]:
    """Yield the content of a file, part by part; the file is opened at once.

    Parameters
    ----------
    place
        The file.
    context, cipher
        Those that it was written with.
    parts
        How many parts it has.

    Raises
    ------
    Problem
        ``not-found`` when there is no such file; while it is read, ``fault`` when it was altered.
    """
    try:
        file = place.open("rb")
    except OSError as failure:
        raise Problem(Category.NOT_FOUND, "there is no such file") from failure

    def content() -> Iterator[bytes]:
        with file:
            for number in range(parts):
                head = file.read(_LENGTH.size)
                size = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
                yield cipher.open(file.read(size), _part(context, number))

    return content()


def _part(context: str, number: int) -> bytes:
    return f"{context}/{number}".encode()
