"""Acknowledgements of messages and of other bytes."""

from datetime import UTC, datetime

import hl7
import pytest

from fhir_adapter.hl7v2.ack import acknowledge, refuse
from kernel.errors import Category, Problem

AT = datetime(2026, 1, 15, 12, 30, 5, tzinfo=UTC)
MSH = b"MSH|^~\\&|LAB|GEN|AUSCULTA|HOSPITAL|20260115||ORU^R01^ORU_R01|M1|T|2.3||||||8859/1\rPID|1\r"


def test_the_acknowledgement_is_addressed_to_the_sender() -> None:
    assert acknowledge(MSH, "AA", control_id="A1", at=AT) == (
        b"MSH|^~\\&|AUSCULTA|HOSPITAL|LAB|GEN|20260115123005+0000||ACK^R01^ACK|A1|T|2.3||||||8859/1\rMSA|AA|M1\r"
    )


def test_the_message_is_parsed_by_another_parser() -> None:
    read = hl7.parse(refuse(MSH, Problem(Category.INCORRECT, "PID-3 a|b"), control_id="A1", at=AT).decode())
    assert str(read["MSA.F1"]) == "AE"
    assert str(read["ERR.F8"]) == "PID-3 a b"


def test_the_senders_own_delimiters_are_used() -> None:
    sent = b"MSH#*~\\&#LAB#GEN#A#B#2026##ADT*A01#M7#P#2.5\r"
    answer = acknowledge(sent, "AA", control_id="A1", at=AT)
    assert answer.startswith(b"MSH#*~\\&#A#B#LAB#GEN#20260115123005+0000##ACK*A01*ACK#A1#P#2.5")
    assert answer.endswith(b"MSA#AA#M7\r")


@pytest.mark.parametrize("raw", [b"", b"\x00\x01", b"PID|1", b"MSH", b"M\x00S\x00H\x00|\x00"])
def test_garbage_is_acknowledged_with_an_empty_control_id(raw: bytes) -> None:
    answer = hl7.parse(refuse(raw, Problem(Category.FAULT, "internal error"), control_id="A1", at=AT).decode())
    assert str(answer["MSA.F1"]) == "AR"
    assert str(answer["MSA.F2"]) == ""


def test_diagnostics_are_not_sent_to_peers() -> None:
    problem = Problem(Category.FAULT, "internal error", diagnostics="MUELLER")
    assert b"MUELLER" not in refuse(MSH, problem, control_id="A1", at=AT)
