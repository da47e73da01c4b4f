"""Reads a Subscription: what it watches, where and in which form its events are sent.

Whatever this server could not do is refused here, at the creation: a filter that is ignored would disclose more than
was asked for, and a subscription that never fires is worse than none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, NoReturn, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from fhir_adapter.store.document import Json
from fhir_adapter.store.problems import Invalid, Issue
from fhir_adapter.store.search.parameters import AUDIT_EVENT, types
from fhir_adapter.store.search.parse import parse
from fhir_adapter.store.search.query import Query
from fhir_adapter.store.times import span
from fhir_adapter.subscriptions.endpoints import Endpoints
from fhir_adapter.subscriptions.matching import Stored, matches, needs_others
from fhir_adapter.subscriptions.topics import TOPICS, Topic
from kernel.errors import Problem

Content: TypeAlias = Literal["resource", "nothing", "empty", "id-only", "full-resource"]
"""The first two are those of R4 without a topic: the resource itself, or a request without a body."""

BACKPORT: Final = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
FILTER: Final = f"{BACKPORT}backport-filter-criteria"
_CONTENT: Final = f"{BACKPORT}backport-payload-content"
_HEARTBEAT: Final = f"{BACKPORT}backport-heartbeat-period"
_TIMEOUT: Final = f"{BACKPORT}backport-timeout"
_MAX_COUNT: Final = f"{BACKPORT}backport-max-count"
_CONTENTS: Final[dict[str, Content]] = {"empty": "empty", "id-only": "id-only", "full-resource": "full-resource"}
_OF_RESULTS: Final = ("_count", "_sort", "_cursor", "_format", "_pretty", "_total", "_summary", "_elements")
JSON_TYPES: Final = frozenset({"application/fhir+json", "application/json"})
DEFAULT_TIMEOUT_S: Final = 10
LONGEST_TIMEOUT_S: Final = 30
SHORTEST_HEARTBEAT_S: Final = 10
DEFAULT_BATCH: Final = 20
LARGEST_BATCH: Final = 100


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What a Subscription asks for."""

    id: str
    status: str
    endpoint: str
    content: Content
    #: None for a Subscription of R4 itself, whose criteria are a search.
    topic: Topic | None
    #: Searches; with a topic its filters.
    searches: tuple[Query, ...]
    heartbeat_s: int = 0
    timeout_s: int = DEFAULT_TIMEOUT_S
    #: Events in one notification.
    batch: int = 1
    ends_at: datetime | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """Resource types that it watches."""
        named = tuple(dict.fromkeys(query.type for query in self.searches))
        return named if named or self.topic is None else self.topic.types

    def is_met(self, stored: Stored) -> bool:
        """Return whether a version, which is no deletion, is an event of this Subscription."""
        if self.topic is None:
            return any(matches(query, stored) for query in self.searches)
        if not self.topic.is_event(stored.plain, stored.version.version):
            return False
        filters = [query for query in self.searches if query.type == stored.version.type]
        return all(matches(query, stored) for query in filters) if filters else not stored.is_hidden


def read(resource_id: str, resource: Json, endpoints: Endpoints, base: str = "") -> Definition:
    """Read a valid Subscription.

    Parameters
    ----------
    resource_id
        Its logical id.
    resource
        Plain JSON.
    endpoints
        To which addresses notifications may be sent.
    base
        URL of this API: references in criteria that start with it are its own.

    Raises
    ------
    Invalid
        When this server could not do what it asks for.
    """
    channel = resource["channel"]
    if channel["type"] != "rest-hook":
        _refuse("only rest-hook channels are supported", "channel.type")
    if fault := endpoints.fault(channel.get("endpoint", "")):
        _refuse(fault, "channel.endpoint")
    if channel.get("payload") is not None and channel["payload"] not in JSON_TYPES:
        _refuse("the payload is application/fhir+json, or there is none", "channel.payload")
    criteria = resource["criteria"]
    topic = TOPICS.get(criteria)
    filters = list(_values(resource.get("_criteria", {}), FILTER, "criteria"))
    if topic is None and (filters or ":" in criteria.partition("?")[0]):
        _refuse("there is no such topic", "criteria")
    texts = [criteria] if topic is None else filters
    batch = _whole(channel, _MAX_COUNT, DEFAULT_BATCH, 1, LARGEST_BATCH)
    return Definition(
        id=resource_id,
        status=resource["status"],
        endpoint=channel["endpoint"],
        content=_content(channel, topic),
        topic=topic,
        searches=tuple(_search(str(text), topic, base) for text in texts),
        heartbeat_s=0 if topic is None else _whole(channel, _HEARTBEAT, 0, SHORTEST_HEARTBEAT_S, 86_400),
        timeout_s=_whole(channel, _TIMEOUT, DEFAULT_TIMEOUT_S, 1, LONGEST_TIMEOUT_S),
        batch=1 if topic is None else batch,
        ends_at=span(resource["end"])[1] if "end" in resource else None,
    )


