"""Fakes that tests of every room share; they obey the same contracts as the real things."""

import hashlib
import threading
import uuid
from datetime import UTC, datetime, timedelta


class FakeClock:
    """A clock that stands still until told to move.

    Parameters
    ----------
    start
        The first instant it tells.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)) -> None:
        self._now = start
        self._guard = threading.Lock()

    def now(self) -> datetime:
        """Return the instant the clock stands at."""
        with self._guard:
            return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock on."""
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
    """A cipher that hides nothing, for tests that look at what was stored."""

    def seal(self, plaintext: bytes, context: bytes) -> bytes:  # noqa: ARG002 - the contract's signature
        """Return the plaintext."""
        return plaintext

    def open(self, sealed: bytes, context: bytes) -> bytes:  # noqa: ARG002 - the contract's signature
        """Return what was sealed."""
        return sealed

    def address(self, plaintext: bytes) -> str:
        """Return the SHA-256 of the content."""
        return hashlib.sha256(plaintext).hexdigest()
