"""What is stored of a resource now, or nothing; HL7 v2 messages and DICOM studies both read it before they write."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select

from fhir_adapter.hl7v2.origin import Origin
from fhir_adapter.hl7v2.origin_rows import read_origins
from fhir_adapter.store.document import exact_values
from fhir_adapter.store.patients import Holder, Token, holders, lock_names
from fhir_adapter.store.store import Store
from fhir_adapter.store.versions import StoredVersion
from kernel.db import Database, Transaction
from kernel.errors import Category, Problem
from kernel.statements import StatementOfMany
from kernel.tables import resource_heads

_HEADS: Final = resource_heads.c
_VERSIONS: Final = StatementOfMany(
    lambda ids: select(_HEADS.id, _HEADS.version, _HEADS.deleted).where(
        _HEADS.type == bindparam("of_type"), _HEADS.id.in_(ids)
    )
)


def newest_version(connection: Connection, store: Store, kind: str, resource_id: str) -> StoredVersion | None:
    """Return the newest version of a resource; None when it is not there or has been deleted.

    Parameters
    ----------
    connection, store
        Where to read.
    kind
        Resource type, such as ``Patient``.
    resource_id
        Logical id of the resource.
    """
    try:
        return store.read(connection, kind, resource_id)
    except Problem as problem:
        if problem.category is Category.NOT_FOUND:
            return None
        raise


class ReadSet:
    """What a step has read before its commit, so that the commit can check whether it is unchanged.

    Parameters
    ----------
    database, store
        Where resources are.
    """

    def __init__(self, database: Database, store: Store) -> None:
        self._database = database
        self._store = store
        self._versions: dict[tuple[str, str], int] = {}
        self._holders: dict[tuple[tuple[Token, ...], str], tuple[Holder, ...]] = {}

    def current(self, kind: str, resource_id: str) -> Mapping[str, Any] | None:
        """Return a resource as it is stored, its decimals exact; None when it is not there.

        Parameters
        ----------
        kind
            Resource type, such as ``Patient``.
        resource_id
            Logical id of the resource.
        """
        with self._database.read() as connection:
            found = newest_version(connection, self._store, kind, resource_id)
        self._versions[kind, resource_id] = 0 if found is None else found.version
        return None if found is None else exact_values(found.content)

    def holders(self, tokens: Sequence[Token], resource_id: str) -> tuple[Holder, ...]:
        """Return the stored Patients; parameters as for :func:`fhir_adapter.patient_search.holders`."""
        with self._database.read() as connection:
            found = holders(connection, tokens, resource_id)
        self._holders[tuple(tokens), resource_id] = found
        return found

    def origins(self, patient: str, start: float, end: float) -> tuple[Origin, ...]:
        """Return what is stored of a patient; parameters as for :func:`fhir_adapter.hl7v2.origin_rows.read_origins`.

        It is not checked again: a sender's messages are read one after the other, and what is chosen is read itself.
        """
        with self._database.read() as connection:
            return read_origins(connection, patient, start, end)

    @property
    def names(self) -> list[str]:
        """The locks of what was read: whoever changes it takes them."""
        asked = [token for tokens, _ in self._holders for token in tokens]
        known = [token for found in self._holders.values() for holder in found for token in holder.identifiers]
        return [*lock_names((*asked, *known)), *(f"{kind}/{resource_id}" for kind, resource_id in self._versions)]

    def still_holds(self, tx: Transaction) -> None:
        """Return when nothing of it was changed meanwhile; raises as :func:`still_hold`."""
        still_hold(tx, [self])

    def check_holders(self, tx: Transaction) -> None:
        """Return when the Patients with the identifiers are the same; raises as :func:`still_hold`."""
        for (tokens, resource_id), found in self._holders.items():
            if holders(tx.connection, tokens, resource_id) != found:
                raise Problem(Category.BUSY, "a Patient with the identifier was changed by somebody else meanwhile")

    @property
    def versions(self) -> Mapping[tuple[str, str], int]:
        """Type and id of each resource that was read, to its version; 0 where there was none."""
        return self._versions


def in_lock_order(names: Iterable[str]) -> list[str]:
    """Return locks in the order in which every writer takes them: those of identifiers, then those of resources."""
    return sorted(set(names), key=lambda name: ("?" not in name, name))


def still_hold(tx: Transaction, read_sets: Sequence[ReadSet]) -> None:
    """Return when nothing was changed meanwhile of what several steps have read.

    Parameters
    ----------
    tx
        The transaction of their commit.
    read_sets
        What they have read.

    Raises
    ------
    Problem
        ``busy``: the step is to be done again, on what is there now.
    """
    tx.lock(*in_lock_order(name for one in read_sets for name in one.names))
    for one in read_sets:
        one.check_holders(tx)
    expected = {key: version for one in read_sets for key, version in one.versions.items()}
    by_type: dict[str, list[str]] = {}
    for kind, resource_id in expected:
        by_type.setdefault(kind, []).append(resource_id)
    for kind, ids in by_type.items():
        rows = _VERSIONS.run(tx.connection, ids, {"of_type": kind})
        stored = {row.id: 0 if row.deleted else row.version for row in rows}
        if any(stored.get(it, 0) != expected[kind, it] for it in ids):
            raise Problem(Category.BUSY, f"the {kind} was changed by somebody else meanwhile")
