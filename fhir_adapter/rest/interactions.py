"""The interactions of the FHIR R4 REST API (http.html) as plain functions; HTTP itself is in ``http``.

Each one authorizes, parses and prepares (or reads), and returns a :class:`Pending`: what is to be committed, and the
reply that is given after the commit. So none of them waits for the database's writer: the endpoint awaits it on its
event loop, and :meth:`Interactions.complete` waits in a thread. Only :meth:`Interactions.require` authorizes. Changes
go through :class:`~fhir_adapter.store.write.StoreWriter`; an interaction that only reads commits its audit event
before the answer is given.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

import orjson
from sqlalchemy import Connection

from fhir_adapter.rest import bundles
from fhir_adapter.rest import outcome as outcomes
from fhir_adapter.rest.access import of_instance, of_lookup, of_operation, of_search
from fhir_adapter.rest.audit_events import find_events, read_event
from fhir_adapter.results.common import SHADOW
from fhir_adapter.store.document import Json
from fhir_adapter.store.prepare import Entry, Lookup, PreparedBundle, PreparedChanges
from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.query import Query, parse
from fhir_adapter.store.store import Store
from fhir_adapter.store.write import AuditSink, StoreWriter, Written
from kernel.clock import Clock
from kernel.db import Database, Transaction
from kernel.errors import Category, Problem, as_problem
from privacy import balp
from privacy.authorize import Authorizer, Interaction, Request
from privacy.principal import Principal

Event: TypeAlias = Mapping[str, Any]

_AUDIT: Final = "AuditEvent"


@dataclass(frozen=True, kw_only=True)
class Call:
    """The principal of a request, and the base URL of this API for them."""

    principal: Principal
    #: Base URL without a final slash; references and links are made with it.
    base: str
    #: What the principal was permitted before the body of the request was read; it is not decided on again.
    permitted: Request | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer with the fields that HTTP needs."""

    status: int
    #: JSON; empty when there is no content.
    body: bytes = b""
    etag: str | None = None
    last_modified: datetime | None = None
    location: str | None = None


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A reply that must wait for a commit."""

    work: Callable[[Transaction], Any]
    #: Makes the reply of what ``work`` returned, or another commit that it must wait for.
    then: Callable[[Any], "Step"]


Step: TypeAlias = Reply | Pending


class Refused(Problem):
    """A request that is not permitted; whoever catches it records ``event`` before the answer is given.

    Parameters
    ----------
    problem
        Why it is not permitted.
    event
        The audit event of the refusal.
    """

    def __init__(self, problem: Problem, event: Event) -> None:
        super().__init__(problem.category, problem.detail, diagnostics=problem.diagnostics)
        self.event = event


class Interactions:
    """The FHIR API of one store.

    Parameters
    ----------
    database
        The database of the store.
    store
        Reads resources.
    writer
        Writes resources.
    audit
        Records every access.
    authorizer
        Permits or refuses each request.
    clock
        Source of the time of audit events.
    """

    def __init__(
        self,
        database: Database,
        store: Store,
        writer: StoreWriter,
        audit: AuditSink,
        authorizer: Authorizer,
        clock: Clock,
    ) -> None:
        self._database = database
        self._store = store
        self._writer = writer
        self._audit = audit
        self._authorizer = authorizer
        self._clock = clock
        self.types = writer.types

    def require(self, principal: Principal, request: Request) -> None:
        """Return when the request is permitted; never waits.

        Parameters
        ----------
        principal
            Who makes the request.
        request
            The requested interaction.

        Raises
        ------
        Refused
            With the event that must be recorded.
        """
        try:
            self._authorizer.require(principal, request)
        except Problem as problem:
            raise Refused(problem, balp.refused(principal, request, problem, at=self._clock.now())) from problem

    def complete(self, step: Step) -> Reply:
        """Commit what an interaction returned and return its reply; for threads.

        Parameters
        ----------
        step
            What one of the interactions returned.
        """
        while isinstance(step, Pending):
            step = step.then(self._database.write(step.work))
        return step

    async def complete_async(self, step: Step) -> Reply:
        """Do as :meth:`complete` does, awaited on an event loop.

        Parameters
        ----------
        step
            What one of the interactions returned.
        """
        while isinstance(step, Pending):
            step = step.then(await self._database.write_async(step.work))
        return step

    async def record_async(self, event: Event) -> None:
        """Record an event in the audit log, durably, awaited on an event loop."""
        await self._database.write_async(lambda tx: self._audit.record_all(tx, [event]))

    @property
    def reads_at_once(self) -> bool:
        """Whether a read waits for no other machine: the database is a file."""
        return self._database.is_sqlite

    def briefly(self) -> AbstractContextManager[None]:
        """Limit what an interaction on an event loop reads; as :meth:`kernel.db.Database.briefly`."""
        return self._database.briefly()

    def _require(self, call: Call, request: Request) -> None:
        if request != call.permitted:
            self.require(call.principal, request)

    def create(self, call: Call, kind: str, body: bytes, *, if_none_exist: str | None = None) -> Step:
        """Create a resource, unless the condition finds one (R4, http.html#create, #ccreate).

        Parameters
        ----------
        call
            Who makes the request.
        kind
            Resource type in the URL.
        body
            The resource as JSON.
        if_none_exist
            ``If-None-Exist``; None for a create without a condition.
        """
        self._require(call, of_instance(Interaction.CREATE, kind, ""))
        prepared = self._writer.prepare_create(kind, body, if_none_exist)
        self._require_conditions(call, prepared)
        return self._write_one(call, prepared)

    def update(self, call: Call, kind: str, resource_id: str, body: bytes, *, if_match: str | None = None) -> Step:
        """Store a new version of a resource, or the first (R4, http.html#update).

        Parameters
        ----------
        call
            Who makes the request.
        kind, resource_id
            Resource type and id in the URL.
        body
            The resource as JSON.
        if_match
            ``If-Match``: the version that must be the current one.
        """
        self._require(call, of_instance(Interaction.UPDATE, kind, resource_id))
        return self._write_one(call, self._writer.prepare_update(kind, resource_id, body, if_match))

    def delete(self, call: Call, kind: str, resource_id: str, *, if_match: str | None = None) -> Step:
        """Delete a resource; its history stays (R4, http.html#delete).

        Parameters as for :meth:`update`.
        """
        self.require(call.principal, of_instance(Interaction.DELETE, kind, resource_id))
        return self._write_one(call, self._writer.prepare_delete(kind, resource_id, if_match))

    def read(self, call: Call, kind: str, resource_id: str, version: int | None = None) -> Step:
        """Return a resource as it is, or as it was in one version (R4, http.html#read, #vread).

        Parameters
        ----------
        call
            Who makes the request.
        kind, resource_id
            Resource type and id in the URL.
        version
            None for the current version.
        """
        interaction = Interaction.READ if version is None else Interaction.VREAD
        self.require(call.principal, of_instance(interaction, kind, resource_id))
        with self._database.read() as connection:
            reply, events = self._read_version(connection, call, kind, resource_id, version)
        return self._recorded(events, reply)

    def history(self, call: Call, kind: str, resource_id: str, query: str = "") -> Step:
        """Return a resource's versions, newest first (R4, http.html#history).

        Parameters as for :meth:`read`; ``query`` is what follows the question mark: ``_count``, and ``_before`` in the
        links of this server.
        """
        self.require(call.principal, of_instance(Interaction.HISTORY, kind, resource_id))
        count, before = bundles.history_page(query)
        with self._database.read() as connection:
            found = self._store.history(connection, kind, resource_id, count=count + 1, before=before)
        versions = found[:count]
        link = f"{call.base}/{kind}/{resource_id}/_history?_count={count}"
        onward = f"{link}&_before={versions[-1].version}" if len(found) > count and versions else None
        patient = next((version.patient for version in found if version.patient), None)
        entity, at = f"{kind}/{resource_id}", self._clock.now()
        event = balp.read(call.principal, entity=entity, patient=patient, at=at, interaction="history-instance")
        body = bundles.history(versions, base=call.base, self_link=link, next_link=onward)
        return self._recorded([event], Reply(status=200, body=body))

    def search(self, call: Call, kind: str, query: str) -> Step:
        """Return a page of the matches of a search (R4, http.html#search).

        Parameters as for :meth:`create`; ``query`` is what follows the question mark, or the form of a POST, or both.
        """
        parsed = parse(kind, query)
        self.require(call.principal, of_search(parsed))
        with self._database.read() as connection:
            reply, events = self._find(connection, call, parsed, f"{kind}?{query}")
        return self._recorded(events, reply)

    def bundle(self, call: Call, body: bytes, *, with_content: bool = False) -> Step:
        """Carry out a transaction as a whole, or the entries of a batch one by one (R4, http.html#transaction).

        The GET entries of a transaction are read last (R4, http.html#trules), after its commit and not within it: they
        see the committed state, which may include later changes of other clients. An entry that fails gets an error of
        its own, because the changes are durable by then.

        Parameters
        ----------
        call
            Who makes the request.
        body
            The Bundle.
        with_content
            Answer with the resources as stored (``Prefer: return=representation``).
        """
        self._require(call, Request(interaction=Interaction.BUNDLE))
        prepared = self._writer.prepare_bundle(body)
        if prepared.kind == "transaction":
            return self._transaction(call, prepared, with_content=with_content)
        entries = [self._batch_entry(call, entry, with_content=with_content) for entry in prepared.entries]
        return Reply(status=200, body=bundles.response("batch-response", entries))

    def _write(self, call: Call, prepared: PreparedChanges) -> Callable[[Transaction], Sequence[Written]]:
        return lambda tx: self._writer.apply(tx, prepared, call.principal)

    def _write_one(self, call: Call, prepared: PreparedChanges) -> Pending:
        return Pending(work=self._write(call, prepared), then=lambda written: _reply(call, written[0]))

    def _transaction(self, call: Call, prepared: PreparedBundle, *, with_content: bool) -> Step:
        for entry in prepared.entries:
            self._require_entry(call, entry)
        self._require_conditions(call, prepared.changes)

        def answer(written: Sequence[Written]) -> Reply:
            changed = iter(written)
            lookups = iter(self._lookups(call, [entry for entry in prepared.entries if isinstance(entry, Lookup)]))
            entries = [
                next(lookups)
                if isinstance(entry, Lookup)
                else _changed(_reply(call, next(changed)), with_content=with_content)
                for entry in prepared.entries
            ]
            return Reply(status=200, body=bundles.response("transaction-response", entries))

        if not prepared.changes.operations:
            return answer(())
        return Pending(work=self._write(call, prepared.changes), then=answer)

    def _batch_entry(self, call: Call, entry: Entry, *, with_content: bool) -> Json:
        if isinstance(entry, Problem):
            return _refused(entry)
        try:
            self._require_entry(call, entry)
            if isinstance(entry, Lookup):
                return self._lookups(call, [entry])[0]
            prepared = PreparedChanges(operations=(entry,))
            self._require_conditions(call, prepared)
            return _changed(self.complete(self._write_one(call, prepared)), with_content=with_content)
        except Exception as failure:  # noqa: BLE001 - each entry of a batch is answered for itself
            if isinstance(failure, Refused):
                self._record([failure.event])
            return _refused(as_problem(failure))

    def _require_entry(self, call: Call, entry: Entry) -> None:
        if not isinstance(entry, Problem):
            self.require(call.principal, of_lookup(entry) if isinstance(entry, Lookup) else of_operation(entry))

    def _require_conditions(self, call: Call, prepared: PreparedChanges) -> None:
        """Authorize the searches of conditional creates and conditional references."""
        creates = [it.if_none_exist for it in prepared.operations if it.if_none_exist is not None]
        for query in (*creates, *prepared.conditions.values()):
            self.require(call.principal, of_search(query))

    def _lookups(self, call: Call, lookups: Sequence[Lookup]) -> list[Json]:
        """Answer GET entries from the committed state; each disclosure is recorded before it is returned."""
        answers: list[Json] = []
        events: list[Event] = []
        if not lookups:
            return answers
        try:
            with self._database.read() as connection:
                for lookup in lookups:
                    answer, disclosed = self._lookup(connection, call, lookup)
                    answers.append(answer)
                    events += disclosed
            if events:
                self._record(events)
        except Exception as failure:  # noqa: BLE001 - the changes of the same Bundle are durable and are reported
            return [_refused(as_problem(failure)) for _ in lookups]
        return answers

    def _lookup(self, connection: Connection, call: Call, lookup: Lookup) -> tuple[Json, Sequence[Event]]:
        try:
            if lookup.search is None:
                reply, events = self._read_version(connection, call, lookup.type, lookup.id, lookup.version)
            else:
                reply, events = self._find(connection, call, lookup.search, f"{lookup.type}?{lookup.query}")
        except Problem as problem:
            return _refused(problem), ()
        return _fetched(reply), events

    def _read_version(
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
            page = find(connection, query, hidden_tag=(SHADOW["system"], SHADOW["code"]))
            cursor = page.cursor
            matches = [(f"{address}/{version.id}", version.content) for version in page.found]
            patients = {version.patient for version in page.found}
        self_link = f"{address}?{query.applied}" if query.applied else address
        onward = f"{address}?{query.next(cursor)}" if cursor else None
        at = self._clock.now()
        named: Sequence[str | None] = sorted(patient for patient in patients if patient) or [None]
        audit_events = [balp.queried(call.principal, query=raw, patient=patient, at=at) for patient in named]
        return Reply(status=200, body=bundles.searchset(matches, self_link=self_link, next_link=onward)), audit_events

    def _recorded(self, events: Sequence[Event], reply: Reply) -> Pending:
        """Return the reply of a disclosure, which waits for its audit events."""
        return Pending(work=lambda tx: self._audit.record_all(tx, events), then=lambda _: reply)

    def _record(self, events: Sequence[Event]) -> None:
        self._database.write(lambda tx: self._audit.record_all(tx, events))


def _reply(call: Call, written: Written) -> Reply:
    version = written.version
    if version.deleted:
        return Reply(status=204, etag=version.etag, last_modified=version.last_updated)
    return Reply(
        status=201 if version.created and not written.existed else 200,
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
