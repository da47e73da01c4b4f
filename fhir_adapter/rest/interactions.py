"""The interactions of the FHIR R4 REST API (http.html) as plain functions; HTTP itself is in ``http``.

Whatever changes something is one transaction with its audit events and its consequences (:mod:`.changes`); whatever
only reads leaves its audit event, durably, before the answer is given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeAlias

import orjson
from sqlalchemy import Connection

from fhir_adapter.rest import bundles, operations
from fhir_adapter.rest import outcome as outcomes
from fhir_adapter.rest.audit_events import find_events, read_event
from fhir_adapter.rest.changes import AuditSink, Changes, Done, OnChange
from fhir_adapter.rest.operations import Operation, PreparedBundle
from fhir_adapter.store import document as documents
from fhir_adapter.store.document import Document, Json
from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.parameters import PARAMETERS
from fhir_adapter.store.search.query import LARGEST_COUNT, Query, parse
from fhir_adapter.store.store import Store
from fhir_adapter.store.validate import Validator
from fhir_adapter.store.versions import StoredVersion
from kernel.clock import Clock, Ids
from kernel.db import Database, Transaction
from kernel.errors import Category, Problem, as_problem
from privacy import balp
from privacy.principal import Principal

Event: TypeAlias = Mapping[str, Any]

_AUDIT: Final = "AuditEvent"


@dataclass(frozen=True, kw_only=True)
class Call:
    """Who asks, and where this API lies for them."""

    principal: Principal
    #: Base URL without a final slash; references and links are made with it.
    base: str


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer, in HTTP's terms but not yet a response."""

    status: int
    #: JSON; empty when there is nothing to show.
    body: bytes = b""
    etag: str | None = None
    last_modified: datetime | None = None
    location: str | None = None


