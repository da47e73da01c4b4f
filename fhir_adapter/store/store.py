"""Reads the FHIR store: every version of every resource."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, select

from fhir_adapter.store.history import first_of
from fhir_adapter.store.problems import Gone
from fhir_adapter.store.versions import COLUMNS, CURRENT, StoredVersion, stored
from kernel.errors import Category, Problem
from kernel.statements import Statement
from kernel.tables import resource_heads, resource_versions

_HEADS: Final = resource_heads.c
_VERSIONS: Final = resource_versions.c

_THIS: Final = and_(_HEADS.type == bindparam("of_type"), _HEADS.id == bindparam("of_id"))
_ALL: Final = (
    select(*COLUMNS).select_from(resource_heads).join(resource_versions, _VERSIONS.key == _HEADS.key).where(_THIS)
)
_READ: Final = Statement(CURRENT.where(_THIS))
_VREAD: Final = Statement(_ALL.where(_VERSIONS.version == bindparam("of_version")))
_HISTORY: Final = Statement(
    _ALL.where(_VERSIONS.version < bindparam("before")).order_by(_VERSIONS.version.desc()).limit(bindparam("count"))
)


class Store:
    """Reads resources and their history; :class:`~fhir_adapter.store.write.StoreWriter` writes them."""

    def read(self, connection: Connection, kind: str, resource_id: str) -> StoredVersion:
        """Return the newest version.

        Parameters
        ----------
        connection
            A connection that can read.
        kind, resource_id
            Resource type and logical id.

        Raises
        ------
        Problem
            ``not-found`` when it was never stored.
        Gone
            When it has been deleted.
        """
        head = self._head(connection, kind, resource_id)
        if head is None:
            raise Problem(Category.NOT_FOUND, "there is no such resource")
        return _present(head)

    def vread(self, connection: Connection, kind: str, resource_id: str, version: int) -> StoredVersion:
        """Return one version.

        Parameters
        ----------
        connection
            A connection that can read.
        kind, resource_id
            Resource type and logical id.
        version
            From 1.

        Raises
        ------
        Problem
            ``not-found`` when it was never stored.
        Gone
            When this version is the deletion.
        """
        which = {"of_type": kind, "of_id": resource_id, "of_version": version}
        row = _VREAD.run(connection, which).first()
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
        """Return versions of a resource, newest first, deletions included; fewer when their bytes are too many.

        Parameters
        ----------
        connection
            A connection that can read.
        kind, resource_id
            Resource type and logical id.
        count
            The largest number of versions to return.
        before
            Only versions older than this one; None for the newest.

        Raises
        ------
        Problem
            ``not-found`` when the resource was never stored.
        """
        which = {"of_type": kind, "of_id": resource_id, "before": before or 2**31 - 1, "count": count}
        found, _ = first_of(_HISTORY.stream(connection, which), count)
        if not found and before is None:
            raise Problem(Category.NOT_FOUND, "there is no such resource")
        return [stored(row) for row in found]

    def _head(self, connection: Connection, kind: str, resource_id: str) -> Any:
        return _READ.run(connection, {"of_type": kind, "of_id": resource_id}).first()


def _present(row: Any) -> StoredVersion:
    found = stored(row)
    if found.deleted:
        raise Gone
    return found
