"""A statement for many sets of values writes what the statement for one writes, on both databases."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.exc import DBAPIError

from kernel.db import Database, Transaction
from kernel.many_rows import many_rows
from kernel.statements import Statement, upsert
from kernel.tables import audit_log, observation_origins, resource_heads, resource_index, workers
from kernel.testing import FakeClock

NOON = FakeClock().now()
ADD_VALUES = Statement(insert(resource_index))
ADD_EVENTS = Statement(insert(audit_log))
ADD_HEADS = Statement(insert(resource_heads))
ADD_WORKERS = Statement(insert(workers))
DROP_WORKERS = Statement(
    delete(workers).where(workers.c.id == bindparam("of_id"), workers.c.host == bindparam("of_host"))
)
MOVE_HEADS = Statement(update(resource_heads).where(resource_heads.c.key == bindparam("of_key")))

TEXTS = ("", "NULL", "null", "{}", '"', "\\", '\\"', "a,b", " a ", "{a,b}", "ä\n\t", "𝄞", "'", "%s %(x)s $1")


def write(database: Database, *steps: tuple[Statement, Sequence[Mapping[str, Any]]]) -> None:
    def work(tx: Transaction) -> None:
        for statement, rows in steps:
            tx.execute(statement, rows)

    database.write(work)


def event(number: int, **values: Any) -> dict[str, Any]:
    row = {"seq": number, "id": str(number), "recorded": NOON, "leaf": b"", "event": b"", "action": "C"}
    return row | {"patient": None, "entity": None} | values


def test_texts_are_stored_as_they_are(database: Database) -> None:
    rows = [{"param": place, "value": text, "key": 2**40 + place, "system": text} for place, text in enumerate(TEXTS)]
    write(database, (ADD_VALUES, rows))
    with database.read() as connection:
        found = connection.execute(select(resource_index).order_by(resource_index.c.param)).mappings().all()
    assert [dict(row) for row in found] == rows


@pytest.mark.parametrize("content", [b"", b"\\", b'"{},', bytes(range(256))])
def test_bytes_instants_and_nulls_are_stored_as_they_are(content: bytes, database: Database) -> None:
    rows = [event(0, leaf=content, event=content), event(1, patient="Patient/1"), event(2, entity='"')]
    write(database, (ADD_EVENTS, rows))
    with database.read() as connection:
        found = connection.execute(select(audit_log).order_by(audit_log.c.seq)).mappings().all()
    assert [{name: row[name] for name in rows[0]} for row in found] == rows


def test_each_set_of_values_updates_its_own_row(database: Database) -> None:
    heads = [
        {"key": key, "type": "Patient", "id": str(key), "version": 1, "deleted": False, "last_updated": NOON}
        for key in (1, 2, 3)
    ]
    moved = [
        {"of_key": 1, "version": 5, "deleted": True, "last_updated": NOON},
        {"of_key": 3, "version": 7, "deleted": False, "last_updated": NOON},
    ]
    write(database, (ADD_HEADS, heads), (MOVE_HEADS, moved))
    columns = resource_heads.c.key, resource_heads.c.version, resource_heads.c.deleted
    with database.read() as connection:
        found = connection.execute(select(*columns).order_by(resource_heads.c.key)).all()
    assert [tuple(row) for row in found] == [(1, 5, True), (2, 1, False), (3, 7, False)]


def test_each_set_of_values_deletes_its_own_row(database: Database) -> None:
    rows = [{"id": name, "host": "h", "pid": 1, "process_start": "", "heartbeat_at": NOON} for name in "abcd"]
    dropped = [{"of_id": "a", "of_host": "h"}, {"of_id": "b", "of_host": "another"}, {"of_id": "d", "of_host": "h"}]
    write(database, (ADD_WORKERS, rows), (DROP_WORKERS, dropped))
    with database.read() as connection:
        assert sorted(connection.execute(select(workers.c.id)).scalars()) == ["b", "c"]


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("names", [("key", "type", "id", "version", "deleted", "last_updated"), ()])
def test_rows_of_values_are_stored_as_sets_of_named_values_are(
    number: int, names: tuple[str, ...], database: Database
) -> None:
    heads = [
        {"deleted": key == 2, "key": key, "type": "Patient", "id": f"{key}", "version": 1, "last_updated": NOON}
        for key in range(1, number + 1)
    ]
    names = names or tuple(heads[0])
    database.write(lambda tx: tx.send_rows(ADD_HEADS, names, [tuple(it[name] for name in names) for it in heads]))
    moved = (7, True, NOON, 1)
    database.write(lambda tx: tx.send_rows(MOVE_HEADS, ("version", "deleted", "last_updated", "of_key"), [moved]))
    with database.read() as connection:
        found = connection.execute(select(resource_heads).order_by(resource_heads.c.key)).mappings().all()
    assert [dict(row) for row in found] == [heads[0] | {"version": 7, "deleted": True}, *heads[1:]]


def test_no_rows_are_no_statement_and_a_failure_is_one_of_sqlalchemy(database: Database) -> None:
    database.write(lambda tx: tx.send_rows(ADD_WORKERS, ("id",), []))
    with pytest.raises(DBAPIError):
        database.write(lambda tx: tx.send_rows(ADD_WORKERS, ("id", "host"), [("a", "h"), ("b", None)]))


def test_a_column_may_have_the_name_of_a_word_of_sql(database: Database) -> None:
    row = {"patient": "p", "sender": "", "placer": "", "filler": "", "sub_id": "", "codes": "", "start": 0.1}
    rows = [{"id": name, **row, "end": 1e300} for name in "ab"]
    write(database, (Statement(insert(observation_origins)), rows))
    with database.read() as connection:
        found = connection.execute(select(observation_origins.c.start, observation_origins.c.end)).all()
    assert [tuple(one) for one in found] == [(0.1, 1e300)] * 2


def test_an_upsert_replaces_what_is_there_and_adds_the_rest(database: Database) -> None:
    put = upsert(observation_origins)
    row = {
        "patient": "p",
        "sender": "",
        "placer": "",
        "filler": "",
        "sub_id": "",
        "codes": "",
        "start": 0.1,
        "end": 1.0,
    }
    write(database, (put, [{"id": "a", **row}]))
    write(database, (put, [{"id": name, **row, "end": 2.0} for name in "ab"]))
    with database.read() as connection:
        found = connection.execute(select(observation_origins.c.id, observation_origins.c.end)).all()
    assert sorted(tuple(one) for one in found) == [("a", 2.0), ("b", 2.0)]


def test_an_upsert_of_many_rows_is_one_statement() -> None:
    sql = 'INSERT INTO t ("a", b) VALUES (%(a)s::BIGINT, %(b)s) ON CONFLICT ("a") DO UPDATE SET b = excluded.b'
    many = many_rows(sql, {"a": "BIGINT", "b": "TEXT"})
    assert many is not None
    assert many.sql.endswith('AS many("a", "b") ON CONFLICT ("a") DO UPDATE SET b = excluded.b')


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t (a) VALUES (%(a)s::BIGINT) RETURNING a",
        "INSERT INTO t (a) VALUES (lower(%(a)s))",
        "DELETE FROM t WHERE a IN (SELECT b FROM u WHERE b = %(a)s)",
        "DELETE FROM t",
        "SELECT a FROM t WHERE a = %(a)s",
    ],
)
def test_other_statements_are_run_once_for_each(sql: str) -> None:
    assert many_rows(sql, {"a": "BIGINT"}) is None


def test_a_value_without_a_type_has_no_array() -> None:
    assert many_rows("DELETE FROM t WHERE a = %(a)s", {}) is None
