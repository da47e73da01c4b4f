"""``$status`` and ``$events`` of Subscriptions (R5 Backport IG 1.1, operations)."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import orjson
from sqlalchemy import Connection

from fhir_adapter.rest.access import of_instance
from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.steps import Call, Event, Reply, Step
from fhir_adapter.store.document import Json, encode
from fhir_adapter.store.query_string import pairs_of
from fhir_adapter.subscriptions import notifications, rows
from fhir_adapter.subscriptions.definition import Content, Definition, stored
from fhir_adapter.subscriptions.notifications import Occurred
from fhir_adapter.subscriptions.rows import SubscriptionRow
from kernel.errors import Category, Problem
from privacy import balp
from privacy.authorize import Interaction

MOST_EVENTS: Final = 1000
"""Events of one answer."""
_SUBSCRIPTION: Final = "Subscription"
_FORMAT: Final = frozenset({"_format", "_pretty"})
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_CONTENTS: Final[Mapping[str, Content]] = {"empty": "empty", "id-only": "id-only", "full-resource": "full-resource"}


def status(backend: Backend, call: Call, subscription: str, query: str) -> Step:
    """Return the status of one subscription, or of those with an id or status.

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    subscription
        Id of the Subscription; empty for the operation of the type.
    query
        What follows the question mark: for the type ``id`` and ``status``, each repeated or separated by commas.

    Raises
    ------
    Problem
        ``not-found`` when there is no such Subscription, ``incorrect`` for a parameter that is not defined.
    """
    backend.require(call.principal, of_instance(Interaction.READ, _SUBSCRIPTION, subscription))
    asked = _parameters(query, frozenset() if subscription else frozenset({"id", "status"}))
    ids = {subscription} if subscription else _values(asked, "id")
    states = _values(asked, "status")
    with backend.database.read() as connection:
        if subscription:
            backend.store.read(connection, _SUBSCRIPTION, subscription)
        found = [it for it in rows.listing(connection) if not ids or it.id in ids]
        found = [it for it in found if not states or it.state in states]
        if not subscription:
            found = [it for it in found if _is_stored(backend, connection, it.id)]
    entries = [
        {
            "fullUrl": f"{call.base}/{_SUBSCRIPTION}/{row.id}/$status",
            "resource": notifications.status(_definition(row), row, "query-status", base=call.base),
            "search": {"mode": "match"},
        }
        for row in found
    ]
    bundle = {"resourceType": "Bundle", "type": "searchset", "total": len(entries)}
    at = backend.clock.now()
    events = [balp.read(call.principal, entity=f"{_SUBSCRIPTION}/{row.id}", patient=None, at=at) for row in found]
    body = encode(bundle | ({"entry": entries} if entries else {}))
    return backend.recorded(events, Reply(status=200, body=body)) if events else Reply(status=200, body=body)


def events(backend: Backend, call: Call, subscription: str, query: str) -> Step:
    """Return events of a subscription again, whatever became of their delivery.

    Parameters
    ----------
    backend, call
        As for :func:`status`.
    subscription
        Id of the Subscription.
    query
        ``eventsSinceNumber`` and ``eventsUntilNumber``, both included, and ``content``.

    Raises
    ------
    Problem
        ``not-found`` when there is no such Subscription, ``incorrect`` for a parameter that is not defined.
    """
    backend.require(call.principal, of_instance(Interaction.READ, _SUBSCRIPTION, subscription))
    asked = dict(_parameters(query, frozenset({"eventsSinceNumber", "eventsUntilNumber", "content"})))
    first, last = (_number(asked, name) for name in ("eventsSinceNumber", "eventsUntilNumber"))
    with backend.database.read() as connection:
        backend.store.read(connection, _SUBSCRIPTION, subscription)
        row = rows.one(connection, subscription)
        if row is None:
            raise Problem(Category.NOT_FOUND, "nothing is sent for this Subscription")
        definition = _definition(row, asked.get("content"))
        until = row.events if last is None else min(last, row.events)
        after = 0 if first is None else first - 1
        found = rows.events(connection, subscription, after, until=until, count=MOST_EVENTS)
        if definition.content == "full-resource":
            for event in found:
                kind, resource_id, *_ = event.reference.split("/")
                backend.require(call.principal, of_instance(Interaction.READ, kind, resource_id))
        occurred = [_occurred(backend, connection, it, definition) for it in found]
    at = backend.clock.now()
    bundle = notifications.notification(definition, row, "query-event", occurred, base=call.base, at=at)
    disclosed: Sequence[Event] = [
        balp.read(call.principal, entity=it.event.reference, patient=it.event.patient, at=at) for it in occurred
    ]
    own = balp.read(call.principal, entity=f"{_SUBSCRIPTION}/{subscription}", patient=None, at=at)
    return backend.recorded([own, *disclosed], Reply(status=200, body=encode(bundle)))


def _definition(row: SubscriptionRow, content: str | None = None) -> Definition:
    if content is not None and content not in _CONTENTS:
        raise Problem(Category.INCORRECT, f"content is one of {', '.join(_CONTENTS)}")
    definition: Json = orjson.loads(row.definition)
    return stored(row.id, definition, None if content is None else _CONTENTS[content])


def _is_stored(backend: Backend, connection: Connection, subscription: str) -> bool:
    try:
        backend.store.read(connection, _SUBSCRIPTION, subscription)
    except Problem:
        return False
    return True


def _occurred(backend: Backend, connection: Connection, event: rows.Event, definition: Definition) -> Occurred:
    if definition.content != "full-resource":
        return Occurred(event=event)
    kind, resource_id, _, version = event.reference.split("/")
    return Occurred(event=event, content=backend.store.vread(connection, kind, resource_id, int(version)).content)


def _parameters(query: str, known: frozenset[str]) -> list[tuple[str, str]]:
    found = pairs_of(query)
    if not {name for name, _ in found} <= known | _FORMAT:
        raise Problem(Category.INCORRECT, f"the parameters of this operation are {', '.join(sorted(known)) or 'none'}")
    return [(name, value) for name, value in found if value]


def _values(asked: Sequence[tuple[str, str]], wanted: str) -> set[str]:
    parts = {part for name, value in asked if name == wanted for part in value.split(",")}
    return {part.removeprefix(f"{_SUBSCRIPTION}/") for part in parts}


def _number(asked: Mapping[str, str], name: str) -> int | None:
    if name not in asked:
        return None
    if not _NUMBER.fullmatch(asked[name]):
        raise Problem(Category.INCORRECT, f"{name} is a number")
    return int(asked[name])
