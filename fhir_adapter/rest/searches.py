"""Searches of one type (R4, search.html)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection

from fhir_adapter.rest import bundles
from fhir_adapter.rest.access import of_search
from fhir_adapter.rest.audit_events import count_events, find_events
from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.steps import Call, Event, Reply, Step
from fhir_adapter.results.common import SHADOW
from fhir_adapter.store.problems import TooCostly
from fhir_adapter.store.search.compartments import PATIENT
from fhir_adapter.store.search.criteria import compartment
from fhir_adapter.store.search.find import find, total
from fhir_adapter.store.search.includes import included
from fhir_adapter.store.search.parse import parse
from fhir_adapter.store.search.query import Query
from fhir_adapter.store.summary import reduced
from kernel.errors import Category, Problem
from kernel.limited import TookLong, limited, require_seconds
from privacy import balp

_AUDIT: Final = "AuditEvent"
_SMALL_PAGE: Final = 100
"""Matches that an event loop makes a page of."""
MOST_SECONDS: Final = 10.0
"""What one search may take of the database's time."""
HIDDEN: Final = (SHADOW["system"], SHADOW["code"])
"""Results of models on trial are found by their tag alone."""


def search(
    backend: Backend, call: Call, kind: str, query: str, *, lenient: bool = False, patient: str | None = None
) -> Step:
    """Return a page of the matches of a search (R4, http.html#search).

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    kind
        Resource type in the URL.
    query
        What follows the question mark, or the form of a POST, or both.
    lenient
        Ignore parameters that are not served (``Prefer: handling=lenient``).
    patient
        Id of the patient in whose compartment is searched; None for all resources.

    Raises
    ------
    Problem
        ``not-found`` for a type of which no resources are in a compartment.
    """
    also = []
    address = kind
    if patient is not None:
        if kind not in PATIENT:
            raise Problem(Category.NOT_FOUND, "resources of this type are in no patient's compartment")
        also.append(compartment(kind, PATIENT[kind], f"Patient/{patient}"))
        address = f"Patient/{patient}/{kind}"
    parsed = parse(kind, query, lenient=lenient, base=call.base, also=also)
    backend.require(call.principal, of_search(parsed))
    with backend.database.read() as connection:
        reply, events = found_by(backend, connection, call, parsed, f"{address}?{query}", address=address)
    return backend.recorded(events, reply)


def found_by(
    backend: Backend, connection: Connection, call: Call, query: Query, raw: str, *, address: str = ""
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
    address
        Of the search, below that of the API; empty for the type.
    """
    if query.count > _SMALL_PAGE or query.inclusions or query.elements or query.summary not in {"", "false"}:
        require_seconds(connection, MOST_SECONDS)  # what follows the reading takes its time too
    with bounded(connection):
        return _found_by(backend, connection, call, query, raw, address or query.type)


@contextmanager
def bounded(connection: Connection) -> Iterator[None]:
    """Limit what one search, or one operation like it, may read.

    Raises
    ------
    TooCostly
        When it takes longer than :data:`MOST_SECONDS`.
    """
    try:
        with limited(connection, MOST_SECONDS):
            yield
    except TookLong as failure:
        raise TooCostly(f"the search took more than {MOST_SECONDS:.0f} seconds; limit it further") from failure


def _found_by(
    backend: Backend, connection: Connection, call: Call, query: Query, raw: str, address: str
) -> tuple[Reply, Sequence[Event]]:
    found: list[bundles.Found] = []
    patients: set[str | None] = set()
    cursor = None
    if query.summary == "count":
        pass
    elif query.type == _AUDIT:
        events = find_events(connection, query)
        cursor = events.cursor
        found = [bundles.Found(f"{call.base}/{_AUDIT}/{row.id}", row.event) for row in events.found]
        patients = {row.patient for row in events.found}
    else:
        page = find(connection, query, hidden_tag=HIDDEN)
        cursor = page.cursor
        more = (
            included(connection, page.found, query.inclusions, hidden_tag=HIDDEN, base=call.base)
            if query.inclusions
            else ()
        )
        form = query.summary or None
        found = [
            bundles.Found(f"{call.base}/{it.type}/{it.id}", reduced(it.content, it.type, form, query.elements))
            for it in page.found
        ]
        found += [
            bundles.Found(f"{call.base}/{it.type}/{it.id}", reduced(it.content, it.type, form, ()), mode="include")
            for it in more
        ]
        patients = {version.patient for version in (*page.found, *more)}
    number = None
    if query.total == "accurate" or query.summary == "count":
        count = count_events if query.type == _AUDIT else _count
        number = count(connection, query)
    place = f"{call.base}/{address}"
    self_link = f"{place}?{query.link}" if query.link else place
    onward = f"{place}?{query.next(cursor)}" if cursor else None
    at = backend.clock.now()
    named: Sequence[str | None] = sorted(patient for patient in patients if patient) or [None]
    audit_events = [balp.queried(call.principal, query=raw, patient=patient, at=at) for patient in named]
    body = bundles.searchset(found, self_link=self_link, next_link=onward, total=number, ignored=query.ignored)
    return Reply(status=200, body=body), audit_events


def _count(connection: Connection, query: Query) -> int:
    return total(connection, query, hidden_tag=HIDDEN)
