"""Transactions and batches (R4, http.html#transaction)."""

from collections.abc import Sequence

import orjson
from sqlalchemy import Connection

from fhir_adapter.rest import bundles
from fhir_adapter.rest import outcome as outcomes
from fhir_adapter.rest.access import of_lookup, of_operation
from fhir_adapter.rest.answers import not_modified
from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.budget import Budget
from fhir_adapter.rest.own_references import relative
from fhir_adapter.rest.reads import read_version
from fhir_adapter.rest.searches import found_by
from fhir_adapter.rest.steps import Call, Event, Pending, Refused, Reply, Step
from fhir_adapter.rest.writes import reply_of, require_conditions, write, write_one
from fhir_adapter.store.document import Json
from fhir_adapter.store.operations import Entry, Lookup, PreparedBundle, PreparedChanges
from fhir_adapter.store.write import Written
from kernel.errors import Problem, as_problem
from privacy.authorize import Interaction, Request


def bundle(backend: Backend, call: Call, body: bytes, *, returns: str = "") -> Step:
    """Carry out a transaction as a whole, or the entries of a batch one by one (R4, http.html#transaction).

    The GET entries of a transaction are read last (R4, http.html#trules), after its commit and not within it: they
    see the committed state, which may include later changes of other clients. An entry that fails gets an error of
    its own, because the changes are durable by then.

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    body
        The Bundle.
    returns
        What ``Prefer`` asks each change to return: ``representation``, ``OperationOutcome`` or less.
    """
    backend.allow(call, Request(interaction=Interaction.BUNDLE))
    prepared = backend.writer.prepare_bundle(relative(body, call.base))
    if prepared.kind == "transaction":
        return _transaction(backend, call, prepared, returns=returns)
    budget = Budget()
    entries = [_batch_entry(backend, call, entry, budget, returns=returns) for entry in prepared.entries]
    return Reply(status=200, body=bundles.response("batch-response", entries))


def _transaction(backend: Backend, call: Call, prepared: PreparedBundle, *, returns: str) -> Step:
    for entry in prepared.entries:
        _require_entry(backend, call, entry)
    require_conditions(backend, call, prepared.changes)

    def answer(written: Sequence[Written]) -> Reply:
        changed = iter(written)
        reads = [entry for entry in prepared.entries if isinstance(entry, Lookup)]
        lookups = iter(_lookups(backend, call, reads, Budget()))
        entries = [
            next(lookups) if isinstance(entry, Lookup) else _changed(reply_of(call, next(changed)), returns=returns)
            for entry in prepared.entries
        ]
        return Reply(status=200, body=bundles.response("transaction-response", entries))

    if not prepared.changes.operations:
        return answer(())
    return Pending(work=write(backend, call, prepared.changes), then=answer)


def _batch_entry(backend: Backend, call: Call, entry: Entry, budget: Budget, *, returns: str) -> Json:
    if isinstance(entry, Problem):
        return _refused(entry)
    try:
        _require_entry(backend, call, entry)
        if isinstance(entry, Lookup):
            return _lookups(backend, call, [entry], budget)[0]
        prepared = PreparedChanges(operations=(entry,))
        require_conditions(backend, call, prepared)
        return _changed(backend.complete(write_one(backend, call, prepared)), returns=returns)
    except Exception as failure:  # noqa: BLE001 - each entry of a batch is answered for itself
        if isinstance(failure, Refused):
            backend.record([failure.event])
        return _refused(as_problem(failure))


def _require_entry(backend: Backend, call: Call, entry: Entry) -> None:
    if not isinstance(entry, Problem):
        backend.require(call.principal, of_lookup(entry) if isinstance(entry, Lookup) else of_operation(entry))


def _lookups(backend: Backend, call: Call, lookups: Sequence[Lookup], budget: Budget) -> list[Json]:
    """Answer GET entries from the committed state; each disclosure is recorded before it is returned.

    They are read in the thread of the request, never in a commit, and no more of them than the budget allows.
    """
    answers: list[Json] = []
    events: list[Event] = []
    if not lookups:
        return answers
    try:
        with backend.database.read() as connection:
            for lookup in lookups:
                answer, disclosed = _lookup(backend, connection, call, lookup, budget)
                answers.append(answer)
                events += disclosed
        if events:
            backend.record(events)
    except Exception as failure:  # noqa: BLE001 - the changes of the same Bundle are durable and are reported
        return [_refused(as_problem(failure)) for _ in lookups]
    return answers


def _lookup(
    backend: Backend, connection: Connection, call: Call, lookup: Lookup, budget: Budget
) -> tuple[Json, Sequence[Event]]:
    try:
        budget.require()
        if lookup.search is None:
            reply, events = read_version(backend, connection, call, lookup.type, lookup.id, lookup.version)
        else:
            reply, events = found_by(backend, connection, call, lookup.search, f"{lookup.type}?{lookup.query}")
    except Problem as problem:
        return _refused(problem), ()
    budget.take(reply.body)
    return _fetched(reply, lookup), events


def _changed(reply: Reply, *, returns: str) -> Json:
    entry = bundles.response_entry(
        str(reply.status), location=reply.location, etag=reply.etag, modified=reply.last_modified
    )
    if returns == "OperationOutcome":
        entry["response"]["outcome"] = outcomes.success("done")
    return {"resource": orjson.Fragment(reply.body)} | entry if returns == "representation" and reply.body else entry


def _fetched(reply: Reply, lookup: Lookup) -> Json:
    is_known = not_modified(reply, lookup.if_none_match, lookup.if_modified_since)
    status = 304 if is_known else reply.status
    entry = bundles.response_entry(str(status), etag=reply.etag, modified=reply.last_modified)
    return entry if is_known or lookup.head else {"resource": orjson.Fragment(reply.body)} | entry


def _refused(problem: Problem) -> Json:
    status = str(outcomes.status_of(problem))
    return {"response": {"status": status, "outcome": outcomes.outcome(problem)}}
