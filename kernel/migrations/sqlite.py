"""The upgrade of a file of SQLite: one transaction under a lock, after a copy, and only where the disk has room.

Alembic takes SQLite for a database without transactional DDL and opens no transaction of its own; this module does. The
copy lies beside the database, in a folder that only its owner can read, and is named by the revision that it holds.
"""

import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from traceback import clear_frames
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from kernel.durable import sync_folder
from kernel.errors import Category, Problem
from kernel.log import get_logger
from kernel.one_process import database_file, one_process_of_file

FOLDER: Final = "before-upgrade"
"""Beside the database: holds the copy that the newest upgrade has made."""

PART: Final = ".part"
"""Of a copy that is not complete."""

JOURNAL: Final = "-journal"
"""Of what SQLite writes beside it, and leaves there when the disk is full."""

_MB: Final = 1_000_000
_RESERVE: Final = 8 * _MB
"""Free space that an upgrade needs beyond the multiple of the size of the database."""

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_DISK_TROUBLE: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
"""What SQLite also reports when a file that it needs beside the database does not fit on the disk."""

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pending:
    """What an upgrade has to do."""

    stored: str | None
    """The revision of the database; none of a new one."""
    newest: str
    space: int
    """Free space that it needs, as a multiple of the size of the database."""


FindPending: TypeAlias = Callable[[Connection], Pending | None]


def upgrade_file(engine: Engine, *, pending: FindPending, apply: Callable[[Connection], None]) -> None:
    """Bring a database of SQLite to the newest schema.

    Parameters
    ----------
    engine
        Leaves the transactions to its caller.
    pending
        Returns what is to be done; None when the schema is the newest.
    apply
        Applies the revisions.

    Raises
    ------
    Problem
        ``unavailable`` when the disk is full. What ``pending`` and ``apply`` raise is passed on. Nothing is changed.
    """
    file = database_file(engine.url)
    try:
        with _full_disk_is_a_problem(file), one_process_of_file(file), engine.connect() as connection:
            if pending(connection) is not None:
                _upgrade(connection, file, pending, apply)
    except BaseException:
        engine.dispose()  # the last connection takes the journal away, and gives its space back
        raise


def _upgrade(
    connection: Connection, file: Path | None, pending: FindPending, apply: Callable[[Connection], None]
) -> None:
    """Copy and upgrade in one transaction: what is copied is what is changed, whoever else writes to the file."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    started, copy = time.monotonic(), None
    try:
        wanted = pending(connection)
        if wanted is not None:
            if wanted.stored is not None and file is not None:
                _require_space(connection, file, wanted.space)
                _log.info("schema_upgrade_started", stored=wanted.stored, newest=wanted.newest)
                copy = _copy(file, wanted.stored)
            apply(connection)
        connection.exec_driver_sql("COMMIT")
    except BaseException as failure:
        clear_frames(failure.__traceback__)  # a cursor that a revision left open would keep the file locked
        _roll_back(connection)
        if copy is not None:
            copy.unlink(missing_ok=True)  # the database itself is what it was
        raise
    if copy is not None:
        _remove_earlier_copies(copy)
        _log.info("schema_upgraded", seconds=round(time.monotonic() - started, 1))


def _roll_back(connection: Connection) -> None:
    """Undo the transaction, unless SQLite has done so itself because the disk is full."""
    driver: Any = connection.connection.dbapi_connection
    if driver.in_transaction:
        driver.execute("ROLLBACK")


def _copy(file: Path, revision: str) -> Path:
    """Write a copy of the database as it is now, durably, and return its path."""
    folder = file.parent / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    copy = folder / f"{file.stem}-{revision}.db"
    part = copy.with_name(copy.name + PART)
    _remove_part(part)
    handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)) as source:
            source.execute("VACUUM INTO ?", (str(part),))
        os.fsync(handle)
        part.replace(copy)
        sync_folder(folder)
        sync_folder(file.parent)
    except BaseException:
        _remove_part(part)
        raise
    finally:
        os.close(handle)
    return copy


def _remove_part(part: Path) -> None:
    for path in (part, part.with_name(part.name + JOURNAL)):
        path.unlink(missing_ok=True)


def _remove_earlier_copies(newest: Path) -> None:
    """Keep one copy of each database; one that cannot be removed is no failure of the upgrade."""
    stem = newest.stem.rpartition("-")[0]
    with suppress(OSError):
        for other in newest.parent.iterdir():
            name, _, revision = other.name.removesuffix(JOURNAL).removesuffix(PART).removesuffix(".db").rpartition("-")
            if other != newest and name == stem and len(revision) == 4 and revision.isdigit():
                other.unlink()


def _require_space(connection: Connection, file: Path, times: int) -> None:
    pages, unused, size = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("page_count", "freelist_count", "page_size")
    )
    needed, free = times * (pages - unused) * size + _RESERVE, shutil.disk_usage(file.parent).free
    if free < needed:
        detail = (
            f"the disk of the database is full: the upgrade of its schema needs {-(-needed // _MB)} MB of free space"
            f" and finds {free // _MB} MB; nothing was changed"
        )
        raise Problem(Category.UNAVAILABLE, detail)


@contextmanager
def _full_disk_is_a_problem(file: Path | None) -> Iterator[None]:
    """Translate what SQLite and the operating system say when the disk becomes full.

    Raises
    ------
    Problem
        ``unavailable``.
    """
    try:
        yield
    except (DBAPIError, sqlite3.Error, OSError) as failure:
        if file is None or not _is_full(failure, file):
            raise
        detail = "the disk of the database is full: the upgrade of its schema was undone, and nothing was changed"
        raise Problem(Category.UNAVAILABLE, detail) from failure


def _is_full(failure: BaseException, file: Path) -> bool:
    cause = failure.orig if isinstance(failure, DBAPIError) else failure
    if isinstance(cause, OSError):
        return cause.errno in _NO_SPACE
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    return code == sqlite3.SQLITE_FULL or (code in _DISK_TROUBLE and shutil.disk_usage(file.parent).free < _MB)
