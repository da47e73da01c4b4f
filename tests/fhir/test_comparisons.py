"""The two forms of each test of the index, SQL and Python, agree on random rows and values."""

import random
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, select

from fhir_adapter.store.search.comparisons import (
    BY_CODE,
    BY_UNIT,
    PREFIXES,
    Names,
    condition,
    meets,
    part_of,
    pattern_of,
)
from fhir_adapter.store.search.shapes import BOTH, PART, START, SYSTEM, VALUE, Table
from fhir_adapter.store.search.values import BOUNDLESS, Measured
from kernel.db import Database
from kernel.tables import resource_dates, resource_index, resource_measures

WORDS = ["", "a", "ab", "b", "a%", "a_b", "\\a", "ä", "abc", "1,5"]
NUMBERS = [-BOUNDLESS, -1.5, 0.0, 1.0, 1.0000001, 2.0, 37.2, BOUNDLESS]


def agree(connection: Connection, table: Table, rows: dict[int, Any], test: str, arguments: tuple[Any, ...]) -> None:
    source = {"values": resource_index, "dates": resource_dates, "measures": resource_measures}[table]
    names = Names()
    found = select(source.c.key).where(condition(table, test, source, names))
    bound = {f"v{place}": value for place, value in enumerate(arguments)}
    by_sql = set(connection.execute(found, bound).scalars())
    by_hand = {key for key, row in rows.items() if meets(table, test, arguments, row)}
    assert by_sql == by_hand, (table, test, arguments)


def store(database: Database, table: Any, rows: list[dict[str, Any]]) -> None:
    def work(tx: Any) -> None:
        tx.execute(delete(table))
        tx.execute(insert(table), rows)

    database.write(work)


def test_texts(database: Database) -> None:
    pairs = [(value, system) for value in WORDS for system in WORDS]
    rows = dict(enumerate(pairs))
    store(
        database,
        resource_index,
        [{"param": 1, "value": value, "system": system, "key": key} for key, (value, system) in rows.items()],
    )
    with database.read() as connection:
        for word in WORDS:
            agree(connection, "values", rows, VALUE, (word,))
            agree(connection, "values", rows, SYSTEM, (word,))
            agree(connection, "values", rows, START, (word, word + "\U0010ffff"))
            agree(connection, "values", rows, PART, (pattern_of(word),))
            assert part_of(pattern_of(word)) == word
            for system in WORDS:
                agree(connection, "values", rows, BOTH, (word, system))


@pytest.mark.parametrize("seed", range(3))
def test_dates(database: Database, seed: int) -> None:
    draw = random.Random(seed)
    rows = {key: tuple(sorted(draw.choices(NUMBERS, k=2))) for key in range(60)}
    store(
        database,
        resource_dates,
        [{"param": 1, "key": key, "low": low, "high": high} for key, (low, high) in rows.items()],
    )
    with database.read() as connection:
        for prefix in PREFIXES:
            for _ in range(12):
                agree(connection, "dates", rows, prefix, tuple(sorted(draw.choices(NUMBERS, k=2))))


@pytest.mark.parametrize("seed", range(3))
def test_numbers_and_quantities(database: Database, seed: int) -> None:
    draw = random.Random(seed)
    rows = {}
    for key in range(80):
        low, high = sorted(draw.choices(NUMBERS, k=2))
        code, text = draw.choices(["", "mg", "g"], k=2)
        rows[key] = Measured(draw.choice(["kg", "g", ""]), low, high, low * 2, high * 2, code, text)
    store(database, resource_measures, [{"param": 1, "key": key} | row._asdict() for key, row in rows.items()])
    with database.read() as connection:
        for prefix in PREFIXES:
            for _ in range(10):
                low, high = sorted(draw.choices(NUMBERS, k=2))
                agree(connection, "measures", rows, prefix, (low, high))
                agree(connection, "measures", rows, prefix + BY_UNIT, (draw.choice(["kg", "g"]), low, high))
                code = draw.choice(["mg", "g"])
                agree(connection, "measures", rows, prefix + BY_CODE, (low, high, code, code))
