"""The FHIR store: every version of every resource, in the one database.

Writes take a :class:`~kernel.db.Transaction` and are part of its commit, reads a connection. What was sent is not
validated here; the store gives it identity, keeps it and indexes it. An update that changes nothing makes no version,
so that a replay of the same message leaves the same history behind.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, bindparam, select

from fhir_adapter.store.document import Document
from fhir_adapter.store.problems import Gone
from fhir_adapter.store.versions import CURRENT, StoredVersion, stored
from fhir_adapter.store.writing import Key, WriteSet
from kernel.clock import Clock
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.tables import resource_heads, resource_versions

_HEADS: Final = resource_heads.c
_VERSIONS: Final = resource_versions.c

_THIS: Final = and_(_VERSIONS.type == bindparam("of_type"), _VERSIONS.id == bindparam("of_id"))
_READ: Final = CURRENT.where(_HEADS.type == bindparam("of_type"), _HEADS.id == bindparam("of_id"))
_VREAD: Final = select(resource_versions).where(_THIS, _VERSIONS.version == bindparam("of_version"))
_HISTORY: Final = (
    select(resource_versions)
    .where(_THIS, _VERSIONS.version < bindparam("before"))
    .order_by(_VERSIONS.version.desc())
    .limit(bindparam("count"))
)


class Store:
    """Resources and their history.

    Parameters
    ----------
    clock
        Gives ``meta.lastUpdated``.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @contextmanager
    def writing(self, tx: Transaction, touched: Iterable[Key]) -> Iterator[WriteSet]:
        """Gather several changes of one transaction and write them together when the block ends.

        Parameters
        ----------
        tx
            The transaction they become part of.
        touched
            Type and id of every resource that will be updated or deleted.
        """
        writing = WriteSet(tx, self._clock, touched)
        yield writing
        writing.flush()

    def create(self, tx: Transaction, document: Document, resource_id: str) -> StoredVersion:
        """Store the first version of a new resource; as :meth:`.WriteSet.create`."""
        with self.writing(tx, ()) as writing:
            return writing.create(document, resource_id)

    def update(
        self, tx: Transaction, document: Document, resource_id: str, *, if_match: int | None = None
    ) -> StoredVersion:
        """Store a new version; as :meth:`.WriteSet.update`."""
        with self.writing(tx, [(document.type, resource_id)]) as writing:
            return writing.update(document, resource_id, if_match=if_match)

    def delete(self, tx: Transaction, kind: str, resource_id: str, *, if_match: int | None = None) -> StoredVersion:
        """Mark a resource as deleted; as :meth:`.WriteSet.delete`."""
        with self.writing(tx, [(kind, resource_id)]) as writing:
            return writing.delete(kind, resource_id, if_match=if_match)

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


def _present(row: Row[Any]) -> StoredVersion:
    found = stored(row)
    if found.deleted:
        raise Gone
    return found
