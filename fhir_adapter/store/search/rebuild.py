"""Makes the search index again when the search parameters are others than those it was made for.

The index holds nothing that the resources do not. A release that indexes more, or in another way, therefore needs no
migration: at the first start the index is emptied and filled from the newest versions.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import orjson
from sqlalchemy import bindparam, delete, func, insert, select

from fhir_adapter.store.search.index import rows
from fhir_adapter.store.search.parameters import PARAMETERS
from fhir_adapter.store.versions import CURRENT
from kernel.db import Database, Transaction
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
_ADD_VALUES: Final = Statement(insert(resource_index))
_ADD_DATES: Final = Statement(insert(resource_dates))

_log = get_logger(__name__)


def fingerprint() -> str:
    """Return what identifies the search parameters of this release, and the layout of their rows."""
    return hashlib.sha256(f"{LAYOUT} {sorted(PARAMETERS.items())!r}".encode()).hexdigest()


def rebuild_index(database: Database) -> int:
    """Make the index again, unless it was made for the search parameters of this release.

    A process that is killed meanwhile leaves an index without its fingerprint, and the next start begins again.

    Parameters
    ----------
    database
        Migrated to the current schema.

    Returns
    -------
    int
        How many resources were indexed.
    """
    with database.read() as connection:
        if connection.execute(select(index_state.c.fingerprint)).scalars().all() == [fingerprint()]:
            return 0
        total = connection.execute(select(func.count()).where(_HEADS.deleted.is_(False))).scalar_one()
    database.write(_empty)
    after, done = 0, 0
    while True:
        with database.read() as connection:
            found = _NEXT.run(connection, {"after": after}).all()
        if not found:
            break
        database.write(partial(_fill, found=found))
        after, done = found[-1].key, done + len(found)
        if done % _PROGRESS_EVERY < _AT_A_TIME:
            _log.info("search_index_rebuilding", done=done, of=total)
    database.write(_finish)
    if done:
        _log.info("search_index_rebuilt", resources=done)
    return done


def _empty(tx: Transaction) -> None:
    for table in (index_state, resource_index, resource_dates):
        tx.execute(delete(table))


def _finish(tx: Transaction) -> None:
    tx.execute(insert(index_state), {"fingerprint": fingerprint()})


def _fill(tx: Transaction, found: Sequence[Any]) -> None:
    made = [(row.key, rows(orjson.loads(row.content))) for row in found]
    for statement, wanted in (
        (_ADD_VALUES, [{"key": key, **row} for key, index in made for row in index.values]),
        (_ADD_DATES, [{"key": key, **row} for key, index in made for row in index.dates]),
    ):
        if wanted:
            tx.execute(statement, wanted)
