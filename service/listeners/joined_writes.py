"""The head of a response and the first bytes of its body in one write.

uvicorn writes them one after the other: two system calls, two packets, and a client that wakes up twice.
"""

from asyncio import Transport
from collections.abc import Callable
from typing import Any, Final

_INTERIM: Final = b"HTTP/1.1 1"
"""How an interim answer (100 Continue) starts; the client waits for it."""


class JoinedWrites:
    """The transport of one request: keeps the first write back until the next one, or the end of the response.

    Parameters
    ----------
    transport
        The transport of the connection.
    completed
        uvicorn's own, called at the end of the response.
    """

    __slots__ = ("_completed", "_is_joined", "_kept", "_transport")

    def __init__(self, transport: Transport, completed: Callable[..., None]) -> None:
        self._transport = transport
        self._completed = completed
        self._kept = b""
        self._is_joined = False

    def write(self, data: bytes) -> None:
        """Write, or keep the head of the response."""
        if self._is_joined:
            self._transport.write(data)
        elif self._kept:
            self._is_joined = True
            self._transport.write(self._kept + data)
            self._kept = b""
        elif data.startswith(_INTERIM):
            self._transport.write(data)
        else:
            self._kept = data

    def close(self) -> None:
        """Write what was kept, and close the connection."""
        self._write_kept()
        self._transport.close()

    def is_closing(self) -> bool:
        """Return whether the connection closes."""
        return self._transport.is_closing()

    def completed(self) -> None:
        """End the response; one without a body is written now."""
        self._write_kept()
        self._completed()

    def _write_kept(self) -> None:
        if self._kept:
            self._is_joined = True
            self._transport.write(self._kept)
            self._kept = b""


def join_writes(cycle: Any) -> None:
    """Have uvicorn write one response in this way.

    Parameters
    ----------
    cycle
        uvicorn's ``RequestResponseCycle``, not yet begun.
    """
    joined = JoinedWrites(cycle.transport, cycle.on_response)
    cycle.transport, cycle.on_response = joined, joined.completed
