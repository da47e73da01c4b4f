"""The MLLP listener answers each frame once, in order, and a bad sender does not affect others."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from fhir_adapter.hl7v2.framing import frame
from fhir_adapter.hl7v2.mllp import Peer
from kernel.errors import Category, Problem

Start = Callable[..., Any]
Connect = Callable[[Any], Any]


def oru(control_id: str, *, end: str = "\r", padding: int = 0) -> bytes:
    segments = [
        f"MSH|^~\\&|LAB|GEN|AUSCULTA|GEN|20260115120000||ORU^R01^ORU_R01|{control_id}|P|2.5.1",
        "PID|1||123^^^GEN^MR",
        f"OBX|1|ST|X^Y^L||{'x' * padding}||||||F",
    ]
    return end.join(segments).encode() + end.encode()


def test_a_message_is_answered_with_what_the_handler_returns(start: Start, connect: Connect) -> None:
    answer = connect(start()).send(frame(oru("M1"))).answer()
    assert [segment.name for segment in answer.segments] == ["MSH", "MSA"]
    assert answer.segments[1].get(1) == "AA"
    assert answer.segments[1].get(2) == "M1"


def test_the_handler_gets_the_message_and_its_sender(start: Start, connect: Connect) -> None:
    seen: list[tuple[bytes, Peer]] = []

    def handler(raw: bytes, peer: Peer) -> bytes:
        seen.append((raw, peer))
        return b"MSH|^~\\&\rMSA|AA|M1\r"

    connect(start(handler)).send(frame(oru("M1"))).answer()
    assert seen == [(oru("M1"), Peer(address="127.0.0.1"))]


def test_a_message_that_arrives_byte_by_byte_is_one_message(start: Start, connect: Connect) -> None:
    sender = connect(start())
    for byte in frame(oru("M1")):
        sender.send(bytes([byte]))
    assert sender.acknowledgement() == ("AA", "M1")


def test_pipelined_messages_are_answered_in_order(start: Start, connect: Connect) -> None:
    sender = connect(start()).send(b"".join(frame(oru(f"M{number}")) for number in range(300)))
    assert [sender.acknowledgement() for _ in range(300)] == [("AA", f"M{number}") for number in range(300)]


def test_one_connection_has_one_message_with_the_handler(start: Start, connect: Connect) -> None:
    inside = threading.Semaphore(1)
    overlapped: list[bytes] = []

    def handler(raw: bytes, _peer: Peer) -> bytes:
        if not inside.acquire(blocking=False):
            overlapped.append(raw)
        inside.release()
        return b"MSH|^~\\&\rMSA|AA|M1\r"

    sender = connect(start(handler)).send(frame(oru("M1")) * 100)
    for _ in range(100):
        sender.answer()
    assert not overlapped


@pytest.mark.parametrize("noise", [b"\r\n", b"\n\n\n", b"  ", b"\xff\xfe\x00", b"\r\x1c\r"])
def test_bytes_between_frames_are_ignored(start: Start, connect: Connect, noise: bytes) -> None:
    sender = connect(start()).send(noise + frame(oru("M1")) + noise.replace(b"\xff", b"\n") + frame(oru("M2")))
    assert [sender.acknowledgement(), sender.acknowledgement()] == [("AA", "M1"), ("AA", "M2")]


def test_a_frame_ended_by_fs_alone_is_answered(start: Start, connect: Connect) -> None:
    assert connect(start()).send(b"\x0b" + oru("M1") + b"\x1c").acknowledgement() == ("AA", "M1")


def test_segments_ended_by_line_feeds_are_accepted(start: Start, connect: Connect) -> None:
    assert connect(start()).send(frame(oru("M1", end="\n"))).acknowledgement() == ("AA", "M1")


def test_a_frame_without_its_beginning_is_refused(start: Start, connect: Connect) -> None:
    sender = connect(start()).send(oru("M1") + b"\x1c\r")
    assert sender.acknowledgement() == ("AE", "M1")
    assert sender.send(frame(oru("M2"))).acknowledgement() == ("AA", "M2")


def test_a_message_cut_off_by_the_next_is_refused_and_the_next_accepted(start: Start, connect: Connect) -> None:
    sender = connect(start()).send(b"\x0b" + oru("M1")[:90] + frame(oru("M2")))
    assert [sender.acknowledgement(), sender.acknowledgement()] == [("AE", "M1"), ("AA", "M2")]


def test_an_oversized_message_is_refused_once_and_skipped(start: Start, connect: Connect) -> None:
    sender = connect(start(largest_message=10_000)).send(frame(oru("BIG", padding=1_000_000)) + frame(oru("M2")))
    answer = sender.answer()
    assert answer.first("MSA").get(1) == "AE"
    assert answer.first("MSA").get(2) == "BIG"
    assert answer.first("ERR").get(8) == "the message is larger than 10000 bytes"
    assert sender.acknowledgement() == ("AA", "M2")


def test_a_connection_that_ends_inside_a_message_gets_a_refusal(start: Start, connect: Connect) -> None:
    sender = connect(start()).send(b"\x0b" + oru("M1"))
    sender.socket.shutdown(1)
    assert sender.acknowledgement() == ("AR", "M1")
    assert sender.closed()


def test_a_sender_that_closes_its_side_gets_its_answer(start: Start, connect: Connect) -> None:
    sender = connect(start()).send(frame(oru("M1")) + frame(oru("M2")))
    sender.socket.shutdown(1)
    assert [sender.acknowledgement(), sender.acknowledgement()] == [("AA", "M1"), ("AA", "M2")]


def test_a_message_that_never_finishes_is_refused_and_closed(start: Start, connect: Connect) -> None:
    sender = connect(start(message_s=0.2)).send(b"\x0b" + oru("M1"))
    assert sender.acknowledgement() == ("AR", "M1")
    assert sender.closed()


def test_slow_bytes_do_not_extend_the_deadline_of_a_message(start: Start, connect: Connect) -> None:
    sender = connect(start(message_s=0.3)).send(b"\x0bMSH|")
    begun = time.monotonic()
    sender.socket.settimeout(0.01)
    while time.monotonic() - begun < 5:
        try:
            sender.send(b"x")
            if sender.socket.recv(1000):
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    assert time.monotonic() - begun < 3


def test_a_connection_without_messages_is_closed_when_idle(start: Start, connect: Connect) -> None:
    assert connect(start(idle_s=0.1)).closed()


def test_one_connection_too_many_is_closed(start: Start, connect: Connect) -> None:
    server = start(most_connections=2)
    kept = [connect(server), connect(server)]
    assert [sender.send(frame(oru("M1"))).acknowledgement() for sender in kept] == [("AA", "M1")] * 2
    assert connect(server).closed()
    assert kept[0].send(frame(oru("M2"))).acknowledgement() == ("AA", "M2")


def test_large_messages_are_refused_as_busy_when_all_together_are_too_many(start: Start, connect: Connect) -> None:
    sender = connect(start(most_buffered=1_500_000)).send(frame(oru("BIG", padding=4_000_000)))
    assert sender.acknowledgement() == ("AR", "BIG")
    assert sender.send(frame(oru("M2"))).acknowledgement() == ("AA", "M2")


def test_a_megabyte_of_random_bytes_does_not_affect_other_senders(start: Start, connect: Connect) -> None:
    server = start()
    garbage = connect(server).send(bytes(byte for byte in range(256) if byte not in (0x0B, 0x1C)) * 4100)
    assert connect(server).send(frame(oru("M1"))).acknowledgement() == ("AA", "M1")
    assert garbage.send(frame(oru("M2"))).acknowledgement() == ("AA", "M2")


def test_many_end_marks_without_a_message_do_not_affect_other_senders(start: Start, connect: Connect) -> None:
    assert connect(start()).send(b"\x1c" * 300_000 + frame(oru("M1"))).acknowledgement() == ("AA", "M1")


def test_two_hundred_idle_connections_do_not_delay_another_sender(start: Start, connect: Connect) -> None:
    server = start()
    idle = [connect(server) for _ in range(200)]
    for half in idle[:100]:
        half.send(b"\x0bMSH|^~\\&|")
    sender = connect(server)
    for number in range(50):
        assert sender.send(frame(oru(f"M{number}"))).acknowledgement() == ("AA", f"M{number}")


def test_a_slow_handler_does_not_hold_up_other_connections(start: Start, connect: Connect) -> None:
    release = threading.Event()

    def handler(raw: bytes, _peer: Peer) -> bytes:
        if b"SLOW" in raw:
            release.wait(10)
        return b"MSH|^~\\&\rMSA|AA|M1\r"

    server = start(handler, workers=2)
    slow = connect(server).send(frame(oru("SLOW")))
    connect(server).send(frame(oru("M1"))).answer()
    release.set()
    assert slow.answer()


def test_a_sender_that_reads_no_answers_is_not_read_from(start: Start, connect: Connect) -> None:
    handled = threading.Semaphore(0)
    long_answer = b"MSH|^~\\&\rMSA|AA|M1|" + b"x" * 200_000 + b"\r"

    def handler(_raw: bytes, _peer: Peer) -> bytes:
        handled.release()
        return long_answer

    sender = connect(start(handler))
    sender.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        sender.send(frame(oru("M1", padding=2_000)) * 5_000)
    answered = 0
    while handled.acquire(timeout=0.2):
        answered += 1
    assert answered < 500


@pytest.mark.parametrize(
    ("category", "code", "error"),
    [
        (Category.INCORRECT, "AE", "102"),
        (Category.CONFLICT, "AE", "205"),
        (Category.NOT_FOUND, "AE", "204"),
        (Category.UNSUPPORTED, "AR", "200"),
        (Category.FORBIDDEN, "AR", "207"),
        (Category.BUSY, "AR", "207"),
        (Category.UNAVAILABLE, "AR", "207"),
        (Category.INTERRUPTED, "AR", "207"),
        (Category.FAULT, "AR", "207"),
    ],
)
def test_a_problem_is_reported_in_msa_and_err(
    start: Start, connect: Connect, category: Category, code: str, error: str
) -> None:
    def handler(_raw: bytes, _peer: Peer) -> bytes:
        raise Problem(category, "PID-3 identifies no patient", diagnostics="MUELLER")

    answer = connect(start(handler)).send(frame(oru("M1"))).answer()
    msa, err = answer.first("MSA"), answer.first("ERR")
    assert (msa.get(1), msa.get(2), err.get(3), err.get(4)) == (code, "M1", error, "E")
    assert err.get(8) == "PID-3 identifies no patient"
    assert err.raw(2) == "PID^1^3"


@pytest.mark.parametrize("failure", [ValueError("Mueller, born 1950"), SystemExit(3), RecursionError()])
def test_an_exception_of_the_handler_is_answered_without_its_text(
    start: Start, connect: Connect, failure: BaseException
) -> None:
    def handler(_raw: bytes, _peer: Peer) -> bytes:
        raise failure

    sender = connect(start(handler)).send(frame(oru("M1")))
    answer = sender.answer()
    assert answer.first("MSA").get(1) in ("AR", "AE")
    assert answer.first("MSA").get(2) == "M1"
    assert "Mueller" not in "".join(segment.raw(8) for segment in answer.all("ERR"))


@pytest.mark.parametrize("garbage", [b"", b"\x00\xff" * 500, b"MSH", b"MSH|", b"MSH|^~\\&|\xff", b"hello", b"MSHAAAA"])
def test_a_frame_with_any_content_is_answered(start: Start, connect: Connect, garbage: bytes) -> None:
    def handler(_raw: bytes, _peer: Peer) -> bytes:
        raise Problem(Category.INCORRECT, "unreadable")

    assert connect(start(handler)).send(frame(garbage)).acknowledgement()[0] == "AE"


def test_close_answers_the_message_under_way(start: Start, connect: Connect) -> None:
    entered, release = threading.Event(), threading.Event()

    def handler(_raw: bytes, _peer: Peer) -> bytes:
        entered.set()
        release.wait(10)
        return b"MSH|^~\\&\rMSA|AA|M1\r"

    server = start(handler)
    idle = connect(server)
    sender = connect(server).send(frame(oru("M1")))
    entered.wait(10)
    closing = threading.Thread(target=server.close)
    closing.start()
    assert idle.closed()
    release.set()
    closing.join()
    assert sender.acknowledgement() == ("AA", "M1")
    assert sender.closed()


def test_start_raises_when_the_address_is_in_use(start: Start, clock: Any, ids: Any) -> None:
    from fhir_adapter.hl7v2.mllp import MllpLimits, MllpServer, in_thread

    taken = start()
    second = MllpServer(in_thread(lambda raw, _peer: raw), limits=MllpLimits(), clock=clock, ids=ids)
    with pytest.raises(OSError, match="in use"):
        second.start("127.0.0.1", taken.port)
