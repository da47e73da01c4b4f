"""MLLP framing (HL7 MLLP Release 1): VT, the message, FS, CR.

VT and FS cannot occur inside a message, so FS alone ends a frame and bytes before the next VT are ignored. A
:class:`Deframer` splits a stream of bytes into messages and flaws; after a flaw it continues at the next VT.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from kernel.errors import Category, Problem

VT: Final = b"\x0b"
FS: Final = b"\x1c"
END: Final = b"\x1c\r"

_HEAD: Final = 16_384
"""Bytes of a refused message that are kept, so that its acknowledgement can contain its control id."""


def frame(message: bytes) -> bytes:
    """Return ``message`` inside an MLLP frame."""
    return VT + message + END


@dataclass(frozen=True)
class Flaw:
    """A frame that cannot be accepted and must still be acknowledged."""

    #: Why it cannot be accepted.
    problem: Problem
    #: The first bytes of the frame.
    head: bytes


class _State(Enum):
    OUTSIDE = auto()
    INSIDE = auto()
    SKIPPING = auto()


class Deframer:
    """Splits a stream of bytes into frames.

    Parameters
    ----------
    largest
        Length of the longest accepted message, in bytes.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._buffer = bytearray()
        self._seen = 0  # bytes of the buffer already searched, so that a message in many parts is searched once
        self._state = _State.OUTSIDE

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._buffer += data

    def __len__(self) -> int:
        return len(self._buffer)

    @property
    def unfinished(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._state is not _State.OUTSIDE

    @property
    def unanswered(self) -> bool:
        """Whether a frame has begun that was neither ended nor refused, so that it must still be acknowledged."""
        return self._state is _State.INSIDE

    def next(self) -> bytes | Flaw | None:
        """Return the next message or flaw; None when more bytes are needed."""
        if self._state is _State.OUTSIDE:
            flaw = self._enter()
            if flaw or self._state is _State.OUTSIDE:
                return flaw
        if self._state is _State.SKIPPING and not self._skip():
            return None
        return self._collect() if self._state is _State.INSIDE else self.next()

    def refuse(self, problem: Problem) -> Flaw:
        """Refuse the unfinished frame; its remaining bytes are skipped as they arrive."""
        flaw = Flaw(problem, bytes(self._buffer[:_HEAD]))
        if self._state is _State.INSIDE:
            self._state = _State.SKIPPING
        self._drop(len(self._buffer))
        return flaw

    def _enter(self) -> Flaw | None:
        while True:
            start = self._buffer.find(VT)
            end = self._buffer.find(FS, 0, start if start >= 0 else len(self._buffer))
            if end < 0:
                break
            head = bytes(self._buffer[: min(end, _HEAD)]).strip()
            self._drop(end + 1)
            if head:
                return Flaw(Problem(Category.INCORRECT, "the frame does not begin with VT (0x0B)"), head)
        if start >= 0:
            self._drop(start + 1)
            self._state = _State.INSIDE
        elif len(self._buffer) > _HEAD:
            self._drop(len(self._buffer) - _HEAD)
        return None

    def _collect(self) -> bytes | Flaw | None:
        end = self._buffer.find(FS, self._seen)
        again = self._buffer.find(VT, self._seen, end if end >= 0 else len(self._buffer))
        if again >= 0:
            head = bytes(self._buffer[: min(again, _HEAD)])
            self._drop(again + 1)
            return Flaw(Problem(Category.INCORRECT, "the message was cut off by the start of another"), head)
        if (end if end >= 0 else len(self._buffer)) > self._largest:
            problem = Problem(Category.INCORRECT, f"the message is larger than {self._largest} bytes")
            if end < 0:
                return self.refuse(problem)
            head = bytes(self._buffer[:_HEAD])
            self._leave(end)
            return Flaw(problem, head)
        if end < 0:
            self._seen = len(self._buffer)
            return None
        message = bytes(self._buffer[:end])
        self._leave(end)
        return message

    def _skip(self) -> bool:
        ends = [at for at in (self._buffer.find(FS), self._buffer.find(VT)) if at >= 0]
        if not ends:
            self._drop(len(self._buffer))
            return False
        if self._buffer[min(ends)] == VT[0]:
            self._drop(min(ends) + 1)
            self._state = _State.INSIDE
        else:
            self._leave(min(ends))
        return True

    def _leave(self, end: int) -> None:
        self._drop(end + 1)
        self._state = _State.OUTSIDE

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._seen = 0