class Interactions:
    """The FHIR API of one store.

    Parameters
    ----------
    database
        Where everything lies.
    store
        The resources.
    audit
        Where each access is events.
    on_change
        What follows from a change, in the same transaction.
    clock, ids
        Time, and names for what is created.
    """

    def __init__(
        self, database: Database, store: Store, audit: AuditSink, on_change: OnChange, clock: Clock, ids: Ids
    ) -> None:
        self._database = database
        self._store = store
        self._audit = audit
        self._changes = Changes(store, audit, on_change, clock)
        self._clock = clock
        self._ids = ids
        self._validator = Validator()
        self.types = self._validator.types

    def warm_up(self) -> None:
        """Import the models of the types that the flows meet, so that no first request waits for them."""
        self._validator.warm_up((*PARAMETERS, "Bundle"))

    def prepare(self, bundle: bytes | Json | Document) -> PreparedBundle:
        """Validate a transaction or batch Bundle, outside any transaction.

        Parameters
        ----------
        bundle
            JSON, or a dict that may hold :class:`~decimal.Decimal` values.
        """
        if isinstance(bundle, bytes):
            bundle = documents.parse(bundle)
        elif isinstance(bundle, dict):
            bundle = documents.of(bundle)
        return operations.prepare(bundle, self._validator, self._ids)

    def apply(
        self, tx: Transaction, bundle: bytes | Json | PreparedBundle, principal: Principal
    ) -> Sequence[StoredVersion]:
        """Apply a transaction Bundle inside the caller's transaction.

        Parameters
        ----------
        tx
            The caller's transaction. It is to be given up when this raises.
        bundle
            From :meth:`prepare` where the caller can, so that the transaction stays short.
        principal
            Who brought it.

        Returns
        -------
        sequence of StoredVersion
            For each entry the version that now stands, ``changed`` where this call made it.
        """
        prepared = bundle if isinstance(bundle, PreparedBundle) else self.prepare(bundle)
        if prepared.kind != "transaction":
            raise Problem(Category.INCORRECT, "only a transaction can be part of another one")
        done = self._changes.apply(tx, prepared, principal)
        return [done[place].version for place in sorted(done)]

    def create(self, call: Call, kind: str, body: bytes, *, if_none_exist: str | None = None) -> Reply:
        """Create a resource, unless the condition finds one (R4, http.html#create, #ccreate)."""
        operations.refuse_audit_change(kind)
        operation = operations.post(kind, documents.parse(body), self._validator, self._ids, if_none_exist)
        return self._one(call, operation)

    def update(self, call: Call, kind: str, resource_id: str, body: bytes, *, if_match: str | None = None) -> Reply:
        """Store a new version of a resource, or the first (R4, http.html#update)."""
        operations.refuse_audit_change(kind)
        operation = operations.put(kind, resource_id, documents.parse(body), self._validator)
        return self._one(call, replace(operation, if_match=operations.version_of(if_match)))

    def delete(self, call: Call, kind: str, resource_id: str, *, if_match: str | None = None) -> Reply:
        """Delete a resource; its history stays (R4, http.html#delete)."""
        operations.refuse_audit_change(kind)
        version = operations.version_of(if_match)
        return self._one(call, Operation(method="DELETE", type=kind, id=resource_id, if_match=version))

    def read(self, call: Call, kind: str, resource_id: str, version: int | None = None) -> Reply:
        """Return a resource as it is, or as it was in one version (R4, http.html#read, #vread)."""
        with self._database.read() as connection:
            reply, events = self._look(connection, call, kind, resource_id, version)
        self._record(events)
        return reply

    def history(self, call: Call, kind: str, resource_id: str, query: str = "") -> Reply:
        """Return a resource's versions, newest first (R4, http.html#history)."""
        count, before = _history_page(query)
        with self._database.read() as connection:
            found = self._store.history(connection, kind, resource_id, count=count + 1, before=before)
        versions = found[:count]
        link = f"{call.base}/{kind}/{resource_id}/_history?_count={count}"
        onward = f"{link}&_before={versions[-1].version}" if len(found) > count and versions else None
        patient = next((version.patient for version in found if version.patient), None)
        entity, at = f"{kind}/{resource_id}", self._clock.now()
        self._record([balp.read(call.principal, entity=entity, patient=patient, at=at, interaction="history-instance")])
        return Reply(status=200, body=bundles.history(versions, base=call.base, self_link=link, next_link=onward))

    def search(self, call: Call, kind: str, query: str) -> Reply:
        """Return a page of what a search finds (R4, http.html#search)."""
        parsed = parse(kind, query)
        with self._database.read() as connection:
            reply, events = self._find(connection, call, parsed, f"{kind}?{query}")
        self._record(events)
        return reply

    def bundle(self, call: Call, body: bytes, *, with_content: bool = False) -> Reply:
        """Carry out a transaction as one, or the entries of a batch each alone (R4, http.html#transaction).

        Parameters
        ----------
        call
            Who asks.
        body
            The Bundle.
        with_content
            Answer with the resources as stored (``Prefer: return=representation``).
        """
        prepared = self.prepare(body)
        if prepared.kind == "transaction":
            entries = self._database.write(lambda tx: self._transaction(tx, call, prepared, with_content=with_content))
            return Reply(status=200, body=bundles.response("transaction-response", entries))
        entries = [self._batch_entry(call, entry, with_content=with_content) for entry in prepared.entries]
        return Reply(status=200, body=bundles.response("batch-response", entries))

    def _one(self, call: Call, operation: Operation) -> Reply:
        prepared = PreparedBundle(kind="transaction", entries=(operation,))
        done = self._database.write(lambda tx: self._changes.apply(tx, prepared, call.principal))
        return _reply(call, done[0])

    def _transaction(self, tx: Transaction, call: Call, prepared: PreparedBundle, *, with_content: bool) -> list[Json]:
        done = self._changes.apply(tx, prepared, call.principal)
        answers: list[Json] = []
        for place, entry in enumerate(prepared.entries):
            assert isinstance(entry, Operation)
            if entry.method == "GET":
                reply, events = self._get(tx.connection, call, entry)
                self._audit.record_all(tx, events)
                answers.append(_fetched(reply))
            else:
                answers.append(_changed(_reply(call, done[place]), with_content=with_content))
        return answers

    def _batch_entry(self, call: Call, entry: Operation | Problem, *, with_content: bool) -> Json:
        if isinstance(entry, Problem):
            return _refused(entry)
        try:
            if entry.method != "GET":
                return _changed(self._one(call, entry), with_content=with_content)
            with self._database.read() as connection:
                reply, events = self._get(connection, call, entry)
            self._record(events)
            return _fetched(reply)
        except Exception as failure:  # noqa: BLE001 - each entry of a batch is answered for itself
            return _refused(as_problem(failure))

    def _get(self, connection: Connection, call: Call, entry: Operation) -> tuple[Reply, Sequence[Event]]:
        if entry.id:
            return self._look(connection, call, entry.type, entry.id, entry.version)
        return self._find(connection, call, parse(entry.type, entry.query), f"{entry.type}?{entry.query}")

    def _look(
        self, connection: Connection, call: Call, kind: str, resource_id: str, version: int | None
    ) -> tuple[Reply, Sequence[Event]]:
        at = self._clock.now()
        if kind == _AUDIT:
            row = read_event(connection, resource_id)
            if version not in {None, 1}:
                raise Problem(Category.NOT_FOUND, "there is no such version")
            entity = f"{_AUDIT}/{resource_id}"
            event = balp.read(call.principal, entity=entity, patient=row.patient, at=at)
            return Reply(status=200, body=row.event, etag='W/"1"', last_modified=row.recorded), [event]
        if version is None:
            found = self._store.read(connection, kind, resource_id)
        else:
            found = self._store.vread(connection, kind, resource_id, version)
        how: Any = "read" if version is None else "vread"
        event = balp.read(call.principal, entity=found.reference, patient=found.patient, at=at, interaction=how)
        reply = Reply(status=200, body=found.content, etag=found.etag, last_modified=found.last_updated)
        return reply, [event]

    def _find(self, connection: Connection, call: Call, query: Query, raw: str) -> tuple[Reply, Sequence[Event]]:
        address = f"{call.base}/{query.type}"
        if query.type == _AUDIT:
            events = find_events(connection, query)
            cursor = events.cursor
            matches = [(f"{address}/{row.id}", row.event) for row in events.found]
            patients = {row.patient for row in events.found}
        else:
            page = find(connection, query)
            cursor = page.cursor
            matches = [(f"{address}/{version.id}", version.content) for version in page.found]
            patients = {version.patient for version in page.found}
        self_link = f"{address}?{query.applied}" if query.applied else address
        onward = f"{address}?{query.next(cursor)}" if cursor else None
        at = self._clock.now()
        named: Sequence[str | None] = sorted(patient for patient in patients if patient) or [None]
        audit_events = [balp.queried(call.principal, query=raw, patient=patient, at=at) for patient in named]
        return Reply(status=200, body=bundles.searchset(matches, self_link=self_link, next_link=onward)), audit_events

    def _record(self, events: Sequence[Event]) -> None:
        self._database.write(lambda tx: self._audit.record_all(tx, events))


