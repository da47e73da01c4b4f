"""The histories of a resource, a type and the system (FHIR R4, http.html#history)."""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from fhir_adapter.rest import bundles
from fhir_adapter.rest.access import of_instance
from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.steps import Call, Event, Reply, Step
from fhir_adapter.results.common import SHADOW
from fhir_adapter.store.history import Past, of_resource, of_type
from fhir_adapter.store.query_string import each_once
from fhir_adapter.store.search.query import LARGEST_COUNT
from fhir_adapter.store.times import span
from fhir_adapter.store.versions import StoredVersion
from kernel.errors import Category, Problem
from privacy import balp
from privacy.authorize import Interaction, Request

DEFAULT_COUNT: Final = 100
_PASSED_OVER: Final = frozenset({"_format", "_pretty"})
_NUMBERS: Final = frozenset({"_count", "_before"})
_TIMES: Final = frozenset({"_since", "_at"})
_WHAT_IT_TAKES: Final = "a history takes the parameters _count, _since and _at, each once"


def history(backend: Backend, call: Call, kind: str, resource_id: str, query: str = "") -> Step:
    """Return a resource's versions, newest first.

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    kind, resource_id
        Resource type and id in the URL.
    query
        What follows the question mark: ``_count``, ``_since``, ``_at``, and ``_before`` in the links of this server.
    """
    backend.require(call.principal, of_instance(Interaction.HISTORY, kind, resource_id))
    past, given = _past(query)
    with backend.database.read() as connection:
        page = of_resource(connection, kind, resource_id, past)
    patient = next((version.patient for version in page.found if version.patient), None)
    entity, at = f"{kind}/{resource_id}", backend.clock.now()
    event = balp.read(call.principal, entity=entity, patient=patient, at=at, interaction="history-instance")
    return _reply(backend, call, entity, given, (page.found, page.onward), [event])


def history_of_type(backend: Backend, call: Call, kind: str, query: str = "") -> Step:
    """Return the versions of a type, or of all types, in the order of their arrival, newest first.

    What a model in shadow said is left out, as it is in searches.

    Parameters as for :func:`history`; ``kind`` is empty for all types.
    """
    interaction = Interaction.HISTORY_OF_TYPE if kind else Interaction.HISTORY_OF_SYSTEM
    backend.require(call.principal, Request(interaction=interaction, target=kind))
    past, given = _past(query)
    with backend.database.read() as connection:
        page = of_type(connection, kind, past)
    found = [version for version in page.found if not _is_shadow(version)]
    at, raw = backend.clock.now(), f"{kind}/_history?{query}".lstrip("/")
    patients: Sequence[str | None] = sorted({it.patient for it in found if it.patient}) or [None]
    code: Any = interaction.value
    events = [balp.queried(call.principal, query=raw, patient=it, at=at, interaction=code) for it in patients]
    return _reply(backend, call, kind, given, (found, page.onward), events)


def _reply(
    backend: Backend,
    call: Call,
    path: str,
    given: dict[str, str],
    page: tuple[Sequence[StoredVersion], int | None],
    events: Sequence[Event],
) -> Step:
    found, onward = page
    address = "/".join(part for part in (call.base, path, "_history") if part)
    next_link = f"{address}?{urlencode(given | {'_before': str(onward)})}" if onward else None
    body = bundles.history(found, base=call.base, self_link=f"{address}?{urlencode(given)}", next_link=next_link)
    return backend.recorded(events, Reply(status=200, body=body))


def _past(query: str) -> tuple[Past, dict[str, str]]:
    """Read the parameters of a history; returns them also as they go into links."""
    pairs = each_once(query, _NUMBERS | _TIMES | _PASSED_OVER, _WHAT_IT_TAKES)
    given = {name: value.replace(" ", "+") for name, value in pairs.items() if name not in _PASSED_OVER}
    numbers = {name: int(given[name]) for name in _NUMBERS if _is_number(given.get(name, ""))}
    if not given.keys() <= _TIMES | numbers.keys():
        raise Problem(Category.INCORRECT, _WHAT_IT_TAKES)
    count = max(1, min(numbers.get("_count", DEFAULT_COUNT), LARGEST_COUNT))
    past = Past(
        count=count,
        before=numbers.get("_before"),
        since=span(given["_since"])[0] if "_since" in given else None,
        at=span(given["_at"]) if "_at" in given else None,
    )
    return past, {"_count": str(count)} | {name: given[name] for name in ("_since", "_at") if name in given}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _is_shadow(version: StoredVersion) -> bool:
    if SHADOW["system"].encode() not in version.content:
        return False
    tags = orjson.loads(version.content).get("meta", {}).get("tag", [])
    return any(tag.get("system") == SHADOW["system"] and tag.get("code") == SHADOW["code"] for tag in tags)
