"""Collects the rows of one transaction and writes them with one statement for each table.

A message of thirty results is thirty resources: one query reads their stored versions, and one statement for each
table writes the new rows. :meth:`WriteSet.flush` writes what was collected in memory and must be called last.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import bindparam, column, delete, func, insert, select, text, update

from fhir_adapter.store.document import Document, same_content, stamp
from fhir_adapter.store.problems import Gone, PreconditionFailed
from fhir_adapter.store.search.index import (
    DATE_COLUMNS,
    MEASURE_COLUMNS,
    VALUE_COLUMNS,
    IndexRows,
    date_rows,
    measure_rows,
    patient_of,
    rows,
    value_rows,
)
from fhir_adapter.store.versions import CURRENT, StoredVersion, stored
from kernel.clock import Clock
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.statements import Statement, StatementOfMany
from kernel.tables import resource_dates, resource_heads, resource_index, resource_measures, resource_versions

_HEADS: Final = resource_heads.c

_HEAD_OF_ONE: Final = Statement(CURRENT.where(_HEADS.type == bindparam("of_type"), _HEADS.id == bindparam("of_id")))
_HEADS_OF_MANY: Final = StatementOfMany(
    lambda ids: CURRENT.where(_HEADS.type == bindparam("of_type"), _HEADS.id.in_(ids))
)
_LAST_KEY: Final = Statement(select(func.coalesce(func.max(_HEADS.key), 0)))
_NEXT_KEYS: Final = Statement(
    text(
        "SELECT nextval(pg_get_serial_sequence('resource_heads', 'key')) AS key FROM generate_series(1, :number)"
    ).columns(column("key"))
)
"""PostgreSQL's; SQLite has one writer, which counts on."""
_BLOCK: Final = 64
"""So many numbers are asked for at once, at least; what is left of them is for the next writes of the connection."""
_KEYS: Final = "resource_heads.key"
_ADD_HEADS: Final = Statement(insert(resource_heads))
_MOVE_HEADS: Final = Statement(update(resource_heads).where(_HEADS.key == bindparam("of_key")))
_ADD_VERSIONS: Final = Statement(insert(resource_versions))
_ADD_VALUES: Final = Statement(insert(resource_index))
_ADD_DATES: Final = Statement(insert(resource_dates))
_ADD_MEASURES: Final = Statement(insert(resource_measures))
_DROP: Final = tuple(
    Statement(delete(table).where(table.c.key == bindparam("of_key")))
    for table in (resource_index, resource_dates, resource_measures)
)

_HEAD_COLUMNS: Final = ("key", "type", "id", "version", "deleted", "last_updated")
_VERSION_COLUMNS: Final = ("key", "version", "last_updated", "method", "patient", "content")
_MOVED_COLUMNS: Final = ("version", "deleted", "last_updated", "of_key")

Row = tuple[Any, ...]
"""The values of the columns of one table."""

Key = tuple[str, str]
"""Resource type and id."""


