"""Searches of one type (R4, search.html)."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from fhir_adapter.rest import bundles
from fhir_adapter.rest.access import of_search
from fhir_adapter.rest.audit_events import find_events
from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.steps import Call, Event, Reply, Step
from fhir_adapter.results.common import SHADOW
from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.query import Query, parse
from privacy import balp

_AUDIT: Final = "AuditEvent"


def search(backend: Backend, call: Call, kind: str, query: str) -> Step:
    """Return a page of the matches of a search (R4, http.html#search).

    Parameters as for :func:`~fhir_adapter.rest.writes.create`; ``query`` is what follows the question mark, or the form
    of a POST, or both.
    """
    parsed = parse(kind, query)
    backend.require(call.principal, of_search(parsed))
    with backend.database.read() as connection:
        reply, events = found_by(backend, connection, call, parsed, f"{kind}?{query}")
    return backend.recorded(events, reply)


def found_by(
    backend: Backend, connection: Connection, call: Call, query: Query, raw: str
) -> tuple[Reply, Sequence[Event]]:
    """Return the page of a search, and the events that record it.

    Parameters
    ----------
    backend
        The parts of the API.
    connection
        A connection that can read.
    call
        Who makes the request.
    query
        The parsed search.
    raw
        The search as it was sent, for the audit log.
    """
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
    at = backend.clock.now()
    named: Sequence[str | None] = sorted(patient for patient in patients if patient) or [None]
    audit_events = [balp.queried(call.principal, query=raw, patient=patient, at=at) for patient in named]
    return Reply(status=200, body=bundles.searchset(matches, self_link=self_link, next_link=onward)), audit_events
