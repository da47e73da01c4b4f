"""Events are committed with the recorded action, without gaps, and every alteration is detected."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from sqlalchemy import func, select

from kernel.db import Database, Transaction
from kernel.errors import Category, Problem
from kernel.tables import audit_checkpoints, audit_head, audit_log
from kernel.testing import FakeClock, SequenceIds
from privacy import balp, merkle
from privacy.audit import AuditLog, Checkpoint, append_checkpoint
from privacy.keys import KeyRing
from privacy.principal import Principal
from privacy.verify import Report, export, verify

AT = datetime(2026, 3, 1, tzinfo=UTC)
ACCESS = Principal(client="epic", client_address="10.0.0.7", server_address="10.0.0.1")


def event(number: int) -> balp.Event:
    return balp.created(ACCESS, entity=f"Observation/{number}/_history/1", patient="Patient/p", at=AT)


def write(database: Database, log: AuditLog, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        database.write(lambda tx, number=number: log.record(tx, event(number)))


def sign(database: Database, log: AuditLog, file: Path) -> Checkpoint:
    checkpoint = database.write(log.checkpoint)
    assert checkpoint is not None
    append_checkpoint(file, checkpoint)
    return checkpoint


def check(database: Database, keys: KeyRing, file: Path | None = None) -> Report:
    with database.read() as connection:
        return verify(connection, keys, file)


@contextmanager
def raw_sql(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The database, opened by a person with a SQL shell."""
    with closing(sqlite3.connect(tmp_path / "ausculta.db")) as connection:
        yield connection
        connection.commit()


def numbers(database: Database) -> list[int]:
    with database.read() as connection:
        return list(connection.scalars(select(audit_log.c.seq).order_by(audit_log.c.seq)))


# --- writing


def test_an_event_is_stored_with_its_id_and_its_leaf(database: Database, log: AuditLog) -> None:
    name = database.write(lambda tx: log.record(tx, event(1)))
    with database.read() as connection:
        row = connection.execute(select(audit_log)).one()
    assert orjson.loads(row.event) == {"id": name, **event(1)}
    assert row.leaf == merkle.leaf_hash(row.event)


def test_the_columns_name_action_patient_and_entity(database: Database, log: AuditLog) -> None:
    database.write(lambda tx: log.record(tx, event(7)))
    with database.read() as connection:
        row = connection.execute(select(audit_log)).one()
    assert (row.action, row.patient, row.entity) == ("C", "Patient/p", "Observation/7/_history/1")


def test_the_entity_of_a_message_is_its_urn(database: Database, log: AuditLog) -> None:
    received = balp.received(ACCESS, entity="urn:uuid:1", patient=None, at=AT, what="HL7 v2 message")
    database.write(lambda tx: log.record(tx, received))
    with database.read() as connection:
        assert connection.scalar(select(audit_log.c.entity)) == "urn:uuid:1"


def test_the_head_holds_the_root_of_all_events(database: Database, log: AuditLog) -> None:
    write(database, log, 11)
    with database.read() as connection:
        leaves = list(connection.scalars(select(audit_log.c.leaf).order_by(audit_log.c.seq)))
        peaks = connection.scalar(select(audit_head.c.peaks))
    found = [peaks[at : at + 32] for at in range(0, len(peaks), 32)]
    assert merkle.root_of_peaks(found) == merkle.root_of_leaves(leaves)


def test_concurrent_predictions_equal_sequential_ones(database: Database, keys: KeyRing, log: AuditLog) -> None:
    names = database.write(lambda tx: log.record_all(tx, [event(number) for number in range(9)]))
    assert (len(set(names)), numbers(database), check(database, keys).ok) == (9, list(range(9)), True)


def test_no_events_leave_no_trace(database: Database, log: AuditLog) -> None:
    assert database.write(lambda tx: log.record_all(tx, [])) == []
    with database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(audit_head)) == 0


def test_a_rolled_back_transaction_records_no_event(database: Database, keys: KeyRing, log: AuditLog) -> None:
    def change_of_mind(tx: Transaction) -> None:
        log.record(tx, event(99))
        raise Problem(Category.CONFLICT, "no")

    write(database, log, 3)
    with pytest.raises(Problem, match="no"):
        database.write(change_of_mind)
    write(database, log, 2, first=3)
    assert (numbers(database), check(database, keys).ok) == ([0, 1, 2, 3, 4], True)


