"""The sending side, against a real receiver."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

import pytest

from fhir_adapter.hl7v2.client import MllpClient, Timeouts
from fhir_adapter.hl7v2.framing import frame
from fhir_adapter.hl7v2.mllp import Peer
from fhir_adapter.hl7v2.synthesise import SyntheticPatient, adt_a01
from fhir_adapter.hl7v2.testing import StandInEngine
from kernel.errors import Category, Problem

AT = datetime(2026, 1, 15, 12, tzinfo=UTC)
ANN = SyntheticPatient(mrn="7", authority="GEN", family="Doe", given="Ann", birth_date=date(1950, 2, 3), sex="F")


def admission(control_id: str) -> bytes:
    return adt_a01(ANN, control_id, AT)


def ack(code: str, control_id: str) -> bytes:
    return f"MSH|^~\\&|||||2026||ACK|1|P|2.5.1\rMSA|{code}|{control_id}|Doe, Ann unknown\r".encode()


@contextmanager
def client(port: int, answer_s: float = 5) -> Iterator[MllpClient]:
    opened = MllpClient("127.0.0.1", port, Timeouts(connect_s=2, answer_s=answer_s))
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def receiver(*answers: bytes) -> Iterator[int]:
    """Take one connection after another, reading once and answering once on each, with raw bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for answer in answers:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(5)


def test_several_messages_are_sent_over_one_connection(start: Callable[..., Any]) -> None:
    peers: set[str] = set()

    def handler(raw: bytes, peer: Peer) -> bytes:
        peers.add(peer.address)
        return ack("AA", raw.split(b"|")[9].decode())

    with client(start(handler, most_connections=1).port) as sender:
        assert [sender.send(admission(f"M{number}")).control_id for number in range(3)] == ["M0", "M1", "M2"]


@pytest.mark.parametrize(
    ("code", "category"),
    [
        ("AE", Category.INCORRECT),
        ("CE", Category.INCORRECT),
        ("AR", Category.UNAVAILABLE),
        ("CR", Category.UNAVAILABLE),
        ("??", Category.UNAVAILABLE),
    ],
)
def test_refusals_are_permanent_or_not(start: Callable[..., Any], code: str, category: Category) -> None:
    server = start(lambda _raw, _peer: ack(code, "M1"))
    with client(server.port) as sender, pytest.raises(Problem) as raised:
        sender.send(admission("M1"))
    assert raised.value.category is category
    assert "Doe" not in raised.value.detail


def test_the_acknowledgement_of_another_message_is_no_receipt() -> None:
    with receiver(frame(ack("AA", "OTHER")), frame(ack("AA", "M2"))) as port, client(port) as sender:
        with pytest.raises(Problem) as raised:
            sender.send(admission("M1"))
        assert raised.value.category is Category.UNAVAILABLE
        assert sender.send(admission("M2")).control_id == "M2"


def test_an_answer_after_the_timeout_is_not_taken_for_the_next_messages(start: Callable[..., Any]) -> None:
    release = threading.Event()

    def handler(raw: bytes, _peer: Peer) -> bytes:
        control_id = raw.split(b"|")[9].decode()
        if control_id == "LATE":
            release.wait(10)
        return ack("AA", control_id)

    with client(start(handler).port, answer_s=0.2) as sender:
        with pytest.raises(Problem) as raised:
            sender.send(admission("LATE"))
        assert raised.value.category is Category.UNAVAILABLE
        release.set()
        assert sender.send(admission("NEXT")).control_id == "NEXT"


@pytest.mark.parametrize("answer", [b"", b"\x0b\x1c\r", frame(b"HTTP/1.1 200"), b"junk\x1c\r", frame(b"MSH|^~\\&|\r")])
def test_a_reply_that_is_not_an_acknowledgement_is_not_a_receipt(answer: bytes) -> None:
    with receiver(answer) as port, client(port) as sender, pytest.raises(Problem) as raised:
        sender.send(admission("M1"))
    assert raised.value.category is Category.UNAVAILABLE


def test_a_port_without_a_listener_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with client(port) as sender, pytest.raises(Problem) as raised:
        sender.send(admission("M1"))
    assert raised.value.category is Category.UNAVAILABLE


def test_a_client_reconnects_to_a_restarted_receiver() -> None:
    with receiver(frame(ack("AA", "M1")), frame(ack("AA", "M2"))) as port, client(port) as sender:
        assert sender.send(admission("M1")).code == "AA"
        assert sender.send(admission("M2")).code == "AA"


def test_the_stand_in_engine_keeps_each_message_once() -> None:
    engine = StandInEngine()
    try:
        with client(engine.port) as sender:
            for control_id in ("M1", "M2", "M1"):
                sender.send(admission(control_id))
        assert [message.header.get(10) for message in engine.received()] == ["M1", "M2"]
        assert engine.deliveries == 3
    finally:
        engine.close()
