"""The MLLP listener: a server that answers every frame (HL7 MLLP Release 1).

One thread runs an event loop, and the handler on it, which awaits the commit of a message; what takes long it gives to
the loop's bounded pool of threads. Each connection is served strictly in order, one message at a time, and is not read
from meanwhile, so that messages stay in order and memory is bounded.
"""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeAlias

from fhir_adapter.hl7v2.ack import refuse
from fhir_adapter.hl7v2.framing import Deframer, Flaw, frame
from kernel.clock import Clock, Ids
from kernel.errors import Category, Problem, as_problem
from kernel.log import get_logger

_log = get_logger(__name__)

_SMALL: Final = 1 << 20
"""A connection with fewer buffered bytes than this is never refused because of the total."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Who sent a message."""

    #: Network address, without the port.
    address: str


@dataclass(frozen=True, kw_only=True)
class MllpLimits:
    """Bounds on the use of the server by one sender and by all senders."""

    #: Longest message in bytes.
    largest_message: int = 64 << 20
    #: Longest time without a message, in seconds.
    idle_s: float = 3600.0
    #: Longest time from the first byte of a message to its last, in seconds.
    message_s: float = 60.0
    #: Connections at the same time; one more is closed immediately.
    most_connections: int = 512
    #: Threads for what the handler does not do on the event loop.
    workers: int = 16
    #: Bytes of unfinished messages over all connections; beyond it, large ones are refused as ``busy``.
    most_buffered: int = 256 << 20
    #: Longest time that ``close`` waits for running handlers, in seconds.
    drain_s: float = 10.0


Handler: TypeAlias = Callable[[bytes, Peer], Awaitable[bytes]]


def in_thread(handler: Callable[[bytes, Peer], bytes]) -> Handler:
    """Return a handler that runs a function which waits, or computes for long, in a thread.

    Parameters
    ----------
    handler
        Takes a message and its sender, and returns the acknowledgement.
    """

    async def handle(message: bytes, peer: Peer) -> bytes:
        return await asyncio.to_thread(handler, message, peer)

    return handle


class MllpServer:
    """Receives messages and answers them with what the handler returns.

    Parameters
    ----------
    on_message
        Awaited on the event loop with the content of one frame and its sender; returns the acknowledgement. When it
        raises, the answer is a negative acknowledgement.
    limits
        Bounds on size, time and number.
    clock, ids
        For MSH-7 and MSH-10 of the refusals that the server writes itself.
    """

    def __init__(self, on_message: Handler, *, limits: MllpLimits, clock: Clock, ids: Ids) -> None:
        self.limits = limits
        self._on_message = on_message
        self._clock = clock
        self._ids = ids
        self._loop = asyncio.new_event_loop()
        self._pool = ThreadPoolExecutor(limits.workers, thread_name_prefix="mllp")
        self._loop.set_default_executor(self._pool)
        self._thread = threading.Thread(target=self._loop.run_forever, name="mllp-loop", daemon=True)
        self._connections: set[_Connection] = set()
        self._listener: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._closed = False
        self.port = 0

    def start(self, host: str, port: int) -> None:
        """Start the event loop and listen for connections.

        Parameters
        ----------
        host
            Name or address to listen on.
        port
            TCP port; 0 for any free one, which :attr:`port` then gives.

        Raises
        ------
        OSError
            The address cannot be listened on.
        """
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._open(host, port), self._loop).result()
        except OSError:
            self.close()
            raise
        _log.info("mllp.listening", host=host, port=self.port)

    def close(self) -> None:
        """Stop: the messages that the handler processes are answered, then every connection is closed."""
        if self._closed:
            return
        self._closed = True
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result()
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def register(self, connection: "_Connection") -> bool:
        """Register a new connection, unless there are too many; called by the connection."""
        if len(self._connections) >= self.limits.most_connections:
            _log.warning("mllp.too_many_connections", limit=self.limits.most_connections)
            return False
        self._connections.add(connection)
        return True

    def unregister(self, connection: "_Connection") -> None:
        """Remove a connection; called by the connection."""
        self._connections.discard(connection)

    def buffered(self) -> int:
        """Return how many bytes of unfinished messages all connections hold."""
        return sum(len(connection.deframer) for connection in self._connections)

    def refusal(self, head: bytes, problem: Problem) -> bytes:
        """Write the negative acknowledgement of a message.

        Parameters
        ----------
        head
            The message, or its first bytes.
        problem
            Why the message is refused.
        """
        _log.warning("mllp.refused", category=problem.category)
        return refuse(head, problem, control_id=self._ids.new(), at=self._clock.now())

    def answer(self, message: bytes, peer: Peer) -> "asyncio.Task[bytes]":
        """Run the handler; the task never fails.

        Parameters
        ----------
        message
            The message without its MLLP framing.
        peer
            Who sent it.
        """
        return self._loop.create_task(self._handle(message, peer))

    async def _handle(self, message: bytes, peer: Peer) -> bytes:
        try:
            return await self._on_message(message, peer)
        except BaseException as failure:  # noqa: BLE001 - whatever the handler did, the sender waits for an answer
            if not isinstance(failure, Problem):
                _log.error("mllp.handler_failed", failure=failure)
            return self.refusal(message, as_problem(failure))

    async def _open(self, host: str, port: int) -> None:
        self._listener = await self._loop.create_server(lambda: _Connection(self), host, port, backlog=512)
        self.port = self._listener.sockets[0].getsockname()[1]
        self._sweeper = self._loop.create_task(self._sweep())

    async def _sweep(self) -> None:
        period = min(self.limits.idle_s, self.limits.message_s, 4.0) / 4
        while True:
            await asyncio.sleep(period)
            now = self._loop.time()
            for connection in list(self._connections):
                connection.tick(now)

    async def _drain(self) -> None:
        if self._listener:
            self._listener.close()
        if self._sweeper:
            self._sweeper.cancel()
        for connection in list(self._connections):
            connection.finish()
        until = self._loop.time() + self.limits.drain_s
        while self._connections and self._loop.time() < until:
            await asyncio.sleep(0.005)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # the transports report their end while the loop still runs


