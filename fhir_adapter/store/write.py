"""The one write path of the FHIR store: prepare outside the transaction, apply inside it.

:meth:`StoreWriter.apply` runs in the caller's transaction. A resource, its history, its index, the audit of the change
and the jobs that follow from it are durable together or not at all.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, Protocol

from fhir_adapter.store import document as documents
from fhir_adapter.store import prepare
from fhir_adapter.store.document import Document, Json, reread
from fhir_adapter.store.observers import Observer
from fhir_adapter.store.patients import lock_names, tokens_of
from fhir_adapter.store.prepare import Operation, PreparedBundle, PreparedChanges, resolved
from fhir_adapter.store.problems import PreconditionFailed
from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.query import Query
from fhir_adapter.store.validate import Validator
from fhir_adapter.store.versions import StoredVersion
from fhir_adapter.store.write_set import WriteSet
from kernel.clock import Clock, Ids
from kernel.db import Transaction
from privacy import balp
from privacy.principal import Principal

_WARM: Final = (
    *("AuditEvent", "Bundle", "Condition", "Device", "DiagnosticReport", "DocumentReference", "Encounter"),
    *("ImagingStudy", "Location", "Observation", "Organization", "Patient", "Practitioner", "Provenance"),
    *("RiskAssessment", "ServiceRequest", "Specimen"),
)
"""Types that the flows write or read."""
_TOUCHING: Final = frozenset({"PUT", "DELETE"})
"""Methods that change a resource that may exist."""


class AuditSink(Protocol):
    """Receives audit events; :class:`privacy.audit.AuditLog` implements it."""

    def record_all(self, tx: Transaction, events: Sequence[Mapping[str, Any]]) -> Any:
        """Write events in the caller's transaction.

        Parameters
        ----------
        tx
            The caller's transaction.
        events
            AuditEvents to write, in this order.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Written:
    """The result of one operation."""

    version: StoredVersion
    #: Whether a conditional create found this resource, so that nothing was created.
    existed: bool = False


