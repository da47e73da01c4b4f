"""Carrying out operations inside one transaction: changes, their audit events and what follows from them.

Everything here happens in the caller's transaction, so a resource, its history, its index, the audit of the act and the
jobs it sets off are durable together or not at all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from fhir_adapter.rest.operations import Operation, PreparedBundle, resolved
from fhir_adapter.store.document import Document, reread
from fhir_adapter.store.problems import PreconditionFailed
from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.query import Query
from fhir_adapter.store.store import Store
from fhir_adapter.store.versions import StoredVersion
from fhir_adapter.store.writing import WriteSet
from kernel.clock import Clock
from kernel.db import Transaction
from privacy import balp
from privacy.principal import Principal

_TOUCHING: Final = frozenset({"PUT", "DELETE"})
"""Methods that change what may be there already."""

OnChange: TypeAlias = Callable[[Transaction, Sequence[StoredVersion], Principal], None]
"""What follows from changes: called once a transaction, in it, with the versions that it made."""


class AuditSink(Protocol):
    """Where audit events go; :class:`privacy.audit.AuditLog` is one."""

    def record_all(self, tx: Transaction, events: Sequence[Mapping[str, Any]]) -> Any:
        """Write events in the caller's transaction."""
        ...


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of an operation that changes things."""

    version: StoredVersion
    #: A condition was met already, so nothing was created.
    existed: bool = False

    @property
    def status(self) -> int:
        """HTTP status (R4, http.html)."""
        if self.version.deleted:
            return 204
        return 201 if self.version.created else 200


class Changes:
    """Applies operations.

    Parameters
    ----------
    store
        Where resources lie.
    audit
        Where each act is told.
    on_change
        What follows from a change.
    clock
        When it was done.
    """

    def __init__(self, store: Store, audit: AuditSink, on_change: OnChange, clock: Clock) -> None:
        self._store = store
        self._audit = audit
        self._on_change = on_change
        self._clock = clock

    def apply(self, tx: Transaction, prepared: PreparedBundle, principal: Principal) -> dict[int, Done]:
        """Carry out everything that a transaction changes.

        Parameters
        ----------
        tx
            The caller's transaction.
        prepared
            What to do; a GET among it is left to the caller.
        principal
            Who conditions.

        Returns
        -------
        dict
            Place of the entry -> what became of it.

        Raises
        ------
        PreconditionFailed
            When a condition or a version does not hold; the transaction must then be given up.
        """
        operations = prepared.in_order()
        existing = self._conditions(tx, operations)
        names = {operation.full_url: operation.reference for _, operation in operations if operation.full_url}
        names |= {operation.full_url: _local(existing[place]) for place, operation in operations if place in existing}
        names |= {text: self._one(tx, query) for text, query in prepared.conditions.items()}
        done: dict[int, Done] = {}
        touched = [(operation.type, operation.id) for _, operation in operations if operation.method in _TOUCHING]
        with self._store.writing(tx, touched) as writing:
            for place, operation in operations:
                if operation.method == "GET":
                    continue
                if place in existing:
                    done[place] = Done(version=existing[place], existed=True)
                else:
                    done[place] = Done(version=_carry_out(writing, operation, names))
        self._record(tx, [done[place] for place in sorted(done)], principal)
        return done

    def _conditions(self, tx: Transaction, operations: Sequence[tuple[int, Operation]]) -> dict[int, "StoredVersion"]:
        """Find what conditional creates need not create, holding the condition until the transaction ends."""
        existing: dict[int, StoredVersion] = {}
        conditions: set[tuple[str, str]] = set()
        for place, operation in operations:
            query = operation.if_none_exist
            if query is None:
                continue
            if (query.type, query.applied) in conditions:
                raise PreconditionFailed("two entries of the transaction have the same ifNoneExist")
            conditions.add((query.type, query.applied))
            tx.lock(f"{query.type}?{query.applied}")
            found = find(tx.connection, query).found
            if len(found) > 1:
                raise PreconditionFailed("several resources meet the condition of a conditional create")
            if found:
                existing[place] = found[0]
        return existing

    def _one(self, tx: Transaction, query: Query) -> str:
        found = find(tx.connection, query).found
        if len(found) != 1:
            raise PreconditionFailed("a conditional reference must be met by exactly one resource")
        return _local(found[0])

    def _record(self, tx: Transaction, done: Sequence[Done], principal: Principal) -> None:
        at = self._clock.now()
        events = []
        for one in done:
            how = balp.read if one.existed else _builder(one.version)
            events.append(how(principal, entity=one.version.reference, patient=one.version.patient, at=at))
        self._audit.record_all(tx, events)
        changes = [one.version for one in done if one.version.changed]
        if changes:
            self._on_change(tx, changes, principal)


def _carry_out(writing: WriteSet, operation: Operation, names: Mapping[str, str]) -> StoredVersion:
    if operation.method == "DELETE":
        return writing.delete(operation.type, operation.id, if_match=operation.if_match)
    document = _resolved(operation, names)
    if operation.method == "POST":
        return writing.create(document, operation.id)
    return writing.update(document, operation.id, if_match=operation.if_match)


def _builder(version: StoredVersion) -> Callable[..., Mapping[str, Any]]:
    if version.deleted:
        return balp.deleted
    return balp.created if version.created else balp.updated


def _resolved(operation: Operation, names: Mapping[str, str]) -> Document:
    assert operation.document is not None
    if not operation.unresolved:
        return operation.document
    wanted = {text: names[text] for text in operation.unresolved}
    return reread(resolved(operation.document.exact, wanted))


def _local(version: StoredVersion) -> str:
    return f"{version.type}/{version.id}"
