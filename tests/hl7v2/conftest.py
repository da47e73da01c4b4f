"""A running MLLP server, raw sockets to it, and the context of a conversion."""

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from fhir_adapter.hl7v2.ack import acknowledge
from fhir_adapter.hl7v2.conversion import Context
from fhir_adapter.hl7v2.framing import Deframer
from fhir_adapter.hl7v2.message import Message
from fhir_adapter.hl7v2.mllp import MllpLimits, MllpServer, Peer, in_thread
from fhir_adapter.patient_identity import IdentifierConventions, PatientIdentities
from kernel.testing import FakeClock, SequenceIds
from privacy.pseudonyms import Pseudonyms

Start = Callable[..., MllpServer]


def accept(raw: bytes, _peer: Peer) -> bytes:
    return acknowledge(raw, "AA", control_id="A1", at=datetime(2026, 1, 15, 12, tzinfo=UTC))


class Sender:
    """A sender of raw bytes, well-formed or not."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._deframer = Deframer(1 << 20)

    def send(self, data: bytes) -> "Sender":
        self.socket.sendall(data)
        return self

    def answer(self) -> Message:
        """Return the next acknowledgement; EOFError when the server closed instead."""
        while (found := self._deframer.next()) is None:
            arrived = self.socket.recv(65_536)
            if not arrived:
                raise EOFError
            self._deframer.feed(arrived)
        assert isinstance(found, bytes)
        return Message.parse(found)

    def acknowledgement(self) -> tuple[str, str]:
        """Return MSA-1 and MSA-2 of the next acknowledgement."""
        msa = self.answer().first("MSA")
        assert msa
        return msa.get(1), msa.get(2)

    def closed(self) -> bool:
        """Wait until the server has closed the connection."""
        try:
            return self.socket.recv(65_536) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def start(clock: FakeClock, ids: SequenceIds) -> Iterator[Start]:
    started: list[MllpServer] = []

    def start_server(on_message: Callable[[bytes, Peer], bytes] = accept, **limits: float) -> MllpServer:
        server = MllpServer(in_thread(on_message), limits=MllpLimits(**limits), clock=clock, ids=ids)
        server.start("127.0.0.1", 0)
        started.append(server)
        return server

    yield start_server
    for server in started:
        server.close()


@pytest.fixture
def connect() -> Iterator[Callable[[MllpServer], Sender]]:
    opened: list[Sender] = []

    def open_connection(server: MllpServer) -> Sender:
        opened.append(Sender(server.port))
        return opened[-1]

    yield open_connection
    for sender in opened:
        sender.socket.close()


@pytest.fixture
def context() -> Context:
    pseudonyms = Pseudonyms(b"k" * 32)
    conventions = IdentifierConventions(
        default_authority="HOSPITAL", systems={"NHS": "https://fhir.nhs.uk/Id/nhs-number"}
    )
    return Context(
        pseudonyms=pseudonyms,
        identities=PatientIdentities(conventions, pseudonyms),
        zone=timezone(timedelta(hours=1)),
    )
