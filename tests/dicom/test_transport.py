"""A connection's bytes are taken as they arrive, and every wait for them ends (PS3.8 section 9.1.4)."""

import queue
import random
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from dicom_node.listener.limits import DicomLimits
from dicom_node.listener.transport import BUFFER, FIRST_BUFFER, Transport


@pytest.fixture
def pair() -> Iterator[tuple[Transport, socket.socket]]:
    """A connection over TCP: our end, and the peer's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    events = SimpleNamespace(event_queue=queue.SimpleQueue())
    with peer, ours:
        yield Transport(SimpleNamespace(dul=events, ae=None), ours, DicomLimits(send_s=0.2)), peer


def soon() -> float:
    return time.monotonic() + 10


@pytest.mark.parametrize("seed", range(5))
def test_bytes_are_read_in_their_order_however_they_arrive(pair: tuple[Transport, socket.socket], seed: int) -> None:
    transport, peer = pair
    choice = random.Random(seed)
    sent = choice.randbytes(3 * BUFFER)

    def send() -> None:
        at = 0
        while at < len(sent):
            size = choice.choice([1, 5, 700, 20_000, 200_000])
            peer.sendall(sent[at : at + size])
            at += size
        peer.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    received, sizes = bytearray(), random.Random(-seed)
    received += transport.read(1, deadline=soon())
    transport.expect_instances()
    while len(received) < len(sent):
        size = min(sizes.choice([1, 5, FIRST_BUFFER + 1, 130_000, BUFFER + 1]), len(sent) - len(received))
        received += transport.read(size, deadline=soon())
    sender.join()
    assert bytes(received) == sent
    with pytest.raises(ConnectionError):
        transport.read(1, deadline=soon())


def test_what_has_arrived_together_is_one_read_of_the_socket(
    pair: tuple[Transport, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, peer = pair
    reads: list[int] = []
    real = Transport._read_some

    def count(self: Transport, view: memoryview, deadline: float) -> int:
        reads.append(real(self, view, deadline))
        return reads[-1]

    monkeypatch.setattr(Transport, "_read_some", count)
    peer.sendall(bytes(600))
    while transport.socket.recv(600, socket.MSG_PEEK | socket.MSG_WAITALL) != bytes(600):
        pass
    for _ in range(100):
        transport.read(6, deadline=soon())
    assert reads == [600]


def test_a_peer_that_sends_a_byte_at_a_time_does_not_move_the_deadline(pair: tuple[Transport, socket.socket]) -> None:
    transport, peer = pair
    over = threading.Event()

    def drip() -> None:
        while not over.wait(0.01):
            peer.send(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        transport.read(FIRST_BUFFER, deadline=started + 0.3)
    over.set()
    dripping.join()
    assert time.monotonic() - started < 5


def test_a_deadline_that_has_passed_is_not_a_wait_without_end(pair: tuple[Transport, socket.socket]) -> None:
    transport, _ = pair
    for late_s in (0.0, -1.0, 0.000_000_1):
        with pytest.raises(TimeoutError):
            transport.read(1, deadline=time.monotonic() + late_s)


def test_a_peer_that_does_not_take_its_answer_ends_the_connection(pair: tuple[Transport, socket.socket]) -> None:
    transport, _ = pair
    events: list[str] = []
    transport.assoc.dul.event_queue = SimpleNamespace(put=events.append)
    while not events:
        transport.send(bytes(1_000_000))
    assert events == ["Evt17"]