class StoreWriter:
    """Writes resources.

    Parameters
    ----------
    validator
        Validates every resource.
    audit
        Records every change.
    observers
        Called for every change, in this order, in the same transaction.
    clock
        Source of ``meta.lastUpdated`` and of the time of audit events.
    ids
        Assigns an id to each resource that is created.
    stored_as
        Resource type -> what makes the document that is stored of the one that was sent.
    """

    def __init__(
        self,
        validator: Validator,
        audit: AuditSink,
        observers: Sequence[Observer],
        clock: Clock,
        ids: Ids,
        stored_as: Mapping[str, Callable[[Document], Document]] = MappingProxyType({}),
    ) -> None:
        self._validator = validator
        self._audit = audit
        self._observers = tuple(observers)
        self._clock = clock
        self._ids = ids
        self._stored_as = stored_as
        self.types = validator.types

    def warm_up(self) -> None:
        """Compile the checks of the types that the flows write, so that the first request does not wait for them."""
        self._validator.warm_up(_WARM)

    def prepare(self, resources: Iterable[Json]) -> PreparedChanges:
        """Validate resources that are to be stored under their own ids; outside any transaction.

        Parameters
        ----------
        resources
            Each with an ``id``; numbers may be :class:`~decimal.Decimal`. One that is stored already gets a new
            version, or none when its content is the same.

        Raises
        ------
        Invalid
            When a resource is not valid R4.
        Problem
            ``incorrect`` when a resource has no id or occurs twice.
        """
        parsed = (documents.of(resource) for resource in resources)
        return prepare.as_they_are(
            [prepare.put(document.type, document.id or "", document, self._validator) for document in parsed]
        )

    def prepare_create(self, kind: str, content: bytes, if_none_exist: str | None = None) -> PreparedChanges:
        """Parse and validate a create; parameters and exceptions as for :func:`.prepare.post`, ``content`` as JSON."""
        operation = prepare.post(kind, documents.parse(content), self._validator, self._ids, if_none_exist)
        return PreparedChanges(operations=(operation,))

    def prepare_update(
        self, kind: str, resource_id: str, content: bytes, if_match: str | None = None
    ) -> PreparedChanges:
        """Parse and validate an update; parameters as for :func:`.prepare.put`, ``if_match`` as an ETag."""
        version = prepare.version_of(if_match)
        operation = prepare.put(kind, resource_id, documents.parse(content), self._validator, if_match=version)
        return PreparedChanges(operations=(operation,))

    def prepare_delete(self, kind: str, resource_id: str, if_match: str | None = None) -> PreparedChanges:
        """Prepare a delete; parameters and exceptions as for :func:`.prepare.delete`, ``if_match`` as an ETag."""
        return PreparedChanges(operations=(prepare.delete(kind, resource_id, prepare.version_of(if_match)),))

    def prepare_bundle(self, content: bytes) -> PreparedBundle:
        """Parse and validate a transaction or batch Bundle; exceptions as for :func:`.prepare.prepare_bundle`."""
        return prepare.prepare_bundle(documents.parse(content), self._validator, self._ids)

    def apply(self, tx: Transaction, prepared: PreparedChanges, principal: Principal) -> Sequence[Written]:
        """Carry out changes, record them in the audit and call the observers, in the caller's transaction.

        Parameters
        ----------
        tx
            The caller's transaction; it must be rolled back when this raises.
        prepared
            From one of the ``prepare`` methods.
        principal
            Who makes the change.

        Returns
        -------
        sequence of Written
            One for each operation, in the order in which they were prepared.

        Raises
        ------
        PreconditionFailed
            When a condition or a version does not hold.
        Problem
            ``not-found`` for the deletion of a resource that was never stored.
        """
        (written,) = self.apply_all(tx, [(prepared, principal)])
        return written

    def apply_all(
        self, tx: Transaction, changes: Sequence[tuple[PreparedChanges, Principal]]
    ) -> list[Sequence[Written]]:
        """Carry out several changes as :meth:`apply` would one after the other; each table is written once.

        Parameters
        ----------
        tx
            The caller's transaction; it must be rolled back when this raises.
        changes
            What was prepared, and who makes the change. No two may concern the same resource, and no condition may
            concern what another one changes.

        Raises
        ------
        PreconditionFailed, Problem
            As :meth:`apply` raises them.
        """
        tx.lock(*_patient_locks([prepared for prepared, _ in changes]))
        plans = [self._planned(tx, self._as_stored(prepared)) for prepared, _ in changes]
        write_set = WriteSet(tx, self._clock, [key for plan in plans for key in plan.touched])
        results: list[Sequence[Written]] = [plan.carried_out(write_set) for plan in plans]
        write_set.flush()
        for written, (_, principal) in zip(results, changes, strict=True):
            self._record(tx, written, principal)
        for written, (_, principal) in zip(results, changes, strict=True):
            if changed := [it.version for it in written if it.version.changed]:
                for observer in self._observers:
                    observer.on_change(tx, changed, principal)
        return results

    def _as_stored(self, prepared: PreparedChanges) -> PreparedChanges:
        """Return the changes with the documents that are stored, where these are others."""
        if all(operation.type not in self._stored_as for operation in prepared.operations):
            return prepared
        operations = [
            replace(it, document=self._stored_as[it.type](it.document))
            if it.document is not None and it.type in self._stored_as
            else it
            for it in prepared.operations
        ]
        return replace(prepared, operations=tuple(operations))

    def _planned(self, tx: Transaction, prepared: PreparedChanges) -> "_Plan":
        """Return the operations with what their conditions find."""
        operations = prepared.in_order()
        existing = self._existing(tx, operations)
        names = {operation.full_url: operation.reference for operation in prepared.operations if operation.full_url}
        names |= {prepared.operations[it].full_url: _reference(version) for it, version in existing.items()}
        names |= {text: _only_match(tx, query) for text, query in prepared.conditions.items()}
        return _Plan(operations=operations, existing=existing, names=names)

    def _existing(self, tx: Transaction, operations: Sequence[tuple[int, Operation]]) -> dict[int, StoredVersion]:
        """Return the resources that conditional creates find; the locks are held until the transaction ends."""
        existing: dict[int, StoredVersion] = {}
        conditions: set[tuple[str, str]] = set()
        for position, operation in operations:
            query = operation.if_none_exist
            if query is None:
                continue
            if (query.type, query.applied) in conditions:
                raise PreconditionFailed("two entries of the transaction have the same ifNoneExist")
            conditions.add((query.type, query.applied))
            tx.lock(f"{query.type}?{query.applied}")
            matches = find(tx.connection, query).found
            if len(matches) > 1:
                raise PreconditionFailed("several resources meet the condition of a conditional create")
            if matches:
                existing[position] = matches[0]
        return existing

    def _record(self, tx: Transaction, written: Sequence[Written], principal: Principal) -> None:
        at = self._clock.now()
        events = []
        for result in written:
            event_of = balp.read if result.existed else _event_builder(result.version)
            events.append(event_of(principal, entity=result.version.reference, patient=result.version.patient, at=at))
        self._audit.record_all(tx, events)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """The operations of one change, in the order of processing, with what was looked up for them."""

    operations: Sequence[tuple[int, Operation]]
    #: Position to the resource that a conditional create found.
    existing: Mapping[int, StoredVersion]
    #: What stands for a reference in the resources, to the reference.
    names: Mapping[str, str]

    @property
    def touched(self) -> list[tuple[str, str]]:
        """The resources that may exist and are changed."""
        return [(operation.type, operation.id) for _, operation in self.operations if operation.method in _TOUCHING]

    def carried_out(self, write_set: WriteSet) -> list[Written]:
        """Add the changes to a write set; return their results in the order of the request."""
        written = {
            position: Written(version=self.existing[position], existed=True)
            if position in self.existing
            else Written(version=_carry_out(write_set, operation, self.names))
            for position, operation in self.operations
        }
        return [written[position] for position in sorted(written)]


def _patient_locks(changes: Sequence[PreparedChanges]) -> list[str]:
    """Return the locks by which two writers of one person's Patient wait for each other."""
    operations = [it for prepared in changes for it in prepared.operations if it.type == "Patient"]
    plain = [it.document.plain for it in operations if it.document is not None]
    return lock_names(token for patient in plain for token in tokens_of(patient))


def _only_match(tx: Transaction, query: Query) -> str:
    matches = find(tx.connection, query).found
    if len(matches) != 1:
        raise PreconditionFailed("a conditional reference must be met by exactly one resource")
    return _reference(matches[0])


def _carry_out(write_set: WriteSet, operation: Operation, names: Mapping[str, str]) -> StoredVersion:
    if operation.document is None:
        return write_set.delete(operation.type, operation.id, if_match=operation.if_match)
    document = operation.document
    if operation.unresolved:
        document = reread(resolved(document.exact, {text: names[text] for text in operation.unresolved}))
    if operation.method == "POST":
        return write_set.create(document, operation.id)
    return write_set.update(document, operation.id, if_match=operation.if_match)


def _event_builder(version: StoredVersion) -> Callable[..., Mapping[str, Any]]:
    if version.deleted:
        return balp.deleted
    return balp.created if version.created else balp.updated


def _reference(version: StoredVersion) -> str:
    return f"{version.type}/{version.id}"
