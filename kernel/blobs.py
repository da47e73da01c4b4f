"""Content-addressed, sealed files: where a DICOM instance or a picture lives.

A blob's address is a keyed digest of its content (see :class:`Cipher`), so equal content is stored once and a name on
disk tells nothing about a patient. :meth:`Blobs.put` returns only when the file and its name are durable: written
beside its place, fsynced, renamed, and the folder fsynced.
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from kernel.errors import Category, Problem


class Cipher(Protocol):
    """Seals bytes and gives content its address; the key's holder is ``privacy.keys``."""

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """Encrypt and authenticate; ``context`` must be given again to open."""
        ...

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Give the plaintext back; raises ``Problem(fault)`` when it was altered or belongs elsewhere."""
        ...

    def address(self, plaintext: bytes) -> str:
        """Return the keyed digest (64 hexadecimal digits) that names this content."""
        ...


class Blobs:
    """A folder of sealed files named by their content.

    Parameters
    ----------
    folder
        Where they lie; made when absent, its 256 shelves with it.
    cipher
        What seals and names them.
    """

    def __init__(self, folder: Path, cipher: Cipher) -> None:
        self._folder = folder
        self._cipher = cipher
        for number in range(256):
            (folder / f"{number:02x}").mkdir(parents=True, exist_ok=True)
        _sync_folder(folder)

    def put(self, content: bytes) -> str:
        """Store ``content`` durably and return its address.

        Raises
        ------
        Problem
            ``unavailable`` when the disk refuses.
        """
        address = self._cipher.address(content)
        place = self._place(address)
        try:
            if place.exists():  # its name may still be on its way to the disk, in another thread or an earlier try
                _sync_folder(place.parent)
            else:
                _write(place, self._cipher.seal(content, address.encode()))
        except OSError as failure:
            detail = "this server cannot save at present; send it again later"
            raise Problem(Category.UNAVAILABLE, detail, diagnostics=str(failure)) from failure
        return address

    def get(self, address: str) -> bytes:
        """Return the content at ``address``.

        Raises
        ------
        Problem
            ``not-found`` when there is none; ``fault`` when it was altered.
        """
        try:
            sealed = self._place(address).read_bytes()
        except FileNotFoundError as failure:
            raise Problem(Category.NOT_FOUND, "there is no such blob") from failure
        return self._cipher.open(sealed, address.encode())

    def _place(self, address: str) -> Path:
        if len(address) != 64 or not set(address) <= set("0123456789abcdef"):
            raise Problem(Category.NOT_FOUND, "there is no such blob")
        return self._folder / address[:2] / address[2:]


def _write(place: Path, sealed: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(sealed)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(place)
        _sync_folder(place.parent)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
