"""The interactions that read one resource: read and vread (R4, http.html)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection

from fhir_adapter.rest.access import of_instance
from fhir_adapter.rest.audit_events import read_event
from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.steps import Call, Event, Reply, Step
from fhir_adapter.store.query_string import each_once
from fhir_adapter.store.summary import reduced
from kernel.errors import Category, Problem
from privacy import balp
from privacy.authorize import Interaction

_AUDIT: Final = "AuditEvent"
_PARAMETERS: Final = frozenset({"_summary", "_elements", "_format", "_pretty"})


@dataclass(frozen=True, kw_only=True)
class View:
    """What of a resource is returned (R4, search.html#summary, #elements)."""

    #: ``_summary``; None when it was not sent.
    summary: str | None = None
    #: ``_elements``; empty when it was not sent.
    elements: tuple[str, ...] = ()


WHOLE: Final = View()


def view_of(query: str) -> View:
    """Return the view that the parameters of a read ask for.

    Raises
    ------
    Problem
        ``incorrect`` for a parameter that a read does not have.
    """
    if not query:
        return WHOLE
    values = each_once(query, _PARAMETERS, "a read takes _summary, _elements, _format and _pretty, each once")
    names = tuple(name for name in values.get("_elements", "").split(",") if name)
    return View(summary=values.get("_summary"), elements=names)


def read(
    backend: Backend, call: Call, kind: str, resource_id: str, version: int | None = None, *, view: View = WHOLE
) -> Step:
    """Return a resource as it is, or as it was in one version (R4, http.html#read, #vread).

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    kind, resource_id
        Resource type and id in the URL.
    version
        None for the current version.
    view
        What of it is returned.
    """
    interaction = Interaction.READ if version is None else Interaction.VREAD
    backend.require(call.principal, of_instance(interaction, kind, resource_id))
    with backend.database.read() as connection:
        reply, events = read_version(backend, connection, call, kind, resource_id, version)
    if view is not WHOLE:
        reply = replace(reply, body=reduced(reply.body, kind, view.summary, view.elements))
    return backend.recorded(events, reply)


def read_version(
    backend: Backend, connection: Connection, call: Call, kind: str, resource_id: str, version: int | None
) -> tuple[Reply, Sequence[Event]]:
    """Return the reply of a read, and the events that record it.

    Parameters
    ----------
    backend
        The parts of the API.
    connection
        A connection that can read.
    call
        Who makes the request.
    kind, resource_id
        Resource type and id.
    version
        None for the current version.

    Raises
    ------
    Problem
        ``not-found`` when there is no such resource or version.
    """
    at = backend.clock.now()
    if kind == _AUDIT:
        row = read_event(connection, resource_id)
        if version not in {None, 1}:
            raise Problem(Category.NOT_FOUND, "there is no such version")
        entity = f"{_AUDIT}/{resource_id}"
        event = balp.read(call.principal, entity=entity, patient=row.patient, at=at)
        return Reply(status=200, body=row.event, etag='W/"1"', last_modified=row.recorded), [event]
    if version is None:
        found = backend.store.read(connection, kind, resource_id)
    else:
        found = backend.store.vread(connection, kind, resource_id, version)
    how: Any = "read" if version is None else "vread"
    event = balp.read(call.principal, entity=found.reference, patient=found.patient, at=at, interaction=how)
    reply = Reply(status=200, body=found.content, etag=found.etag, last_modified=found.last_updated)
    return reply, [event]
