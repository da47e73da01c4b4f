"""Makes the search index again when the search parameters are others than those it was made for.

The index holds nothing that the resources do not. A release that indexes more, or in another way, therefore needs no
migration: at the first start the index is emptied and filled from the newest versions.
"""

import hashlib
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import orjson
from sqlalchemy import bindparam, delete, func, insert, select, update

from fhir_adapter.store.search.index import rows
from fhir_adapter.store.search.parameters import PARAMETERS
from fhir_adapter.store.versions import CURRENT
from kernel.db import Database, Transaction
from kernel.errors import Category, Problem
from kernel.log import get_logger
from kernel.statements import Statement
from kernel.tables import index_state, resource_dates, resource_heads, resource_index

LAYOUT: Final = "1"
"""Changes when the same search parameters give other rows."""

_AT_A_TIME: Final = 500
_PROGRESS_EVERY: Final = 20_000

_HEADS: Final = resource_heads.c
_NEXT: Final = Statement(
    CURRENT.where(_HEADS.key > bindparam("after"), _HEADS.deleted.is_(False)).order_by(_HEADS.key).limit(_AT_A_TIME)
)
_STATE: Final = select(index_state.c.fingerprint)
_ADD_VALUES: Final = Statement(insert(resource_index))
_ADD_DATES: Final = Statement(insert(resource_dates))

_log = get_logger(__name__)


def fingerprint() -> str:
    """Return what identifies the search parameters of this release, and the layout of their rows."""
    return hashlib.sha256(f"{LAYOUT} {sorted(PARAMETERS.items())!r}".encode()).hexdigest()


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
    while True:
        with database.read() as connection:
            found = _NEXT.run(connection, {"after": after}).all()
        if not found:
            break
        database.write(partial(_fill, mark=mark, found=found))
        after, done = found[-1].key, done + len(found)
        if done % _PROGRESS_EVERY < _AT_A_TIME:
            _log.info("search_index_rebuilding", done=done, of=total)
    database.write(partial(_finish, mark=mark))
    if done:
        _log.info("search_index_rebuilt", resources=done)
    return done


def _empty(tx: Transaction, *, mark: str) -> None:
    for table in (index_state, resource_index, resource_dates):
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


def _fill(tx: Transaction, *, mark: str, found: Sequence[Any]) -> None:
    _require_mark(tx, mark)
    made = [(row.key, rows(orjson.loads(row.content))) for row in found]
    for statement, wanted in (
        (_ADD_VALUES, [{"key": key, **row} for key, index in made for row in index.values]),
        (_ADD_DATES, [{"key": key, **row} for key, index in made for row in index.dates]),
    ):
        if wanted:
            tx.execute(statement, wanted)