def stored(resource_id: str, resource: Json, content: Content | None = None) -> Definition:
    """Return what a Subscription that was accepted before asks for, for those who ask about it.

    Parameters
    ----------
    resource_id, resource
        As for :func:`read`.
    content
        What of each event is shown; as it is sent when None.
    """
    channel, topic = resource["channel"], TOPICS.get(resource["criteria"])
    coded = next(_values(channel.get("_payload", {}), _CONTENT, "channel.payload"), None)
    as_sent: Content = _CONTENTS.get(str(coded), "full-resource" if "payload" in channel else "empty")
    return Definition(
        id=resource_id,
        status=resource["status"],
        endpoint=channel.get("endpoint", ""),
        content=content or as_sent,
        topic=topic,
        searches=(),
    )


def _content(channel: Json, topic: Topic | None) -> Content:
    stated = list(_values(channel.get("_payload", {}), _CONTENT, "channel.payload"))
    if topic is None:
        if stated:
            _refuse("the content of the payload is chosen for topics alone", "channel.payload")
        if "payload" in channel and urlsplit(channel["endpoint"]).query:
            _refuse("an endpoint to which Type/id is added can have no query", "channel.endpoint")
        return "resource" if "payload" in channel else "nothing"
    if len(stated) != 1 or stated[0] not in _CONTENTS:
        _refuse("backport-payload-content must be empty, id-only or full-resource", "channel.payload")
    if "payload" not in channel:
        _refuse("a notification of a topic is application/fhir+json", "channel.payload")
    return _CONTENTS[stated[0]]


def _search(text: str, topic: Topic | None, base: str) -> Query:
    kind, _, query = text.partition("?")
    if kind not in types() or kind in {AUDIT_EVENT, "Subscription"}:
        _refuse("the criteria begin with a resource type that can be watched, such as Observation?", "criteria")
    if topic is not None and kind not in topic.types:
        _refuse("a filter begins with a resource type of its topic", "criteria")
    for name, _value in parse_qsl(query, keep_blank_values=True):
        first = name.partition(":")[0]
        if first in _OF_RESULTS or first in {"_include", "_revinclude", "_contained", "_containedType"}:
            _refuse(f"'{first}' says how results are shown, and is no criterion", "criteria")
    try:
        found = parse(kind, query, base=base)
    except Problem as problem:
        _refuse(problem.detail, "criteria")
    if needs_others(found):
        _refuse("chains and _has cannot be watched: they depend on other resources", "criteria")
    return found


def _values(element: Any, url: str, where: str) -> Iterator[Any]:
    """Yield the values of the extensions of one URL; others of the backport change the meaning, and are refused."""
    for extension in element.get("extension", ()) if isinstance(element, dict) else ():
        if extension.get("url") == url:
            yield next((value for name, value in extension.items() if name.startswith("value")), None)
        elif str(extension.get("url", "")).startswith(BACKPORT):
            _refuse("an extension here is not supported", where)


_KNOWN: Final = frozenset({_HEARTBEAT, _TIMEOUT, _MAX_COUNT})


def _whole(channel: Json, url: str, default: int, least: int, most: int) -> int:
    extensions: Sequence[Json] = channel.get("extension", ())
    unknown = [it for it in extensions if str(it.get("url", "")).startswith(BACKPORT) and it["url"] not in _KNOWN]
    if unknown:
        _refuse("an extension of the channel is not supported", "channel")
    for extension in extensions:
        if extension.get("url") == url:
            value = extension.get("valueUnsignedInt", extension.get("valuePositiveInt"))
            if type(value) is not int or not least <= value <= most:
                _refuse(f"{url.rpartition('/')[2]} is a whole number from {least} to {most}", "channel")
            return value
    return default


def _refuse(text: str, element: str) -> NoReturn:
    raise Invalid([Issue(code="not-supported", text=text, expression=f"Subscription.{element}")])
