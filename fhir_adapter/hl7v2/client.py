"""The sending side of MLLP: one connection, and one message at a time that waits for its acknowledgement.

After a timeout the connection is closed. Otherwise a late acknowledgement would be taken for that of the next message,
whose loss would then go unnoticed.
"""

import select
import socket
import threading
import time
from dataclasses import dataclass
from typing import Final

from fhir_adapter.hl7v2.framing import Deframer, Flaw, frame
from fhir_adapter.hl7v2.header import header
from fhir_adapter.hl7v2.message import Message
from kernel.errors import Category, PeerProblem, Problem

_LARGEST_ANSWER: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long the sender waits, in seconds."""

    #: For the connection.
    connect_s: float = 10.0
    #: For the acknowledgement of one message, from its first byte sent.
    answer_s: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The positive acknowledgement of a message."""

    #: MSA-1, ``AA`` or ``CA``.
    code: str
    #: MSA-2, which is the MSH-10 that was sent.
    control_id: str
    #: The acknowledgement as it arrived.
    raw: bytes


class MllpClient:
    """Sends messages to one receiver over one persistent connection.

    Parameters
    ----------
    host, port
        Address of the receiver.
    timeouts
        How long to wait; the defaults when None.
    """

    def __init__(self, host: str, port: int, timeouts: Timeouts | None = None) -> None:
        self._address = (host, port)
        self._timeouts = timeouts or Timeouts()
        self._guard = threading.Lock()
        self._socket: socket.socket | None = None

    def send(self, message: bytes) -> Receipt:
        """Send one message and wait for its acknowledgement.

        Raises
        ------
        Problem
            ``incorrect`` when the receiver answers AE: the message itself must change. ``unavailable`` when it answers
            AR, answers anything else, does not answer in time, or cannot be reached: the same message may be sent
            again, and the receiver recognises a repetition by its MSH-10.
        """
        control_id = header(message).control_id
        with self._guard:
            try:
                connected = self._connected()
            except OSError as failure:
                raise PeerProblem(
                    Category.UNAVAILABLE, "the HL7 receiver cannot be reached", diagnostics=str(failure), whole=True
                ) from failure
            try:
                answer = self._exchange(connected, frame(message))
                return _receipt(answer, control_id)
            except OSError as failure:
                self._drop()
                raise PeerProblem(
                    Category.UNAVAILABLE, "the HL7 receiver did not answer in time", diagnostics=str(failure)
                ) from failure
            except _Mismatch as failure:
                self._drop()
                raise Problem(Category.UNAVAILABLE, f"the HL7 receiver sent {failure}") from failure

    def close(self) -> None:
        """Close the connection."""
        with self._guard:
            self._drop()

    def _exchange(self, connected: socket.socket, framed: bytes) -> bytes:
        until = time.monotonic() + self._timeouts.answer_s
        connected.settimeout(self._timeouts.answer_s)
        connected.sendall(framed)
        deframer = Deframer(_LARGEST_ANSWER)
        while (found := deframer.next()) is None:
            connected.settimeout(max(until - time.monotonic(), 0.001))
            arrived = connected.recv(65_536)
            if not arrived:
                raise ConnectionResetError("closed before the acknowledgement")
            deframer.feed(arrived)
        if isinstance(found, Flaw):
            raise _Mismatch("an acknowledgement with broken framing")
        return found

    def _connected(self) -> socket.socket:
        # If the socket is readable before a request, the peer closed it or a late acknowledgement arrived.
        if self._socket and select.select([self._socket], [], [], 0)[0]:
            self._drop()
        if self._socket is None:
            self._socket = socket.create_connection(self._address, self._timeouts.connect_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def _drop(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None


class _Mismatch(Exception):
    """The reply is not the acknowledgement of the message that was sent."""


def _receipt(answer: bytes, control_id: str) -> Receipt:
    try:
        msa = Message.parse(answer).first("MSA")
    except Problem as unreadable:
        raise _Mismatch("something that is not an acknowledgement") from unreadable
    if msa is None:
        raise _Mismatch("an acknowledgement without MSA")
    code = msa.get(1)
    if msa.get(2) != control_id:
        raise _Mismatch("the acknowledgement of another message")
    if code in ("AA", "CA"):
        return Receipt(code=code, control_id=control_id, raw=answer)
    # The receiver's text may quote the message, so it stays on this host.
    diagnostics = answer.decode("utf-8", "replace")
    if code in ("AE", "CE"):
        raise PeerProblem(Category.INCORRECT, f"the HL7 receiver refused the message ({code})", diagnostics=diagnostics)
    if code in ("AR", "CR"):
        raise PeerProblem(
            Category.UNAVAILABLE, f"the HL7 receiver rejected the message for now ({code})", diagnostics=diagnostics
        )
    raise _Mismatch("an acknowledgement with an unknown code")
