"""Two pipes between two processes, of which neither side waits longer than until a deadline."""

import fcntl
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_AT_A_TIME: Final = 1 << 20
"""Bytes of one call."""


class Line:
    """The server's ends of a pipe in each direction.

    Parameters
    ----------
    reading, writing
        Descriptors, which it closes.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        for end in (reading, writing):
            os.set_blocking(end, False)

    def send(self, content: bytes | bytearray | memoryview, deadline: float) -> None:
        """Send bytes.

        Parameters
        ----------
        content
            What is sent.
        deadline
            An instant of ``time.monotonic``.

        Raises
        ------
        TimeoutError
            When the other side has not taken them by then.
        BrokenPipeError
            When there is no other side.
        """
        left = memoryview(content)
        while left:
            _wait(self._writing, select.POLLOUT, deadline)
            with suppress(BlockingIOError):
                left = left[os.write(self._writing, left[:_AT_A_TIME]) :]

    def receive(self, count: int, deadline: float) -> bytearray:
        """Return so many bytes.

        Parameters
        ----------
        count
            How many.
        deadline
            An instant of ``time.monotonic``.

        Raises
        ------
        TimeoutError
            When they are not there by then.
        EOFError
            When the other side has closed before.
        """

        def read(into: memoryview) -> int:
            _wait(self._reading, select.POLLIN, deadline)
            return os.readv(self._reading, [into])

        return filled(count, read)

    def close(self) -> None:
        """Close both ends; once more changes nothing."""
        ends, self._reading, self._writing = (self._reading, self._writing), -1, -1
        for end in ends:
            if end >= 0:
                os.close(end)


def filled(count: int, read: Callable[[memoryview], int]) -> bytearray:
    """Return so many bytes.

    Parameters
    ----------
    count
        How many.
    read
        Fills the beginning of a buffer and returns how many bytes it has written; 0 at the end.

    Raises
    ------
    EOFError
        When the end comes before.
    """
    found = bytearray(count)
    left = memoryview(found)
    while left:
        with suppress(BlockingIOError):
            size = read(left[:_AT_A_TIME])
            if not size:
                raise EOFError
            left = left[size:]
    return found


def widen(end: int) -> None:
    """Let a pipe hold more than 64 KiB, where the system's limit permits it: each change of process costs."""
    with suppress(OSError):
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _AT_A_TIME)


def _wait(end: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(end, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError
