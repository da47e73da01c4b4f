"""What is sent: the resource itself (R4, subscription.html), or a notification Bundle (R5 Backport IG 1.1 for R4)."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias

from fhir_adapter.store.document import Json, encode, exact_values, instant
from fhir_adapter.subscriptions.definition import BACKPORT, Content, Definition
from fhir_adapter.subscriptions.rows import Event, SubscriptionRow

Kind: TypeAlias = Literal["handshake", "heartbeat", "event-notification", "query-status", "query-event"]

FHIR_JSON: Final = "application/fhir+json"
_NAMESPACE: Final = uuid.UUID("3b9f4f0e-8d3c-5d3f-9a55-1f6f2c7f4f51")


@dataclass(frozen=True, kw_only=True)
class Occurred:
    """An event, and what was stored by it."""

    event: Event
    #: The JSON of the version; empty where it is not needed.
    content: bytes = b""

    @property
    def address(self) -> str:
        """``Type/id``."""
        return self.event.reference.partition("/_history/")[0]

    @property
    def is_create(self) -> bool:
        """Whether the event is the first version."""
        return self.event.reference.endswith("/_history/1")


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """One HTTP request."""

    method: Literal["POST", "PUT"]
    url: str
    body: bytes
    #: The same at every attempt.
    key: str


def raw(definition: Definition, occurred: Occurred) -> Outgoing:
    """Return the request of one event of a Subscription without a topic (R4, subscription.html#2.46.7.1).

    Parameters
    ----------
    definition
        What it asks for.
    occurred
        The event.
    """
    key = f"{definition.id}/{occurred.event.number}"
    if definition.content == "nothing":
        return Outgoing(method="POST", url=definition.endpoint, body=b"", key=key)
    url = f"{definition.endpoint.rstrip('/')}/{occurred.address}"
    return Outgoing(method="PUT", url=url, body=occurred.content, key=key)


def notification(
    definition: Definition, row: SubscriptionRow, kind: Kind, occurred: Sequence[Occurred], *, base: str, at: datetime
) -> Json:
    """Return a notification Bundle.

    Parameters
    ----------
    definition
        What the Subscription asks for.
    row
        Its state.
    kind
        Why it is sent.
    occurred
        The events, in their order.
    base
        URL of our FHIR API.
    at
        The current time.
    """
    newest = occurred[-1].event.number if occurred and kind == "event-notification" else row.events
    first = status(definition, row, kind, occurred, base=base, newest=newest)
    name = uuid.uuid5(_NAMESPACE, f"{definition.id}/{kind}/{newest}/{len(occurred)}")
    entries: list[Json] = [
        {
            "fullUrl": f"urn:uuid:{name}",
            "resource": first,
            "request": {"method": "GET", "url": f"{base}/Subscription/{definition.id}/$status"},
            "response": {"status": "200"},
        }
    ]
    if definition.content != "empty":
        entries += [_entry(it, definition.content, base) for it in occurred]
    return {
        "resourceType": "Bundle",
        "id": str(name),
        "meta": {"profile": [f"{BACKPORT}backport-subscription-notification-r4"]},
        "type": "history",
        "timestamp": instant(at),
        "entry": entries,
    }


def request_of(definition: Definition, bundle: Json) -> Outgoing:
    """Return the request that carries a notification Bundle.

    Parameters
    ----------
    definition
        What the Subscription asks for.
    bundle
        From :func:`notification`.
    """
    return Outgoing(method="POST", url=definition.endpoint, body=encode(bundle), key=f"{definition.id}/{bundle['id']}")


def status(
    definition: Definition,
    row: SubscriptionRow,
    kind: Kind,
    occurred: Sequence[Occurred] = (),
    *,
    base: str,
    newest: int | None = None,
) -> Json:
    """Return the status of a subscription as Parameters (backport-subscription-status-r4).

    Parameters
    ----------
    definition, row, kind, occurred, base
        As for :func:`notification`.
    newest
        Number of the newest event that the receiver knows with it; that of the subscription when None.
    """
    parts: list[Json] = [
        {"name": "subscription", "valueReference": {"reference": f"{base}/Subscription/{definition.id}"}},
        *([] if definition.topic is None else [{"name": "topic", "valueCanonical": definition.topic.url}]),
        {"name": "status", "valueCode": row.state},
        {"name": "type", "valueCode": kind},
        {"name": "events-since-subscription-start", "valueString": str(row.events if newest is None else newest)},
        *(_part(it, definition.content, base) for it in occurred),
        *([{"name": "error", "valueCodeableConcept": {"text": row.problem}}] if row.problem else []),
    ]
    return {
        "resourceType": "Parameters",
        "id": str(uuid.uuid5(_NAMESPACE, f"{definition.id}/status/{kind}/{row.events}")),
        "meta": {"profile": [f"{BACKPORT}backport-subscription-status-r4"]},
        "parameter": parts,
    }


def _part(occurred: Occurred, content: Content, base: str) -> Json:
    parts: list[Json] = [
        {"name": "event-number", "valueString": str(occurred.event.number)},
        {"name": "timestamp", "valueInstant": instant(occurred.event.at)},
    ]
    if content != "empty":
        parts.append({"name": "focus", "valueReference": {"reference": f"{base}/{occurred.address}"}})
    return {"name": "notification-event", "part": parts}


def _entry(occurred: Occurred, content: Content, base: str) -> Json:
    kind = occurred.address.partition("/")[0]
    request = {"method": "POST", "url": kind} if occurred.is_create else {"method": "PUT", "url": occurred.address}
    entry: Json = {"fullUrl": f"{base}/{occurred.address}"}
    if content == "full-resource" and occurred.content:
        entry["resource"] = exact_values(occurred.content)
    return entry | {"request": request, "response": {"status": "201" if occurred.is_create else "200"}}
