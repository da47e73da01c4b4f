"""Makes the search index again when the search parameters are others than those it was made for.

The index holds nothing that the resources do not. A release that indexes more, or in another way, therefore needs no
migration: at the first start the index is emptied and filled from the newest versions.
"""

import hashlib
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Final

import orjson
from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as on_postgresql
from sqlalchemy.dialects.sqlite import insert as on_sqlite

from fhir_adapter.store.search.index import (
    DATE_COLUMNS,
    MEASURE_COLUMNS,
    VALUE_COLUMNS,
    IndexRows,
    date_rows,
    measure_rows,
    rows,
    value_rows,
)
from fhir_adapter.store.search.parameters import content
from fhir_adapter.store.versions import CURRENT
from kernel.db import Database, Transaction
from kernel.errors import Category, Problem
from kernel.log import get_logger
from kernel.statements import Statement
from kernel.tables import index_state, resource_dates, resource_heads, resource_index, resource_measures

LAYOUT: Final = "4"
"""Changes when the same search parameters give other rows."""

_AT_A_TIME: Final = 500
_PROGRESS_EVERY: Final = 20_000

_HEADS: Final = resource_heads.c
_NEXT: Final = Statement(
    select(_HEADS.key, _HEADS.type, _HEADS.id)
    .where(_HEADS.key > bindparam("after"), _HEADS.deleted.is_(False))
    .order_by(_HEADS.key)
    .limit(_AT_A_TIME)
)
_CONTENTS: Final = Statement(
    CURRENT.where(_HEADS.key.between(bindparam("first"), bindparam("last")), _HEADS.deleted.is_(False))
)
_TABLES: Final = (resource_index, resource_dates, resource_measures)
_STATE: Final = select(index_state.c.fingerprint)
_ADD: Final = {
    "sqlite": tuple(Statement(on_sqlite(table).on_conflict_do_nothing()) for table in _TABLES),
    "postgresql": tuple(Statement(on_postgresql(table).on_conflict_do_nothing()) for table in _TABLES),
}
"""Adds values, dates and measures; a row that is there is of a server that has written the resource meanwhile."""

_log = get_logger(__name__)


def fingerprint() -> str:
    """Return what identifies the search parameters of this release, and the layout of their rows."""
    return hashlib.sha256(LAYOUT.encode() + content()).hexdigest()


def rebuild_index(database: Database) -> int:
    """Make the index again, unless it was made for the search parameters of this release.

    A process that is killed meanwhile leaves an index without its fingerprint, and the next start begins again. Of
    several processes one makes the index, and the others wait for it.

    Parameters
    ----------
    database
        Migrated to the current schema.

    Returns
    -------
    int
        How many resources were indexed.

    Raises
    ------
    Problem
        ``unavailable`` when this process lost its lock, and another one has begun.
    """
    if _is_current(database):
        return 0
    with database.one_process():
        return 0 if _is_current(database) else _rebuild(database, mark=f"in the making {uuid.uuid4()}")


def _is_current(database: Database) -> bool:
    with database.read() as connection:
        return list(connection.execute(_STATE).scalars()) == [fingerprint()]


def _rebuild(database: Database, *, mark: str) -> int:
    with database.read() as connection:
        total = connection.execute(select(func.count()).where(_HEADS.deleted.is_(False))).scalar_one()
    database.write(partial(_empty, mark=mark))
    after, done = 0, 0
    while filled := database.write(partial(_fill, mark=mark, after=after)):
        after, done = filled[-1], done + len(filled)
        if done % _PROGRESS_EVERY < _AT_A_TIME:
            _log.info("search_index_rebuilding", done=done, of=total)
    database.write(partial(_finish, mark=mark))
    if done:
        _log.info("search_index_rebuilt", resources=done)
    return done


def _empty(tx: Transaction, *, mark: str) -> None:
    for table in (index_state, *_TABLES):
        tx.execute(delete(table))
    tx.execute(insert(index_state), {"fingerprint": mark})


def _finish(tx: Transaction, *, mark: str) -> None:
    _require_mark(tx, mark)
    tx.execute(update(index_state).values(fingerprint=fingerprint()))


def _require_mark(tx: Transaction, mark: str) -> None:
    """Stop unless the index is the one that this process makes: the lock may be lost with its connection.

    Raises
    ------
    Problem
        ``unavailable``.
    """
    if list(tx.execute(_STATE.with_for_update()).scalars()) != [mark]:
        raise Problem(Category.UNAVAILABLE, "another process makes the search index; start again when it has done so")


def _fill(tx: Transaction, *, mark: str, after: int) -> Sequence[int]:
    """Index the next resources as they are, while no other process can change them, and return their keys."""
    _require_mark(tx, mark)
    found = tx.execute(_NEXT, {"after": after}).all()
    keys = [row.key for row in found]
    if keys:
        in_order_of_writers = sorted((row.type, row.id) for row in found)
        tx.lock(*(f"{kind}/{identifier}" for kind, identifier in in_order_of_writers))
        locked = set(keys)
        current = tx.execute(_CONTENTS, {"first": keys[0], "last": keys[-1]})
        _add(tx, [(row.key, rows(orjson.loads(row.content))) for row in current if row.key in locked])
    return keys


def _add(tx: Transaction, made: Sequence[tuple[int, IndexRows]]) -> None:
    add_values, add_dates, add_measures = _ADD[tx.connection.dialect.name]
    tx.send_rows(add_values, VALUE_COLUMNS, value_rows(made))
    tx.send_rows(add_dates, DATE_COLUMNS, date_rows(made))
    tx.send_rows(add_measures, MEASURE_COLUMNS, measure_rows(made))
