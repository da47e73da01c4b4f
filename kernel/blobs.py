"""Content-addressed, encrypted files: the storage of DICOM instances and rendered images.

A blob's address is a keyed digest of its content (see :class:`Cipher`), so equal content is stored once and a file
name reveals nothing about a patient. :meth:`Blobs.put` returns only when the file and its name are durable: it writes a
temporary file in the same folder, fsyncs it, renames it and fsyncs the folder.
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from kernel.errors import Category, Problem


class Cipher(Protocol):
    """Encrypts bytes and computes the address of content; ``privacy.keys`` implements it."""

    def seal(self, plaintext: bytes, context: bytes) -> bytes:
        """Encrypt and authenticate.

        Parameters
        ----------
        plaintext
            The bytes to encrypt.
        context
            Where the result is stored, such as a blob's address or a row's id. It is authenticated but not stored, so
            sealed bytes open only under the same context.
        """
        ...

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return the plaintext.

        Parameters
        ----------
        sealed
            What :meth:`seal` returned.
        context
            The context that was given to :meth:`seal`.

        Raises
        ------
        Problem
            ``fault`` when the bytes were altered or sealed under another context.
        """
        ...

    def address(self, plaintext: bytes) -> str:
        """Return the keyed digest (64 hexadecimal digits) that names this content."""
        ...


class Blobs:
    """A folder of sealed files named by their content.

    Parameters
    ----------
    folder
        Where the files are; created when absent, with its 256 subfolders.
    cipher
        Encrypts the content and computes its address.
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
            ``unavailable`` when the file system reports an error.
        """
        address = self._cipher.address(content)
        place = self._place(address)
        try:
            if place.exists():  # the name may not be durable yet: another thread, or an attempt that failed
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
            ``not-found`` when no content has this address; ``fault`` when the file was altered.
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
