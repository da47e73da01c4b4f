"""The one write path of the FHIR store: prepare outside the transaction, apply inside it.

:meth:`StoreWriter.apply` runs in the caller's transaction. A resource, its history, its index, the audit of the change
and the jobs that follow from it are durable together or not at all.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Protocol

from fhir_adapter.store import document as documents
from fhir_adapter.store import entries, prepare, resolve
from fhir_adapter.store.document import Document, Json, reread
from fhir_adapter.store.links import as_they_are, resolved
from fhir_adapter.store.observers import Observer
from fhir_adapter.store.operations import Operation, Patch, PreparedBundle, PreparedChanges
from fhir_adapter.store.patients import lock_names, tokens_of
from fhir_adapter.store.problems import TooCostly
from fhir_adapter.store.resolve import Permit, Plan, Resolved
from fhir_adapter.store.validate import Validator
from fhir_adapter.store.versions import StoredVersion
from fhir_adapter.store.write_set import WriteSet
from fhir_adapter.validation.links import entry_types, linked
from kernel.clock import Clock, Ids
from kernel.db import Transaction
from kernel.errors import Category, Problem
from privacy import balp
from privacy.principal import Principal

_WARM: Final = (
    *("AuditEvent", "Bundle", "Condition", "Device", "DiagnosticReport", "DocumentReference", "Encounter"),
    *("ImagingStudy", "Location", "Observation", "Organization", "Patient", "Practitioner", "Provenance"),
    *("RiskAssessment", "ServiceRequest", "Specimen"),
)
"""Types that the flows write or read."""
LARGEST_PATCHED: Final = 2**20
"""Largest resource that can be patched, in bytes: a patch is carried out in the commit, where others wait."""
_NOTHING: Final = StoredVersion("", "", 0, datetime.min.replace(tzinfo=UTC), b"", None)


@dataclass(frozen=True, kw_only=True)
class Target:
    """The resource that a request changes: named by its id, or by a search that finds it."""

    type: str
    id: str = ""
    #: What follows the question mark; None when the id names the resource.
    query: str | None = None


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
    #: Whether it was changed by a patch.
    patched: bool = False
    #: The condition of a conditional delete that found nothing; there is no version then.
    searched: str = ""


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

    @property
    def validator(self) -> Validator:
        """What validates every resource."""
        return self._validator

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
        return as_they_are(
            [prepare.put(document.type, document.id or "", document, self._validator) for document in parsed]
        )

    def prepare_create(self, kind: str, content: bytes, if_none_exist: str | None = None) -> PreparedChanges:
        """Parse and validate a create; parameters and exceptions as for :func:`.prepare.post`, ``content`` as JSON."""
        operation = prepare.post(kind, documents.parse(content), self._validator, self._ids, if_none_exist)
        return PreparedChanges(operations=(operation,))

    def prepare_update(
        self, target: Target, content: bytes, if_match: str | None = None, if_none_match: str | None = None
    ) -> PreparedChanges:
        """Parse and validate an update, by id or by condition.

        Parameters
        ----------
        target
            The resource.
        content
            Its new content as JSON.
        if_match, if_none_match
            The headers: an ETag, and ``*`` for a create only.

        Raises
        ------
        Invalid, Problem
            As for :func:`.prepare.put` and :func:`.prepare.put_where`.
        """
        document = documents.parse(content)
        if target.query is None:
            operation = prepare.put(target.type, target.id, document, self._validator)
        else:
            operation = prepare.put_where(target.type, target.query, document, self._validator, self._ids)
        return _one(operation, if_match, if_none_match)

    def prepare_delete(self, target: Target, if_match: str | None = None) -> PreparedChanges:
        """Prepare a delete, by id or by condition.

        Parameters
        ----------
        target
            The resource.
        if_match
            The header: an ETag.

        Raises
        ------
        Problem
            As for :func:`.prepare.delete` and :func:`.prepare.delete_where`.
        """
        if target.query is None:
            return _one(prepare.delete(target.type, target.id), if_match)
        return _one(prepare.delete_where(target.type, target.query), if_match)

    def prepare_patch(self, target: Target, change: Patch, if_match: str | None = None) -> PreparedChanges:
        """Prepare a patch, by id or by condition.

        Parameters
        ----------
        target
            The resource.
        change
            What the patch does.
        if_match
            The header: an ETag.

        Raises
        ------
        Problem
            As for :func:`.prepare.patch`.
        """
        return _one(prepare.patch(target.type, target.id, target.query, change), if_match)

    def prepare_bundle(self, content: bytes) -> PreparedBundle:
        """Parse and validate a transaction or batch Bundle; exceptions as for :func:`.entries.prepare_bundle`."""
        document = documents.parse(content)
        with linked(entry_types(document.plain)):
            return entries.prepare_bundle(document, self._validator, self._ids)

    def apply(
        self, tx: Transaction, prepared: PreparedChanges, principal: Principal, permit: Permit | None = None
    ) -> Sequence[Written]:
        """Carry out changes, record them in the audit and call the observers, in the caller's transaction.

        Parameters
        ----------
        tx
            The caller's transaction; it must be rolled back when this raises.
        prepared
            From one of the ``prepare`` methods.
        principal
            Who makes the change.
        permit
            Is asked about each resource that a condition names; None when everything is permitted.

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
        (written,) = self.apply_all(tx, [(prepared, principal)], permit)
        return written

    def apply_all(
        self,
        tx: Transaction,
        changes: Sequence[tuple[PreparedChanges, Principal]],
        permit: Permit | None = None,
    ) -> list[Sequence[Written]]:
        """Carry out several changes as :meth:`apply` would one after the other; each table is written once.

        Parameters
        ----------
        tx
            The caller's transaction; it must be rolled back when this raises.
        changes
            What was prepared, and who makes the change. No two may concern the same resource, and no condition may
            concern what another one changes.
        permit
            As for :meth:`apply`.

        Raises
        ------
        PreconditionFailed, Problem
            As :meth:`apply` raises them.
        """
        every = [operation for prepared, _ in changes for operation in prepared.operations]
        tx.lock(*_patient_locks(every), *resolve.lock_names(every))
        plans = [resolve.planned(tx, self._as_stored(prepared), permit) for prepared, _ in changes]
        write_set = WriteSet(tx, self._clock, [key for plan in plans for key in plan.touched])
        results: list[Sequence[Written]] = self._carried_out(write_set, plans)
        for plan in plans:
            plan.confirm()
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

    def _carried_out(self, write_set: WriteSet, plans: Sequence[Plan]) -> list[Sequence[Written]]:
        """Write the changes; return the results of each plan in the order of its request.

        R4 resolves conditional references after the changes (http.html#trules): what has some is written after what
        they may name.
        """
        written: list[dict[int, Written]] = [{} for _ in plans]
        for plan, results in zip(plans, written, strict=True):
            self._carry_out(write_set, plan, plan.unconditional(), results)
        write_set.flush()
        for plan, results in zip(plans, written, strict=True):
            while waiting := [it for it in plan.resolved.operations if it[0] not in results]:
                operations = resolve.ready(waiting, plan.prepared.conditions)
                plan.find_names(operations)
                self._carry_out(write_set, plan, operations, results)
                write_set.flush()
        return [[results[position] for position in sorted(results)] for results in written]

    def _carry_out(
        self,
        write_set: WriteSet,
        plan: Plan,
        operations: Iterable[tuple[int, Operation]],
        results: dict[int, Written],
    ) -> None:
        for position, operation in operations:
            results[position] = self._written(write_set, position, operation, plan.resolved, plan.names)

    def _written(
        self, write_set: WriteSet, position: int, operation: Operation, resolved_: Resolved, names: Mapping[str, str]
    ) -> Written:
        if position in resolved_.existing:
            return Written(version=resolved_.existing[position], existed=True)
        if position in resolved_.nothing:
            return Written(version=_NOTHING, searched=f"{operation.type}?{operation.where and operation.where.applied}")
        if operation.patch is not None:
            return Written(version=self._patched(write_set, operation, operation.patch), patched=True)
        return Written(version=_carry_out(write_set, operation, names))

    def _patched(self, write_set: WriteSet, operation: Operation, change: Patch) -> StoredVersion:
        content = write_set.content_of(operation.type, operation.id)
        if len(content) > LARGEST_PATCHED:
            raise TooCostly(f"a resource of more than {LARGEST_PATCHED} bytes can be updated, not patched")
        document = documents.of(change(documents.exact_values(content)))
        if document.type != operation.type or document.id != operation.id:
            raise Problem(Category.INCORRECT, "a patch may not change the type or the id of a resource")
        self._validator.check(document)
        if (stored_as := self._stored_as.get(document.type)) is not None:
            document = stored_as(document)
        return write_set.update(document, operation.id, if_match=operation.if_match)

    def _record(self, tx: Transaction, written: Sequence[Written], principal: Principal) -> None:
        at = self._clock.now()
        self._audit.record_all(tx, [_event(result, principal, at) for result in written])


