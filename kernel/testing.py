"""Fakes for the tests of every package; they fulfil the same contracts as the real implementations."""

import hashlib
import threading
import uuid
from datetime import UTC, datetime, timedelta

from kernel.blobs import Digest


class FakeClock:
    """A clock that moves only by :meth:`advance`.

    Parameters
    ----------
    start
        The first instant; aware.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)) -> None:
        self._now = start
        self._guard = threading.Lock()

    def now(self) -> datetime:
        """Return the clock's current instant."""
        with self._guard:
            return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock forward by ``seconds``."""
        with self._guard:
            self._now += timedelta(seconds=seconds)


class SequenceIds:
    """UUID-shaped identifiers in a fixed sequence: 00000000-…-000000000001, …2, …3."""

    def __init__(self) -> None:
        self._last = 0
        self._guard = threading.Lock()

    def new(self) -> str:
        """Return the next identifier of the sequence."""
        with self._guard:
            self._last += 1
            return str(uuid.UUID(int=self._last))


class PlainCipher:
    """A cipher that does not encrypt, for tests that inspect what was stored."""

    overhead = 0

    def seal(self, plaintext: bytes | memoryview, context: bytes) -> bytes:  # noqa: ARG002 - the contract's signature
        """Return the plaintext; parameters as for :meth:`kernel.blobs.Cipher.seal`."""
        return bytes(plaintext)

    def seal_into(self, plaintext: bytes | memoryview, context: bytes, into: memoryview) -> None:  # noqa: ARG002 - as above
        """Write the plaintext; parameters as for :meth:`kernel.blobs.Cipher.seal_into`."""
        into[:] = plaintext

    def open(self, sealed: bytes, context: bytes) -> bytes:  # noqa: ARG002 - the contract's signature
        """Return ``sealed``; parameters as for :meth:`kernel.blobs.Cipher.open`."""
        return sealed

    def address(self, plaintext: bytes | memoryview) -> str:
        """Return the SHA-256 of the content."""
        return hashlib.sha256(plaintext).hexdigest()

    def digest(self) -> Digest:
        """Return what computes the same of parts."""
        return hashlib.sha256()
