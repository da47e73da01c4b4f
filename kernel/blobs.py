"""Content-addressed, encrypted files: the storage of DICOM instances and rendered images.

A blob's address is a keyed digest of its content (see :class:`Cipher`), so equal content is stored once and a file
name reveals nothing about a patient. :meth:`Blobs.put` returns only when the file and its name are durable: it writes
the file under its name, past the page cache where that is possible, fsyncs it and fsyncs its folder. A crash can leave
half a file that nothing refers to; the next put of the same content finds it and writes it again.

A small blob needs none of that: :meth:`Blobs.prepare` and :meth:`Blobs.keep` make it a row of the commit that refers to
it, so that bytes and reference become durable with the same fsync, or not at all.
"""

import fcntl
import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from sqlalchemy import bindparam, select, text

from kernel.db import Database
from kernel.durable import sync_folder
from kernel.durable_file import read_whole, write_once
from kernel.errors import Category, Problem
from kernel.statements import Statement
from kernel.tables import small_blobs
from kernel.transaction import Transaction

UNFINISHED: Final = "unfinished"
"""The subfolder in which earlier releases wrote a file before they gave it its name."""

SMALL: Final = 160 * 1024
"""Largest content that is kept in the database: a slice of 256 x 256 pixels of 16 bits with its header is."""

_ADDRESS: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_KEEP: Final = Statement(
    text("INSERT INTO small_blobs (address, sealed) VALUES (:address, :sealed) ON CONFLICT (address) DO NOTHING")
)
_GET: Final = Statement(select(small_blobs.c.sealed).where(small_blobs.c.address == bindparam("of")))


Content: TypeAlias = bytes | memoryview
"""What is stored; a view is not kept."""


class Digest(Protocol):
    """Computes the address of content that arrives in parts."""

    def update(self, part: bytes | memoryview, /) -> None:
        """Add the next part."""
        ...

    def hexdigest(self) -> str:
        """Return the address of the parts so far."""
        ...


class Cipher(Protocol):
    """Encrypts bytes and computes the address of content; ``privacy.keys`` implements it."""

    #: How many bytes longer than its content a sealed object is.
    overhead: int

    def seal(self, plaintext: Content, context: bytes) -> bytes:
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

    def seal_into(self, plaintext: Content, context: bytes, into: memoryview) -> None:
        """Do as :meth:`seal` does, and write what it returns.

        Parameters
        ----------
        plaintext, context
            As for :meth:`seal`.
        into
            Where it is written: as many bytes as the content has, and :attr:`overhead` more.
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

    def address(self, plaintext: Content) -> str:
        """Return the keyed digest (64 hexadecimal digits) that names this content."""
        ...

    def digest(self) -> Digest:
        """Return what computes the same as :meth:`address` of parts."""
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
        Where the files are; created when absent, with its subfolders. What a crash of an earlier release left
        half written is removed.
    cipher
        Encrypts the content and computes its address.
    database
        Where small blobs are kept; without one each blob is a file.
    """

    def __init__(self, folder: Path, cipher: Cipher, database: Database | None = None) -> None:
        self._folder = folder
        self._root = str(folder)
        self._database = database
        self._cipher = cipher
        for number in range(256):
            (folder / f"{number:02x}").mkdir(parents=True, exist_ok=True)
        sync_folder(folder)
        self._remove_unfinished()

    def put(self, content: Content) -> str:
        """Store ``content`` durably and return its address.

        Raises
        ------
        Problem
            ``unavailable`` when the file system reports an error.
        """
        return self._put(self._cipher.address(content), content)

    def digest(self) -> Digest:
        """Return what computes the address of content while it arrives."""
        return self._cipher.digest()

    def prepare(self, content: Content, address: str | None = None) -> PreparedBlob:
        """Store ``content`` durably when it is large; a small one is stored by :meth:`keep`.

        Parameters
        ----------
        content
            The bytes.
        address
            Their address, where :meth:`digest` has computed it.

        Raises
        ------
        Problem
            ``unavailable`` when the file system reports an error.
        """
        address = address or self._cipher.address(content)
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

    def _put(self, address: str, content: Content) -> str:
        place, context = self._place(address), address.encode()
        try:
            write_once(
                place,
                len(content) + self._cipher.overhead,
                partial(self._cipher.seal_into, content, context),
                lambda sealed: self._opens(sealed, context, content),
            )
        except OSError as failure:
            detail = "this server cannot save at present; send it again later"
            raise Problem(Category.UNAVAILABLE, detail, diagnostics=str(failure)) from failure
        return address

    def _opens(self, sealed: bytes, context: bytes, content: Content) -> bool:
        """Return whether what an existing file holds is this content, whole and unaltered."""
        try:
            return self._cipher.open(sealed, context) == bytes(content)
        except Problem:
            return False

    def get(self, address: str) -> bytes:
        """Return the content at ``address``.

        Raises
        ------
        Problem
            ``not-found`` when no content has this address; ``fault`` when the file was altered.
        """
        try:
            return self._cipher.open(read_whole(self._place(address)), address.encode())
        except FileNotFoundError:
            return self._cipher.open(self._small(address), address.encode())
        except Problem:  # half a file that a crash left, and the same small content was kept in the database
            with suppress(Problem):
                return self._cipher.open(self._small(address), address.encode())
            raise

    def _remove_unfinished(self) -> None:
        """Remove what a crash of an earlier release left half written; what it still writes is locked."""
        for draft in (self._folder / UNFINISHED).glob("*"):
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

    def _place(self, address: str) -> str:
        if _ADDRESS.fullmatch(address) is None:
            raise Problem(Category.NOT_FOUND, "there is no such blob")
        return f"{self._root}/{address[:2]}/{address[2:]}"
