"""A connection of the DICOM listener: every read and write has a deadline, and one read takes all that has arrived.

A PDU is at least two reads when its header is read apart, and each read of a socket with a timeout lets the interpreter
go twice: with several associations the hand-overs cost more CPU time than the bytes. Here the operating system keeps
the time, and bytes that arrived together are taken together.
"""

import socket
import ssl
import struct
import time
from typing import Any, Final

from pynetdicom.transport import AssociationSocket

from dicom_node.listener.limits import DicomLimits

CONNECTION_CLOSED: Final = "Evt17"
"""Event of the upper layer's state machine (PS3.8 Table 9-8)."""

FIRST_BUFFER: Final = 4 * 1024
"""Bytes of the buffer of a connection until it is established; there may be a thousand of them."""

BUFFER: Final = 512 * 1024
"""Bytes of the buffer of an association: what may arrive while the last instance is being stored."""

_SHORTEST_WAIT_S: Final = 0.001
_TIMEVAL: Final = struct.Struct("@ll")


class Transport(AssociationSocket):  # type: ignore[misc]
    """One accepted connection.

    Parameters
    ----------
    association
        The association that it belongs to.
    connection
        The accepted socket.
    limits
        Bounds on what the peer may send.
    """

    def __init__(self, association: Any, connection: socket.socket, limits: DicomLimits) -> None:
        super().__init__(association, client_socket=connection)
        self._send_s = limits.send_s
        self._is_tls = isinstance(connection, ssl.SSLSocket)
        if not self._is_tls:
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(limits.send_s))
        self._buffer = bytearray(FIRST_BUFFER)
        self._start = self._end = 0

    def expect_instances(self) -> None:
        """Make room for instances: the association is established."""
        self._grow(BUFFER)

    def fill(self, size: int, *, deadline: float) -> None:
        """Wait until ``size`` bytes have arrived.

        Parameters
        ----------
        size
            Number of bytes.
        deadline
            End of the wait, on the monotonic clock.

        Raises
        ------
        TimeoutError
            The deadline passed.
        ConnectionError
            The peer closed the connection.
        """
        if self._end - self._start < size:
            self._make_room(size)
            while self._end - self._start < size:
                with memoryview(self._buffer) as whole, whole[self._end :] as free:
                    self._end += self._read_some(free, deadline)

    def read(self, size: int, *, deadline: float) -> memoryview:
        """Read exactly ``size`` bytes; they are valid until the next read.

        Parameters
        ----------
        size, deadline
            As for :meth:`fill`.

        Raises
        ------
        TimeoutError, ConnectionError
            As :meth:`fill`.
        """
        self.fill(size, deadline=deadline)
        start = self._start
        self._start += size
        return memoryview(self._buffer)[start : self._start]

    def _make_room(self, size: int) -> None:
        if size > len(self._buffer):
            self._grow(size)
        elif self._start == self._end:
            self._start = self._end = 0
        elif self._start + size > len(self._buffer):
            rest = bytes(memoryview(self._buffer)[self._start : self._end])
            self._buffer[: len(rest)] = rest
            self._start, self._end = 0, len(rest)

    def _grow(self, size: int) -> None:
        larger = bytearray(size)
        rest = self._end - self._start
        larger[:rest] = memoryview(self._buffer)[self._start : self._end]
        self._buffer, self._start, self._end = larger, 0, rest

    def _read_some(self, view: memoryview, deadline: float) -> int:
        connection = self.socket
        if connection is None:
            raise ConnectionResetError
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        if self._is_tls:
            connection.settimeout(remaining)
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(remaining))
        try:
            taken: int = connection.recv_into(view)
        except BlockingIOError as late:
            raise TimeoutError from late
        if not taken:
            raise ConnectionResetError
        acknowledge_immediately(connection)
        return taken

    def send(self, bytestream: bytes) -> None:
        """Send ``bytestream``; when the connection is closed, queue Evt17."""
        connection = self.socket
        try:
            if connection is None:
                raise ConnectionResetError
            if self._is_tls:
                connection.settimeout(self._send_s)
            connection.sendall(bytestream)
        except OSError:
            self.event_queue.put(CONNECTION_CLOSED)


def acknowledge_immediately(connection: socket.socket) -> None:
    """Tell the kernel not to delay its next TCP acknowledgements; it lasts for one read only.

    A peer that uses Nagle's algorithm (DCMTK's default) waits about 40 ms for a delayed one, for each instance.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _timeval(seconds: float) -> bytes:
    """Return a time as the socket options take it; none at all would be no limit."""
    whole, rest = divmod(max(seconds, _SHORTEST_WAIT_S), 1)
    return _TIMEVAL.pack(int(whole), int(rest * 1_000_000))