def _patient_locks(operations: Sequence[Operation]) -> list[str]:
    """Return the locks by which two writers of one person's Patient wait for each other."""
    plain = [it.document.plain for it in operations if it.type == "Patient" and it.document is not None]
    return lock_names(token for patient in plain for token in tokens_of(patient))


def _one(operation: Operation, if_match: str | None, if_none_match: str | None = None) -> PreparedChanges:
    version, only_new = prepare.version_of(if_match), prepare.must_be_new(if_none_match)
    return PreparedChanges(operations=(replace(operation, if_match=version, only_new=only_new),))


def _carry_out(write_set: WriteSet, operation: Operation, names: Mapping[str, str]) -> StoredVersion:
    if operation.document is None:
        return write_set.delete(operation.type, operation.id, if_match=operation.if_match)
    document = operation.document
    if operation.unresolved:
        document = reread(resolved(document.exact, {text: names[name] for text, name in operation.unresolved.items()}))
    if operation.method == "POST":
        return write_set.create(document, operation.id)
    return write_set.update(document, operation.id, if_match=operation.if_match, only_new=operation.only_new)


def _event(result: Written, principal: Principal, at: datetime) -> Mapping[str, Any]:
    if result.searched:
        return balp.queried(principal, query=result.searched, patient=None, at=at)
    version = result.version
    entity, patient = version.reference, version.patient
    if result.existed:
        return balp.read(principal, entity=entity, patient=patient, at=at)
    if result.patched:
        return balp.updated(principal, entity=entity, patient=patient, at=at, interaction="patch")
    build = balp.deleted if version.deleted else balp.created if version.created else balp.updated
    return build(principal, entity=entity, patient=patient, at=at)