def test_sixteen_threads_leave_no_gap(database: Database, keys: KeyRing, log: AuditLog) -> None:
    together = threading.Barrier(16)

    def work(first: int) -> None:
        together.wait()
        write(database, log, 20, first=first)

    threads = [threading.Thread(target=work, args=(number * 20,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (numbers(database), check(database, keys).ok) == (list(range(320)), True)


def test_another_process_continues_the_log(database: Database, keys: KeyRing, log: AuditLog) -> None:
    write(database, log, 3)
    restarted = AuditLog(keys, FakeClock(), _LaterIds())
    write(database, restarted, 3, first=3)
    assert check(database, keys) == Report(ok=True, size=6, root=check(database, keys).root, problems=())


class _LaterIds(SequenceIds):
    def __init__(self) -> None:
        super().__init__()
        self._last = 1000


def test_an_altered_head_stops_recording(sqlite: Database, log: AuditLog, tmp_path: Path) -> None:
    write(sqlite, log, 3)
    with raw_sql(tmp_path) as sql:
        sql.execute("UPDATE audit_head SET size = 2")
    with pytest.raises(Problem) as refused:
        write(sqlite, log, 1, first=3)
    assert refused.value.category is Category.FAULT


# --- tampering, by somebody with a SQL shell


def edit(sql: sqlite3.Connection) -> None:
    sql.execute("UPDATE audit_log SET event = replace(event, 'Patient/p', 'Patient/q') WHERE seq = 5")
    sql.execute("UPDATE audit_log SET event = CAST(event AS BLOB)")


def edit_and_fix_the_leaf(sql: sqlite3.Connection) -> None:
    (content,) = sql.execute("SELECT event FROM audit_log WHERE seq = 5").fetchone()
    forged = content.replace(b"Observation/5", b"Observation/6")
    row = (forged, merkle.leaf_hash(forged), "Observation/6/_history/1")
    sql.execute("UPDATE audit_log SET event = ?, leaf = ?, entity = ? WHERE seq = 5", row)


def remove(sql: sqlite3.Connection) -> None:
    sql.execute("DELETE FROM audit_log WHERE seq = 5")


def remove_and_renumber(sql: sqlite3.Connection) -> None:
    remove(sql)
    sql.execute("UPDATE audit_log SET seq = -seq WHERE seq > 5")
    sql.execute("UPDATE audit_log SET seq = -seq - 1 WHERE seq < 0")


def reorder(sql: sqlite3.Connection) -> None:
    for old, new in ((5, -1), (6, 5), (-1, 6)):
        sql.execute("UPDATE audit_log SET seq = ? WHERE seq = ?", (new, old))


def truncate(sql: sqlite3.Connection) -> None:
    sql.execute("DELETE FROM audit_log WHERE seq >= 8")


def add_at_the_end(sql: sqlite3.Connection) -> None:
    sql.execute(
        "INSERT INTO audit_log (seq, id, recorded, leaf, event, action, patient, entity) "
        "SELECT 11, 'x', recorded, leaf, event, action, patient, entity FROM audit_log WHERE seq = 10"
    )


def hide_from_search(sql: sqlite3.Connection) -> None:
    sql.execute("UPDATE audit_log SET patient = NULL WHERE seq = 5")


def forge_the_head(sql: sqlite3.Connection) -> None:
    sql.execute("UPDATE audit_head SET peaks = zeroblob(96)")


def remove_the_head(sql: sqlite3.Connection) -> None:
    sql.execute("DELETE FROM audit_head")


@pytest.mark.parametrize(
    ("tamper", "finding"),
    [
        (edit, "event 5 was altered"),
        (edit_and_fix_the_leaf, "something among events 4 to 7 was altered, moved or replaced"),
        (remove, "event 5 is missing"),
        (remove_and_renumber, "the log ends too soon: it has 10 events, its head says 11"),
        (reorder, "something among events 4 to 7 was altered, moved or replaced"),
        (truncate, "the log ends too soon: it has 8 events, its head says 11"),
        (add_at_the_end, "the log has 12 events, its head says 11"),
        (hide_from_search, "event 5: its columns do not say what its content says"),
        (forge_the_head, "the audit log's head was altered"),
        (remove_the_head, "the log has 11 events, its head says 0"),
    ],
)
def test_tampering_is_found_and_placed(
    sqlite: Database,
    keys: KeyRing,
    log: AuditLog,
    tmp_path: Path,
    tamper: Callable[[sqlite3.Connection], None],
    finding: str,
) -> None:
    file = tmp_path / "audit-checkpoints.jsonl"
    write(sqlite, log, 4)
    sign(sqlite, log, file)
    write(sqlite, log, 7, first=4)
    assert check(sqlite, keys, file).ok
    with raw_sql(tmp_path) as sql:
        tamper(sql)
    report = check(sqlite, keys, file)
    assert not report.ok
    assert finding in report.problems


def test_a_log_restored_to_an_earlier_state_is_detected_by_the_checkpoint_file(
    sqlite: Database, keys: KeyRing, log: AuditLog, tmp_path: Path
) -> None:
    file = tmp_path / "audit-checkpoints.jsonl"
    write(sqlite, log, 4)
    with raw_sql(tmp_path) as sql:
        old_head = sql.execute("SELECT size, peaks, seal FROM audit_head").fetchone()
    write(sqlite, log, 4, first=4)
    signed = sign(sqlite, log, file)
    with raw_sql(tmp_path) as sql:
        sql.execute("DELETE FROM audit_log WHERE seq >= 4")
        sql.execute("DELETE FROM audit_checkpoints")
        sql.execute("UPDATE audit_head SET size = ?, peaks = ?, seal = ?", old_head)
    assert check(sqlite, keys, None).ok  # by itself the file is consistent
    signed_at = f"the checkpoint of {signed.at.isoformat()} was signed over 8 events"
    assert check(sqlite, keys, file).problems == (f"{signed_at}, and the log has 4: it was cut or rolled back",)


def test_a_rewritten_log_is_detected_by_the_checkpoint_file(
    sqlite: Database, keys: KeyRing, log: AuditLog, tmp_path: Path
) -> None:
    file = tmp_path / "audit-checkpoints.jsonl"
    write(sqlite, log, 8)
    sign(sqlite, log, file)
    with raw_sql(tmp_path) as sql:
        for table in ("audit_log", "audit_checkpoints", "audit_head"):
            sql.execute(f"DELETE FROM {table}")
    write(sqlite, AuditLog(keys, FakeClock(), _LaterIds()), 12)
    (problem,) = check(sqlite, keys, file).problems
    assert "something among events 0 to 7 is not what it was" in problem


def test_a_forged_checkpoint_is_found(database: Database, keys: KeyRing, log: AuditLog, tmp_path: Path) -> None:
    file = tmp_path / "audit-checkpoints.jsonl"
    write(database, log, 4)
    true = sign(database, log, file)
    false = Checkpoint(size=3, root=true.root, at=true.at, signature=true.signature)
    append_checkpoint(file, false)
    assert check(database, keys, file).problems == ("a checkpoint over 3 events has a false signature",)


def test_a_missing_checkpoint_file_is_reported(
    database: Database, keys: KeyRing, log: AuditLog, tmp_path: Path
) -> None:
    file = tmp_path / "audit-checkpoints.jsonl"
    write(database, log, 4)
    sign(database, log, file)
    file.unlink()
    assert check(database, keys, file).problems == ("the database has checkpoints and the checkpoint file has none",)


def test_a_database_copied_while_it_is_written_verifies(
    database: Database, keys: KeyRing, log: AuditLog, tmp_path: Path
) -> None:
    stop = threading.Event()

    def go_on() -> None:
        number = 0
        while not stop.is_set():
            write(database, log, 1, first=number)
            number += 1

    writer = threading.Thread(target=go_on)
    writer.start()
    reports = [check(database, keys) for _ in range(20)]
    stop.set()
    writer.join()
    assert [report.problems for report in reports] == [()] * 20


# --- checkpoints


def test_a_checkpoint_states_size_root_and_time(
    database: Database, keys: KeyRing, log: AuditLog, clock: FakeClock, tmp_path: Path
) -> None:
    write(database, log, 5)
    checkpoint = sign(database, log, tmp_path / "c.jsonl")
    assert (checkpoint.size, checkpoint.root, checkpoint.at) == (5, check(database, keys).root, clock.now())


def test_no_checkpoint_is_made_without_new_events(database: Database, log: AuditLog, tmp_path: Path) -> None:
    write(database, log, 5)
    sign(database, log, tmp_path / "c.jsonl")
    assert database.write(log.checkpoint) is None
    with database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(audit_checkpoints)) == 1


def test_an_empty_log_has_nothing_to_sign(database: Database, keys: KeyRing, log: AuditLog) -> None:
    assert database.write(log.checkpoint) is None
    assert check(database, keys).ok


def test_an_incomplete_last_line_is_replaced(database: Database, keys: KeyRing, log: AuditLog, tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    write(database, log, 2)
    sign(database, log, file)
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:40])
    assert check(database, keys, file).ok
    write(database, log, 2, first=2)
    later = sign(database, log, file)
    assert file.read_bytes() == whole + later.line()


# --- export


def test_export_gives_the_events_in_order_as_recorded(database: Database, log: AuditLog) -> None:
    write(database, log, 3)
    with database.read() as connection:
        lines = [orjson.loads(line) for line in export(connection)]
    assert [line["entity"][0]["what"]["reference"] for line in lines] == [
        f"Observation/{number}/_history/1" for number in range(3)
    ]


def test_an_exported_event_can_be_proved_to_an_auditor(database: Database, log: AuditLog, tmp_path: Path) -> None:
    write(database, log, 6)
    checkpoint = sign(database, log, tmp_path / "c.jsonl")
    with database.read() as connection:
        lines = [line.rstrip(b"\n") for line in export(connection)]
    leaves = [merkle.leaf_hash(line) for line in lines]
    proof = merkle.inclusion_proof(leaves, 4)
    assert merkle.verify_inclusion(merkle.leaf_hash(lines[4]), 4, checkpoint.size, proof, checkpoint.root)
