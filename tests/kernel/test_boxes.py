"""Inbox and outbox: each message stored once with one receipt, deliveries sent in order."""

from pathlib import Path

import pytest

from kernel.blobs import Blobs
from kernel.db import Database
from kernel.errors import Category, Problem
from kernel.inbox import InboundMessage, Inbox
from kernel.jobs import Jobs
from kernel.outbox import LARGEST_IN_ROW, Delivery, Outbox
from kernel.testing import FakeClock, PlainCipher, SequenceIds


def message(raw: bytes = b"MSH|1", reply: bytes = b"AA 1", key: str = "1") -> InboundMessage:
    return InboundMessage(source="hl7v2:LAB|H", key=key, raw=raw, reply=reply)


@pytest.fixture
def inbox(clock: FakeClock, ids: SequenceIds) -> Inbox:
    return Inbox(clock, ids, PlainCipher())


@pytest.fixture
def outbox(clock: FakeClock, ids: SequenceIds, tmp_path: Path) -> Outbox:
    blobs = Blobs(tmp_path / "blobs", PlainCipher())
    return Outbox(clock, ids, PlainCipher(), Jobs(clock, ids, PlainCipher()), blobs)


def delivery(key: str, payload: bytes = b"x", destination: str = "ehr") -> Delivery:
    return Delivery(
        destination=destination, idempotency_key=key, subject="result", patient="Patient/1", payload=payload
    )


def test_a_repeated_message_gets_its_first_receipt_and_no_second_row(database: Database, inbox: Inbox) -> None:
    first, _ = database.write(lambda tx: inbox.add(tx, inbox.seal(message())))
    again, reply = database.write(lambda tx: inbox.add(tx, inbox.seal(message(reply=b"AA 2"))))
    assert first
    assert (again, reply) == ("", b"AA 1")


def test_a_reused_control_id_with_other_content_is_a_new_message(database: Database, inbox: Inbox) -> None:
    database.write(lambda tx: inbox.add(tx, inbox.seal(message())))
    identifier, _ = database.write(lambda tx: inbox.add(tx, inbox.seal(message(raw=b"MSH|2"))))
    assert identifier
    with database.read() as connection:
        assert inbox.raw(connection, identifier) == b"MSH|2"


def test_a_missing_message_is_not_found(database: Database, inbox: Inbox) -> None:
    with database.read() as connection, pytest.raises(Problem) as missing:
        inbox.raw(connection, "nowhere")
    assert missing.value.category is Category.NOT_FOUND


def test_deliveries_wait_in_order_per_destination_and_one_job_drains_them(database: Database, outbox: Outbox) -> None:
    for key in ("1", "2", "3"):
        database.write(lambda tx, key=key: outbox.add(tx, delivery(key, key.encode())))
    database.write(lambda tx: outbox.add(tx, delivery("1", destination="pacs")))
    with database.read() as connection:
        assert [row.idempotency_key for row in outbox.pending(connection, "ehr")] == ["1", "2", "3"]
        first = outbox.pending(connection, "ehr")[0]
        assert outbox.payload(connection, first.id) == b"1"
        assert outbox._jobs.counts(connection) == {"waiting": 2}


def test_the_same_idempotency_key_is_queued_once(database: Database, outbox: Outbox) -> None:
    for payload in (b"a", b"b"):
        database.write(lambda tx, payload=payload: outbox.add(tx, delivery("1", payload)))
    with database.read() as connection:
        (row,) = outbox.pending(connection, "ehr")
        assert outbox.payload(connection, row.id) == b"a"


@pytest.mark.parametrize(("size", "in_blob"), [(LARGEST_IN_ROW, False), (LARGEST_IN_ROW + 1, True)])
def test_a_large_payload_lies_in_a_blob_and_is_sent_whole(
    database: Database, outbox: Outbox, size: int, in_blob: bool
) -> None:
    prepared = outbox.prepare(delivery("1", b"x" * size))
    assert (prepared.payload_blob is not None, prepared.payload == b"") == (in_blob, in_blob)
    database.write(lambda tx: outbox.add(tx, prepared))
    with database.read() as connection:
        (row,) = outbox.pending(connection, "ehr")
        assert outbox.payload(connection, row.id) == b"x" * size


def test_a_refused_delivery_is_parked_visibly_and_can_be_replayed(database: Database, outbox: Outbox) -> None:
    database.write(lambda tx: outbox.add(tx, delivery("1")))
    with database.read() as connection:
        (row,) = outbox.pending(connection, "ehr")
    database.write(lambda tx: outbox.failed(tx, row, Problem(Category.INCORRECT, "no such patient"), park=True))
    with database.read() as connection:
        (parked,) = outbox.parked(connection)
        assert (parked.problem, parked.attempts) == ("no such patient", 1)
    assert database.write(lambda tx: outbox.replay(tx, row.id))
    with database.read() as connection:
        assert len(outbox.pending(connection, "ehr")) == 1


def test_a_delivered_row_keeps_its_receipt(database: Database, outbox: Outbox) -> None:
    database.write(lambda tx: outbox.add(tx, delivery("1")))
    with database.read() as connection:
        (row,) = outbox.pending(connection, "ehr")
    database.write(lambda tx: outbox.delivered(tx, row, "200 OK"))
    with database.read() as connection:
        assert outbox.pending(connection, "ehr") == []
        assert [(d.status, d.receipt) for d in outbox.of_subject(connection, "result")] == [("delivered", "200 OK")]
        assert outbox.counts(connection) == {("ehr", "delivered"): 1}
