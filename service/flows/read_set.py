"""What is stored of a resource now, or nothing; HL7 v2 messages and DICOM studies both read it before they write."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from fhir_adapter.hl7v2.origin import Origin
from fhir_adapter.hl7v2.origin_rows import read_origins
from fhir_adapter.store.document import exact_values
from fhir_adapter.store.patients import Holder, Token, holders, lock_names
from fhir_adapter.store.store import Store
from fhir_adapter.store.versions import StoredVersion
from kernel.db import Database, Transaction
from kernel.errors import Category, Problem


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

    def still_holds(self, tx: Transaction) -> None:
        """Return when nothing of it was changed meanwhile.

        Raises
        ------
        Problem
            ``busy``: the step is to be done again, on what is there now.
        """
        asked = [token for tokens, _ in self._holders for token in tokens]
        known = [token for found in self._holders.values() for holder in found for token in holder.identifiers]
        tx.lock(*lock_names((*asked, *known)), *(f"{kind}/{resource_id}" for kind, resource_id in self._versions))
        for (tokens, resource_id), found in self._holders.items():
            if holders(tx.connection, tokens, resource_id) != found:
                raise Problem(Category.BUSY, "a Patient with the identifier was changed by somebody else meanwhile")
        for (kind, resource_id), version in self._versions.items():
            stored = newest_version(tx.connection, self._store, kind, resource_id)
            if version != (0 if stored is None else stored.version):
                raise Problem(Category.BUSY, f"the {kind} was changed by somebody else meanwhile")