class WriteSet:
    """The changes of one transaction.

    Parameters
    ----------
    tx
        The transaction to write in.
    clock
        Source of ``meta.lastUpdated``, which all resources of the set share.
    touched
        Every resource that will be updated or deleted. Each may be written once.
    """

    def __init__(self, tx: Transaction, clock: Clock, touched: Iterable[Key]) -> None:
        self._tx = tx
        self._new: list[tuple[StoredVersion, IndexRows]] = []
        self._versions: list[Row] = []
        self._moved_heads: list[Row] = []
        self._dropped: list[tuple[int]] = []
        self._indexed: list[tuple[int, IndexRows]] = []
        keys = sorted(set(touched))
        # always in the same order, so that two transactions cannot deadlock
        tx.lock(*(f"{kind}/{resource_id}" for kind, resource_id in keys))
        self._stored = self._read(keys)
        self._at = clock.now()

    def create(self, document: Document, resource_id: str) -> StoredVersion:
        """Add the first version of a new resource.

        Parameters
        ----------
        document
            A validated resource.
        resource_id
            Its id, which is not used yet.
        """
        return self._add(document, resource_id, None)

    def update(
        self, document: Document, resource_id: str, *, if_match: int | None = None, only_new: bool = False
    ) -> StoredVersion:
        """Add a new version, or the first one (R4, http.html#upsert), or none when the content is the same.

        Parameters
        ----------
        document
            A validated resource.
        resource_id
            Its id; one of ``touched``.
        if_match
            The version that must be the current one.
        only_new
            Whether there must be no such resource yet.

        Raises
        ------
        PreconditionFailed
            When another version than ``if_match`` is the current one, or there is one and there must not be.
        """
        head = self._stored.get((document.type, resource_id))
        _check_match(head, if_match)
        if only_new and head is not None and head.content is not None:
            raise PreconditionFailed("there is such a resource already")
        if head is None:
            return self.create(document, resource_id)
        if head.content is not None:
            stamped = stamp(document, resource_id=resource_id, version=head.version, last_updated=head.last_updated)
            if same_content(stamped, head.content):
                return stored(head)
        return self._add(document, resource_id, head)

    def content_of(self, kind: str, resource_id: str) -> bytes:
        """Return the JSON of a resource.

        Parameters
        ----------
        kind, resource_id
            The resource; one of ``touched``.

        Raises
        ------
        Problem
            ``not-found`` when it was never stored.
        Gone
            When it has been deleted.
        """
        head = self._stored.get((kind, resource_id))
        if head is None:
            raise Problem(Category.NOT_FOUND, "there is no such resource")
        if head.content is None:
            raise Gone
        return bytes(head.content)

    def delete(self, kind: str, resource_id: str, *, if_match: int | None = None) -> StoredVersion:
        """Mark a resource as deleted; its versions stay. Deleting again changes nothing.

        Parameters
        ----------
        kind, resource_id
            The resource; one of ``touched``.
        if_match
            The version that must be the current one.

        Raises
        ------
        Problem
            ``not-found`` when it was never stored.
        PreconditionFailed
            When ``if_match`` is not the current version.
        """
        head = self._stored.get((kind, resource_id))
        _check_match(head, if_match)
        if head is None:
            raise Problem(Category.NOT_FOUND, "there is no such resource")
        before = stored(head)
        if before.deleted:
            return before
        new_version = StoredVersion(
            type=kind,
            id=resource_id,
            version=head.version + 1,
            last_updated=self._at,
            content=b"",
            patient=before.patient,
            changed=True,
            deleted=True,
        )
        self._versions.append(_version_row(new_version, head.key, "DELETE"))
        self._move(new_version, head)
        return new_version

    def flush(self) -> None:
        """Write the collected rows."""
        tx = self._tx
        tx.send_rows(_ADD_HEADS, _HEAD_COLUMNS, self._new_heads())
        tx.send_rows(_ADD_VERSIONS, _VERSION_COLUMNS, self._versions)
        tx.send_rows(_MOVE_HEADS, _MOVED_COLUMNS, self._moved_heads)
        for drop in _DROP:
            tx.send_rows(drop, ("of_key",), self._dropped)
        tx.send_rows(_ADD_VALUES, VALUE_COLUMNS, value_rows(self._indexed))
        tx.send_rows(_ADD_DATES, DATE_COLUMNS, date_rows(self._indexed))
        tx.send_rows(_ADD_MEASURES, MEASURE_COLUMNS, measure_rows(self._indexed))
        for gathered in (self._versions, self._moved_heads, self._dropped, self._indexed):
            gathered.clear()

    def _add(self, document: Document, resource_id: str, head: Any) -> StoredVersion:
        """Add the version after ``head``, or the first one where there is none."""
        kind, version = document.type, 1 if head is None else head.version + 1
        new_version = StoredVersion(
            type=kind,
            id=resource_id,
            version=version,
            last_updated=self._at,
            content=stamp(document, resource_id=resource_id, version=version, last_updated=self._at),
            patient=f"Patient/{resource_id}" if kind == "Patient" else patient_of(document.plain),
            created=head is None or head.content is None,
            changed=True,
        )
        found = rows(document.plain)
        if head is None:
            self._new.append((new_version, found))
        else:
            self._move(new_version, head)
            self._versions.append(_version_row(new_version, head.key, "POST" if version == 1 else "PUT"))
            self._indexed.append((head.key, found))
        return new_version

    def _new_heads(self) -> list[Row]:
        """Return the heads of the new resources, and name them in the other rows by the numbers that they get."""
        heads: list[Row] = []
        for key, (new, found) in zip(self._keys(len(self._new)), self._new, strict=True):
            heads.append((key, new.type, new.id, new.version, new.deleted, new.last_updated))
            self._versions.append(_version_row(new, key, "POST"))
            self._indexed.append((key, found))
        self._new.clear()
        return heads

    def _keys(self, number: int) -> Iterable[int]:
        if not number:
            return ()
        if self._tx.connection.dialect.name == "postgresql":
            return self._reserved(number)
        last = self._tx.shared.get(_KEYS)
        if last is None:
            last = int(self._tx.execute(_LAST_KEY).scalar())
        self._tx.shared[_KEYS] = last + number
        return range(last + 1, last + 1 + number)

    def _reserved(self, number: int) -> list[int]:
        """Return numbers of PostgreSQL's sequence, which gives none a second time, whatever is undone."""
        left: list[int] = self._tx.connection.info.setdefault(_KEYS, [])
        if len(left) < number:
            rows = self._tx.execute(_NEXT_KEYS, {"number": max(number, _BLOCK)})
            left += sorted(row.key for row in rows)
        taken = left[:number]
        del left[:number]
        return taken

    def _move(self, new_version: StoredVersion, head: Any) -> None:
        """Have the head name the new version, and drop what the index holds of the one before."""
        self._moved_heads.append((new_version.version, new_version.deleted, new_version.last_updated, head.key))
        if head.content is not None:
            self._dropped.append((head.key,))

    def _read(self, keys: Sequence[Key]) -> Mapping[Key, Any]:
        by_type: dict[str, list[str]] = {}
        for kind, resource_id in keys:
            by_type.setdefault(kind, []).append(resource_id)
        heads: dict[Key, Any] = {}
        for kind, ids in by_type.items():
            if len(ids) == 1:
                read = self._tx.execute(_HEAD_OF_ONE, {"of_type": kind, "of_id": ids[0]}).all()
            else:
                read = _HEADS_OF_MANY.run(self._tx.connection, ids, {"of_type": kind})
            heads |= {(row.type, row.id): row for row in read}
        return heads


def _version_row(new: StoredVersion, key: int, method: str) -> Row:
    return key, new.version, new.last_updated, method, new.patient, new.content or None


def _check_match(head: Any | None, if_match: int | None) -> None:
    if if_match is not None and (head is None or head.version != if_match):
        raise PreconditionFailed("If-Match does not name the current version")
