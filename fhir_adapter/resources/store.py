"""The FHIR store: every version of every resource, in the house's one database.

Writes take a :class:`~kernel.db.Transaction` and are part of its commit, reads a connection. What was sent is not
validated here; the store gives it identity, keeps it and indexes it. An update that changes nothing makes no version,
so that a replay of the same message leaves the same history behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, and_, bindparam, delete, insert, select, update

from fhir_adapter.resources.document import Document, Json, same_content, stamp
from fhir_adapter.resources.problems import Gone, PreconditionFailed
from fhir_adapter.resources.search.index import patient_of, rows
from kernel.clock import Clock
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.tables import resource_heads, resource_index, resource_versions

_HEADS: Final = resource_heads.c
_VERSIONS: Final = resource_versions.c
_INDEX: Final = resource_index.c

_OF_HEAD: Final = and_(_VERSIONS.type == _HEADS.type, _VERSIONS.id == _HEADS.id, _VERSIONS.version == _HEADS.version)
_THIS: Final = and_(_VERSIONS.type == bindparam("of_type"), _VERSIONS.id == bindparam("of_id"))

CURRENT: Final = select(resource_versions).join(resource_heads, _OF_HEAD)
"""Newest versions; whoever uses it says which."""

_READ: Final = CURRENT.where(_HEADS.type == bindparam("of_type"), _HEADS.id == bindparam("of_id"))
_VREAD: Final = select(resource_versions).where(_THIS, _VERSIONS.version == bindparam("of_version"))
_HISTORY: Final = (
    select(resource_versions)
    .where(_THIS, _VERSIONS.version < bindparam("before"))
    .order_by(_VERSIONS.version.desc())
    .limit(bindparam("count"))
)
_ADD_VERSION: Final = insert(resource_versions)
_ADD_HEAD: Final = insert(resource_heads)
_MOVE_HEAD: Final = update(resource_heads).where(_HEADS.type == bindparam("of_type"), _HEADS.id == bindparam("of_id"))
_ADD_INDEX: Final = insert(resource_index)
_DROP_INDEX: Final = delete(resource_index).where(_INDEX.type == bindparam("of_type"), _INDEX.id == bindparam("of_id"))


@dataclass(frozen=True, kw_only=True)
class StoredVersion:
    """One version of one resource, as it lies in the store."""

    type: str
    id: str
    #: From 1.
    version: int
    last_updated: datetime
    #: The JSON as it is served; empty for a deletion.
    content: bytes
    #: Reference of the patient it concerns, if any.
    patient: str | None
    #: This write brought the resource into being.
    created: bool = False
    #: This write made a version; false for what was read, and for an update that said nothing new.
    changed: bool = False
    #: This version is the deletion.
    deleted: bool = False

    @property
    def reference(self) -> str:
        """Versioned reference, such as ``Observation/x/_history/2``."""
        return f"{self.type}/{self.id}/_history/{self.version}"

    @property
    def etag(self) -> str:
        """``ETag`` of the version (R4, http.html#versions)."""
        return f'W/"{self.version}"'


class Store:
    """Resources and their history.

    Parameters
    ----------
    clock
        Gives ``meta.lastUpdated``.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def create(self, tx: Transaction, document: Document, resource_id: str) -> StoredVersion:
        """Store the first version of a new resource.

        Parameters
        ----------
        tx
            The transaction it becomes part of.
        document
            A valid resource.
        resource_id
            Its id, never used before.
        """
        return self._add(tx, document, resource_id, version=1, is_known=False)

    def update(
        self,
        tx: Transaction,
        document: Document,
        resource_id: str,
        *,
        if_match: int | None = None,
    ) -> StoredVersion:
        """Store a new version, or the first one (R4, http.html#upsert), or none when it says nothing new.

        Parameters
        ----------
        tx
            The transaction it becomes part of.
        document
            A valid resource.
        resource_id
            Which resource.
        if_match
            The version that it is meant to replace.

        Raises
        ------
        PreconditionFailed
            When another version is the current one.
        """
        tx.lock(f"{document.type}/{resource_id}")
        head = self._head(tx.connection, document.type, resource_id)
        _check_match(head, if_match)
        if head is None:
            return self.create(tx, document, resource_id)
        if head.content is not None:
            stamped = stamp(document, resource_id=resource_id, version=head.version, last_updated=head.last_updated)
            if same_content(stamped, head.content):
                return stored(head)
        return self._add(
            tx, document, resource_id, version=head.version + 1, is_known=True, was_deleted=head.content is None
        )

    def delete(
        self,
        tx: Transaction,
        kind: str,
        resource_id: str,
        *,
        if_match: int | None = None,
    ) -> StoredVersion:
        """Mark a resource as deleted; its versions stay. Deleting again changes nothing.

        Raises
        ------
        Problem
            ``not-found`` when it was never there.
        PreconditionFailed
            When ``if_match`` is not the current version.
        """
        tx.lock(f"{kind}/{resource_id}")
        head = self._head(tx.connection, kind, resource_id)
        _check_match(head, if_match)
        if head is None:
            raise Problem(Category.NOT_FOUND, "there is no such resource")
        before = stored(head)
        if before.deleted:
            return before
        at = self._clock.now()
        which = {"of_type": kind, "of_id": resource_id}
        made = StoredVersion(
            type=kind,
            id=resource_id,
            version=head.version + 1,
            last_updated=at,
            content=b"",
            patient=before.patient,
            changed=True,
            deleted=True,
        )
        tx.execute(_ADD_VERSION, _version_row(made, "DELETE"))
        tx.execute(_MOVE_HEAD, which | {"version": made.version, "deleted": True, "last_updated": at})
        tx.execute(_DROP_INDEX, which)
        return made

    def read(self, connection: Connection, kind: str, resource_id: str) -> StoredVersion:
        """Return the newest version.

        Raises
        ------
        Problem
            ``not-found`` when it was never there.
        Gone
            When it has been deleted.
        """
        head = self._head(connection, kind, resource_id)
        if head is None:
            raise Problem(Category.NOT_FOUND, "there is no such resource")
        return _present(head)

    def vread(self, connection: Connection, kind: str, resource_id: str, version: int) -> StoredVersion:
        """Return one version; raises as :meth:`read` does."""
        which = {"of_type": kind, "of_id": resource_id, "of_version": version}
        row = connection.execute(_VREAD, which).one_or_none()
        if row is None:
            raise Problem(Category.NOT_FOUND, "there is no such version")
        return _present(row)

    def history(
        self,
        connection: Connection,
        kind: str,
        resource_id: str,
        *,
        count: int = 100,
        before: int | None = None,
    ) -> Sequence[StoredVersion]:
        """Return up to ``count`` versions, newest first, older than version ``before``; deletions among them.

        Raises
        ------
        Problem
            ``not-found`` when the resource was never there.
        """
        which = {"of_type": kind, "of_id": resource_id, "before": before or 2**31 - 1, "count": count}
        found = connection.execute(_HISTORY, which).all()
        if not found and before is None:
            raise Problem(Category.NOT_FOUND, "there is no such resource")
        return [stored(row) for row in found]

    def _head(self, connection: Connection, kind: str, resource_id: str) -> Row[Any] | None:
        return connection.execute(_READ, {"of_type": kind, "of_id": resource_id}).one_or_none()

    def _add(
        self,
        tx: Transaction,
        document: Document,
        resource_id: str,
        *,
        version: int,
        is_known: bool,
        was_deleted: bool = False,
    ) -> StoredVersion:
        at = self._clock.now()
        kind = document.type
        content = stamp(document, resource_id=resource_id, version=version, last_updated=at)
        made = StoredVersion(
            type=kind,
            id=resource_id,
            version=version,
            last_updated=at,
            content=content,
            patient=f"Patient/{resource_id}" if kind == "Patient" else patient_of(document.plain),
            created=not is_known or was_deleted,
            changed=True,
        )
        tx.execute(_ADD_VERSION, _version_row(made, "POST" if version == 1 else "PUT"))
        head = {"version": version, "deleted": False, "last_updated": at}
        if is_known:
            which = {"of_type": kind, "of_id": resource_id}
            tx.execute(_MOVE_HEAD, which | head)
            tx.execute(_DROP_INDEX, which)
        else:
            tx.execute(_ADD_HEAD, head | {"type": kind, "id": resource_id})
        index = [found | {"type": kind, "id": resource_id} for found in rows(document.plain)]
        if index:
            tx.execute(_ADD_INDEX, index)
        return made


def _version_row(made: StoredVersion, method: str) -> Json:
    return {
        "type": made.type,
        "id": made.id,
        "version": made.version,
        "last_updated": made.last_updated,
        "method": method,
        "content": made.content or None,
    }


def _check_match(head: Row[Any] | None, if_match: int | None) -> None:
    if if_match is not None and (head is None or head.version != if_match):
        raise PreconditionFailed("If-Match does not name the current version")


def _present(row: Row[Any]) -> StoredVersion:
    found = stored(row)
    if found.deleted:
        raise Gone
    return found


def stored(row: Row[Any]) -> StoredVersion:
    """Make a record of a row of ``resource_versions``."""
    content = row.content
    return StoredVersion(
        type=row.type,
        id=row.id,
        version=row.version,
        last_updated=row.last_updated,
        content=content or b"",
        patient=patient_of(orjson.loads(content)) if content else None,
        deleted=content is None,
    )