def _reply(call: Call, done: Done) -> Reply:
    version = done.version
    if version.deleted:
        return Reply(status=204, etag=version.etag, last_modified=version.last_updated)
    return Reply(
        status=done.status,
        body=version.content,
        etag=version.etag,
        last_modified=version.last_updated,
        location=f"{call.base}/{version.reference}",
    )


def _changed(reply: Reply, *, with_content: bool) -> Json:
    entry = bundles.response_entry(
        str(reply.status), location=reply.location, etag=reply.etag, modified=reply.last_modified
    )
    return {"resource": orjson.Fragment(reply.body)} | entry if with_content and reply.body else entry


def _fetched(reply: Reply) -> Json:
    entry = bundles.response_entry(str(reply.status), etag=reply.etag, modified=reply.last_modified)
    return {"resource": orjson.Fragment(reply.body)} | entry


def _refused(problem: Problem) -> Json:
    status = str(outcomes.status_of(problem))
    return {"response": {"status": status, "outcome": outcomes.outcome(problem)}}


def _history_page(query: str) -> tuple[int, int | None]:
    found = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name in {"_count", "_before"} and value.isascii() and value.isdigit() and len(value) < 10:
            found[name] = int(value)
        elif name != "_format":
            raise Problem(Category.INCORRECT, "a history is asked for with _count alone")
    return max(1, min(found.get("_count", 100), LARGEST_COUNT)), found.get("_before")