class _Connection(asyncio.Protocol):
    """One sender. Either it is read from, or one of its messages is with the handler; never both."""

    def __init__(self, server: MllpServer) -> None:
        self._server = server
        self.deframer = Deframer(server.limits.largest_message)
        self._transport: asyncio.Transport
        self._loop = asyncio.get_running_loop()
        self._peer = Peer(address="")
        self._busy = False
        self._choked = False
        self._ending = False
        self._lost = False
        self._deadline = self._loop.time() + server.limits.idle_s
        self._timed_unfinished: bool | None = False  # the wait that the deadline was set for; None: set it again

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._peer = Peer(address=str((transport.get_extra_info("peername") or ("",))[0]))
        if connected := transport.get_extra_info("socket"):
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if not self._server.register(self):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._lost = True
        self._server.unregister(self)

    def data_received(self, data: bytes) -> None:
        self.deframer.feed(data)
        if not self._busy and not self._choked:
            self._advance()
        self._control_reading()

    def eof_received(self) -> bool:
        """Answer an unfinished message: the sender has closed its side, but may still read."""
        self._ending = True
        if not self._busy:
            self._end()
        return True

    def pause_writing(self) -> None:
        """Stop serving a sender that does not read its acknowledgements."""
        self._choked = True
        self._timed_unfinished = None
        self._deadline = self._loop.time() + self._server.limits.idle_s
        self._control_reading()

    def resume_writing(self) -> None:
        self._choked = False
        if not self._busy:
            self._advance()
        self._control_reading()

    def tick(self, now: float) -> None:
        """Close the connection when its deadline has passed."""
        if self._busy or now < self._deadline:
            return
        if self._choked:
            self.abort()
            return
        if self.deframer.unanswered:
            late = f"the message did not end within {self._server.limits.message_s:g} seconds"
            self._refuse(self.deframer.refuse(Problem(Category.INTERRUPTED, late)))
        self._transport.close()

    def finish(self) -> None:
        """Close as soon as no message is with the handler."""
        self._ending = True
        if not self._busy:
            self._transport.close()

    def abort(self) -> None:
        """Close immediately."""
        self._transport.abort()

    def _advance(self) -> None:
        """Answer the flaws before the next complete message, and pass the message to the handler."""
        while (found := self.deframer.next()) is not None and not self._lost:
            self._timed_unfinished = None
            if isinstance(found, Flaw):
                self._refuse(found)
                if self._choked:
                    return
            else:
                self._busy = True
                self._server.answer(found, self._peer).add_done_callback(self._send_answer)
                return
        self._limit_memory()
        self._time()

    def _time(self) -> None:
        """Set the deadline when a wait begins; bytes that arrive during the wait do not move it."""
        unfinished = self.deframer.unfinished
        if unfinished is not self._timed_unfinished:
            self._timed_unfinished = unfinished
            limits = self._server.limits
            self._deadline = self._loop.time() + (limits.message_s if unfinished else limits.idle_s)

    def _send_answer(self, future: "asyncio.Task[bytes]") -> None:
        self._busy = False
        if self._lost:
            return
        self._transport.write(frame(future.result()))
        if self._ending:
            self._end()
        else:
            if not self._choked:
                self._advance()
            self._control_reading()

    def _end(self) -> None:
        """Process the complete messages of a sender that has closed its side, refuse an incomplete one, and close."""
        self._advance()
        if self._busy:
            return
        if self.deframer.unanswered:
            cut = Problem(Category.INTERRUPTED, "the connection ended before the message did")
            self._refuse(self.deframer.refuse(cut))
        self._transport.close()

    def _refuse(self, flaw: Flaw) -> None:
        self._transport.write(frame(self._server.refusal(flaw.head, flaw.problem)))

    def _limit_memory(self) -> None:
        """Refuse a large unfinished message when all unfinished messages together exceed the limit."""
        if len(self.deframer) > _SMALL and self._server.buffered() > self._server.limits.most_buffered:
            full = Problem(Category.BUSY, "too many large messages at once")
            self._refuse(self.deframer.refuse(full))

    def _control_reading(self) -> None:
        if self._lost or self._transport.is_closing():
            return
        if self._busy or self._choked:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
