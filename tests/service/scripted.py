"""Receivers on loopback whose answer to each patient is scripted: FHIR over HTTP, and HL7 v2 over MLLP."""

import asyncio
import json
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from starlette.types import Receive, Scope, Send

from fhir_adapter.hl7v2.ack import acknowledge
from fhir_adapter.hl7v2.client import MllpClient
from fhir_adapter.hl7v2.framing import Deframer, frame
from fhir_adapter.testing import LoopbackServer
from kernel.clock import RandomIds, SystemClock
from service.destinations import Destination
from service.destinations.mllp import MllpDestination


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An HTTP response."""

    status: int
    text: str = "{}"
    headers: Mapping[str, str] = field(default_factory=dict)


TOGETHER_S = 20.0
"""How long the EHR waits for requests that must come together."""


class ScriptedEhr:
    """Accepts every transaction, except where ``answers`` has another answer for text in its body.

    Attributes
    ----------
    answers
        Text -> the answer to each transaction that contains it; the empty text is in all of them.
    accepted
        The transactions that were accepted, in order of arrival.
    requests
        All that were sent.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.accepted: list[str] = []
        self.requests: list[str] = []
        self._together: asyncio.Barrier | None = None
        self._alone = 0

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            await self._serve(scope, receive, send)

        self._server = LoopbackServer(serve)
        self.url = f"{self._server.url}/fhir"

    def close(self) -> None:
        self._server.close()

    def answers_together(self, number: int, *, after: int) -> None:
        """From the ``after``-th request on, answer only when so many wait for an answer."""
        self._together, self._alone = asyncio.Barrier(number), after

    def of(self, identifier: str) -> list[str]:
        """Return what was accepted about a patient."""
        return [body for body in self.accepted if f"|{identifier}" in body]

    def asked(self, identifier: str) -> int:
        """Return how often something about a patient was sent."""
        return sum(f"|{identifier}" in body for body in self.requests)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        text = body.decode()
        self.requests.append(text)
        if self._together is not None and len(self.requests) > self._alone:
            await asyncio.wait_for(self._together.wait(), TOGETHER_S)
        answer = next((answer for part, answer in self.answers.items() if part in text), None)
        answer = answer or self._accept(text)
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.text.encode()})

    def _accept(self, text: str) -> Answer:
        self.accepted.append(text)
        entries = [{"response": {"status": "201 Created"}} for _ in json.loads(text)["entry"]]
        return Answer(status=200, text=json.dumps({"resourceType": "Bundle", "entry": entries}))


Reply = Callable[[bytes], bytes | None]


def accept(raw: bytes) -> bytes | None:
    return acknowledge(raw, "AA", control_id=RandomIds().new(), at=SystemClock().now())


def reject(raw: bytes) -> bytes | None:
    """AR with an ERR segment that quotes the patient's name."""
    control_id = raw.split(b"\r", 1)[0].split(b"|")[9]
    return b"\r".join(
        (
            b"MSH|^~\\&|ENGINE|H|A|A|20260115||ACK|1|P|2.5.1",
            b"MSA|AR|" + control_id,
            b"ERR|||207^x^HL70357|E||||no visit for Mrs PHI",
            b"",
        )
    )


def garble(_raw: bytes) -> bytes | None:
    return b"what?"


def stay_silent(_raw: bytes) -> bytes | None:
    return None


def replace_client(destination: Destination, client: MllpClient) -> None:
    """Have a destination of kind ``mllp`` send with another client."""
    assert isinstance(destination, MllpDestination)
    destination._clients = (client,)
    destination._idle = queue.SimpleQueue()
    destination._idle.put(client)


class ScriptedEngine:
    """Answers AA to every message, except where ``replies`` has another reply for text in it.

    Attributes
    ----------
    replies
        Text -> the reply to each message that contains it.
    accepted
        The messages that were answered with AA, in order of arrival.
    arrived
        All that were sent.
    """

    def __init__(self) -> None:
        self.replies: dict[bytes, Reply] = {}
        self.accepted: list[bytes] = []
        self.arrived: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._listening.close()
        for connection in self._open:
            with suppress(OSError):  # it has been closed at the other end
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def about(self, identifier: str) -> list[bytes]:
        """Return what was accepted about a patient."""
        return [message for message in self.accepted if f"|{identifier}^".encode() in message]

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        deframer = Deframer(1 << 20)
        try:
            while arrived := connection.recv(65_536):
                deframer.feed(arrived)
                while isinstance(found := deframer.next(), bytes):
                    self._answer(connection, found)
        except OSError:
            return

    def _answer(self, connection: socket.socket, raw: bytes) -> None:
        self.arrived.append(raw)
        reply = next((reply for part, reply in self.replies.items() if part in raw), accept)
        if reply is accept:
            self.accepted.append(raw)
        answer = reply(raw)
        if answer is not None:
            connection.sendall(frame(answer))
