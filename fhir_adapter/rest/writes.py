"""The interactions that change one resource: create, update, delete (R4, http.html)."""

from collections.abc import Callable, Sequence

from fhir_adapter.rest.access import of_instance, of_search
from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.steps import Call, Pending, Reply, Step
from fhir_adapter.store.prepare import PreparedChanges
from fhir_adapter.store.write import Written
from kernel.db import Transaction
from privacy.authorize import Interaction


def create(backend: Backend, call: Call, kind: str, body: bytes, *, if_none_exist: str | None = None) -> Step:
    """Create a resource, unless the condition finds one (R4, http.html#create, #ccreate).

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    kind
        Resource type in the URL.
    body
        The resource as JSON.
    if_none_exist
        ``If-None-Exist``; None for a create without a condition.
    """
    backend.allow(call, of_instance(Interaction.CREATE, kind, ""))
    prepared = backend.writer.prepare_create(kind, body, if_none_exist)
    require_conditions(backend, call, prepared)
    return write_one(backend, call, prepared)


def update(
    backend: Backend, call: Call, kind: str, resource_id: str, body: bytes, *, if_match: str | None = None
) -> Step:
    """Store a new version of a resource, or the first (R4, http.html#update).

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    kind, resource_id
        Resource type and id in the URL.
    body
        The resource as JSON.
    if_match
        ``If-Match``: the version that must be the current one.
    """
    backend.allow(call, of_instance(Interaction.UPDATE, kind, resource_id))
    return write_one(backend, call, backend.writer.prepare_update(kind, resource_id, body, if_match))


def delete(backend: Backend, call: Call, kind: str, resource_id: str, *, if_match: str | None = None) -> Step:
    """Delete a resource; its history stays (R4, http.html#delete).

    Parameters as for :func:`update`.
    """
    backend.require(call.principal, of_instance(Interaction.DELETE, kind, resource_id))
    return write_one(backend, call, backend.writer.prepare_delete(kind, resource_id, if_match))


def require_conditions(backend: Backend, call: Call, prepared: PreparedChanges) -> None:
    """Authorize the searches of conditional creates and conditional references.

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    prepared
        The validated changes.
    """
    creates = [it.if_none_exist for it in prepared.operations if it.if_none_exist is not None]
    for query in (*creates, *prepared.conditions.values()):
        backend.require(call.principal, of_search(query))


def write(backend: Backend, call: Call, prepared: PreparedChanges) -> Callable[[Transaction], Sequence[Written]]:
    """Return the work of a commit that carries out changes, for the principal of a call.

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    prepared
        The validated changes.
    """
    return lambda tx: backend.writer.apply(tx, prepared, call.principal)


def write_one(backend: Backend, call: Call, prepared: PreparedChanges) -> Pending:
    """Return the commit of one change and its reply.

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    prepared
        The validated changes.
    """
    return Pending(work=write(backend, call, prepared), then=lambda written: reply_of(call, written[0]))


def reply_of(call: Call, written: Written) -> Reply:
    """Return the reply to a change (R4, http.html#create, #update, #delete).

    Parameters
    ----------
    call
        Who made the request.
    written
        What was stored.
    """
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
