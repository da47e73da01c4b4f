"""A test double for the hospital's interface engine: a real MLLP receiver that stores the received messages."""

import threading

from fhir_adapter.hl7v2.ack import acknowledge
from fhir_adapter.hl7v2.header import header
from fhir_adapter.hl7v2.message import Message
from fhir_adapter.hl7v2.mllp import MllpLimits, MllpServer, Peer, in_thread
from kernel.clock import RandomIds, SystemClock


class StandInEngine:
    """Receives on a loopback port, answers AA, and treats a repeated MSH-10 as the same message.

    Parameters
    ----------
    port
        Port to listen on; by default a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self._clock = SystemClock()
        self._ids = RandomIds()
        self._guard = threading.Lock()
        self._kept: dict[str, bytes] = {}
        self._deliveries = 0
        self._server = MllpServer(in_thread(self._take), limits=MllpLimits(workers=2), clock=self._clock, ids=self._ids)
        self._server.start("127.0.0.1", port)

    @property
    def port(self) -> int:
        """Port that it listens on."""
        return self._server.port

    @property
    def deliveries(self) -> int:
        """How many messages arrived, repetitions included."""
        with self._guard:
            return self._deliveries

    def received(self) -> list[Message]:
        """Return each message once, in order of its first arrival."""
        with self._guard:
            return [Message.parse(raw) for raw in self._kept.values()]

    def close(self) -> None:
        """Stop listening."""
        self._server.close()

    def _take(self, raw: bytes, _peer: Peer) -> bytes:
        control_id = header(raw).control_id
        with self._guard:
            self._deliveries += 1
            self._kept.setdefault(control_id, raw)
        return acknowledge(raw, "AA", control_id=self._ids.new(), at=self._clock.now())
