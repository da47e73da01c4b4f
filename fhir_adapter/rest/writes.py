"""The interactions that change one resource: create, update, patch, delete (R4, http.html)."""

from collections.abc import Callable, Sequence

from fhir_adapter.patch.read import patch_of_body
from fhir_adapter.rest.access import of_instance, of_named, of_search
from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.own_references import relative
from fhir_adapter.rest.steps import Call, Pending, Reply, Step
from fhir_adapter.store.operations import Operation, PreparedChanges
from fhir_adapter.store.write import Target, Written
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
    prepared = backend.writer.prepare_create(kind, relative(body, call.base), if_none_exist)
    require_conditions(backend, call, prepared)
    return write_one(backend, call, prepared)


def update(
    backend: Backend,
    call: Call,
    target: Target,
    body: bytes,
    *,
    if_match: str | None = None,
    if_none_match: str | None = None,
) -> Step:
    """Store a new version of a resource, or the first (R4, http.html#update, #cond-update).

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    target
        The resource: by its id, or by a condition.
    body
        The resource as JSON.
    if_match
        ``If-Match``: the version that must be the current one.
    if_none_match
        ``If-None-Match``: ``*`` when there must be none yet.
    """
    backend.allow(call, of_instance(Interaction.UPDATE, target.type, target.id))
    prepared = backend.writer.prepare_update(target, relative(body, call.base), if_match, if_none_match)
    require_conditions(backend, call, prepared)
    return write_one(backend, call, prepared)


def patch(
    backend: Backend, call: Call, target: Target, body: bytes, media_type: str, *, if_match: str | None = None
) -> Step:
    """Change parts of a resource (R4, http.html#patch).

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    target
        The resource: by its id, or by a condition.
    body
        The patch document.
    media_type
        That of the body: it says which kind of patch it is.
    if_match
        ``If-Match``: the version that must be the current one.
    """
    backend.allow(call, of_instance(Interaction.PATCH, target.type, target.id))
    prepared = backend.writer.prepare_patch(target, patch_of_body(relative(body, call.base), media_type), if_match)
    require_conditions(backend, call, prepared)
    return write_one(backend, call, prepared)


def delete(backend: Backend, call: Call, target: Target, *, if_match: str | None = None) -> Step:
    """Delete a resource; its history stays (R4, http.html#delete).

    Parameters as for :func:`update`.
    """
    backend.require(call.principal, of_instance(Interaction.DELETE, target.type, target.id))
    prepared = backend.writer.prepare_delete(target, if_match)
    require_conditions(backend, call, prepared)
    return write_one(backend, call, prepared)


def require_conditions(backend: Backend, call: Call, prepared: PreparedChanges) -> None:
    """Authorize the searches of conditional changes and conditional references.

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    prepared
        The validated changes.
    """
    conditions = [query for it in prepared.operations for query in (it.if_none_exist, it.where) if query is not None]
    for query in (*conditions, *prepared.conditions.values()):
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

    def permit(operation: Operation) -> None:
        backend.require(call.principal, of_named(operation))

    return lambda tx: backend.writer.apply(tx, prepared, call.principal, permit)


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
    if written.searched:
        return Reply(status=204, changed=True)
    if version.deleted:
        return Reply(status=204, etag=version.etag, last_modified=version.last_updated, changed=True)
    return Reply(
        changed=True,
        status=201 if version.created and not written.existed else 200,
        body=version.content,
        etag=version.etag,
        last_modified=version.last_updated,
        location=f"{call.base}/{version.reference}",
    )
