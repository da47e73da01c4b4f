"""Content-addressed, encrypted files: the storage of DICOM instances and rendered images.

A blob's address is a keyed digest of its content (see :class:`Cipher`), so equal content is stored once and a file
name reveals nothing about a patient. :meth:`Blobs.put` returns only when the file and its name are durable: it writes a
file beside them, past the page cache where that is possible, fsyncs it, renames it and fsyncs its new folder.

A small blob needs none of that: :meth:`Blobs.prepare` and :meth:`Blobs.keep` make it a row of the commit that refers to
it, so that bytes and reference become durable with the same fsync, or not at all.
"""

import errno
import fcntl
import mmap
import os
import secrets
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import bindparam, select, text

from kernel.db import Database
from kernel.durable import sync_folder
from kernel.errors import Category, Problem
from kernel.statements import Statement
from kernel.tables import small_blobs
from kernel.transaction import Transaction

UNFINISHED: Final = "unfinished"
"""The subfolder of the files that are being written."""

SMALL: Final = 160 * 1024
"""Largest content that is kept in the database: a slice of 256 x 256 pixels of 16 bits with its header is."""

BLOCK: Final = 4096
"""Multiple of the size of a block of any disk: what is written past the page cache is a multiple of it."""

BUFFER: Final = 1024 * 1024
"""Largest part of a file that is written at once."""

_buffers: Final[deque[mmap.mmap]] = deque(maxlen=64)
"""Buffers that nobody uses at present."""

_KEEP: Final = Statement(
    text("INSERT INTO small_blobs (address, sealed) VALUES (:address, :sealed) ON CONFLICT (address) DO NOTHING")
)
_GET: Final = Statement(select(small_blobs.c.sealed).where(small_blobs.c.address == bindparam("of")))


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


@dataclass(frozen=True, kw_only=True)
class PreparedBlob:
    """A blob whose file is durable, or which becomes durable in the commit that keeps it."""

    address: str
    #: The sealed bytes of a small blob; None when there is a file.
    sealed: bytes | None = field(repr=False)


class Blobs:
    """A folder of sealed files named by their content.

    Parameters
    ----------
    folder
        Where the files are; created when absent, with its subfolders. What a crash left half written is
        removed.
    cipher
        Encrypts the content and computes its address.
    database
        Where small blobs are kept; without one each blob is a file.
    """

    def __init__(self, folder: Path, cipher: Cipher, database: Database | None = None) -> None:
        self._folder = folder
        self._database = database
        self._cipher = cipher
        for number in range(256):
            (folder / f"{number:02x}").mkdir(parents=True, exist_ok=True)
        self._unfinished = folder / UNFINISHED
        self._unfinished.mkdir(exist_ok=True)
        sync_folder(folder)
        self._remove_unfinished()

    def put(self, content: bytes) -> str:
        """Store ``content`` durably and return its address.

        Raises
        ------
        Problem
            ``unavailable`` when the file system reports an error.
        """
        return self._put(self._cipher.address(content), content)

    def prepare(self, content: bytes) -> PreparedBlob:
        """Store ``content`` durably when it is large; a small one is stored by :meth:`keep`.

        Raises
        ------
        Problem
            ``unavailable`` when the file system reports an error.
        """
        address = self._cipher.address(content)
        if self._database is None or len(content) > SMALL:
            return PreparedBlob(address=self._put(address, content), sealed=None)
        return PreparedBlob(address=address, sealed=self._cipher.seal(content, address.encode()))

    def keep(self, tx: Transaction, prepared: PreparedBlob) -> None:
        """Make a blob part of the transaction that refers to it.

        Parameters
        ----------
        tx
            The transaction that refers to the blob.
        prepared
            What :meth:`prepare` returned.
        """
        if prepared.sealed is not None:
            tx.execute(_KEEP, {"address": prepared.address, "sealed": prepared.sealed})

    def _put(self, address: str, content: bytes) -> str:
        place = self._place(address)
        try:
            if place.exists():  # the name may not be durable yet: another thread, or an attempt that failed
                sync_folder(place.parent)
            else:
                _write(self._unfinished / secrets.token_hex(8), place, self._cipher.seal(content, address.encode()))
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
        except FileNotFoundError:
            sealed = self._small(address)
        return self._cipher.open(sealed, address.encode())

    def _remove_unfinished(self) -> None:
        """Remove the files that a crash left half written; one that is being written is locked."""
        for draft in self._unfinished.iterdir():
            with suppress(OSError), draft.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                draft.unlink()

    def _small(self, address: str) -> bytes:
        sealed: bytes | None = None
        if self._database is not None:
            with self._database.read() as connection:
                sealed = _GET.run(connection, {"of": address}).scalar()
        if sealed is None:
            raise Problem(Category.NOT_FOUND, "there is no such blob")
        return sealed

    def _place(self, address: str) -> Path:
        if len(address) != 64 or not set(address) <= set("0123456789abcdef"):
            raise Problem(Category.NOT_FOUND, "there is no such blob")
        return self._folder / address[:2] / address[2:]


def _write(draft: Path, place: Path, sealed: bytes) -> None:
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
            written = _write_past_the_cache(handle, sealed)
            _write_all(handle, memoryview(sealed)[written:])
            os.fsync(handle)
            draft.replace(place)
        finally:
            os.close(handle)
        sync_folder(place.parent)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def _write_past_the_cache(handle: int, sealed: bytes) -> int:
    """Write the whole blocks directly to the disk; return how many bytes that was, none where it is not possible.

    A copy in the page cache costs more CPU time than encryption and digest together, and the fsync would write it out
    while the sender waits. The bytes are read again when the study is complete, from the disk.
    """
    whole = len(sealed) // BLOCK * BLOCK
    if whole == 0 or not _set_direct(handle, wanted=True):
        return 0
    written = 0
    try:
        buffer = _buffer()
        with memoryview(buffer) as view:
            while written < whole:
                size = min(BUFFER, whole - written)
                view[:size] = memoryview(sealed)[written : written + size]
                done = os.write(handle, view[:size])
                written += done
                if done % BLOCK:
                    break
        _buffers.append(buffer)
    except OSError as failure:
        if failure.errno != errno.EINVAL:  # the file system takes the flag and refuses the write
            raise
    _set_direct(handle, wanted=False)
    return written


def _buffer() -> mmap.mmap:
    """Return a buffer at the beginning of a page of memory, as O_DIRECT demands."""
    try:
        return _buffers.pop()
    except IndexError:
        return mmap.mmap(-1, BUFFER)


def _set_direct(handle: int, *, wanted: bool) -> bool:
    """Turn O_DIRECT on or off; return whether the file system has it."""
    flag = getattr(os, "O_DIRECT", 0)
    try:
        fcntl.fcntl(handle, fcntl.F_SETFL, flag if wanted else 0)
    except OSError:
        return False
    return bool(flag)


def _write_all(handle: int, rest: memoryview) -> None:
    while rest:
        rest = rest[os.write(handle, rest) :]
