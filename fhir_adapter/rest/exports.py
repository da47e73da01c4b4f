"""Bulk exports over HTTP: kick-off, status, files, cancellation (Bulk Data Access IG 2.0, export.html)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import orjson

from fhir_adapter.bulk.exports import KEPT_FOR, Export, Exports, Output
from fhir_adapter.bulk.request import NDJSON, Level, export_request
from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.headers import http_date
from fhir_adapter.rest.outcome import HttpProblem
from fhir_adapter.rest.steps import Call, Reply, Step
from fhir_adapter.store.document import instant
from kernel.errors import Category, Problem
from privacy import balp
from privacy.authorize import Interaction, Request

STATUS: Final = "$export-status"
FILE: Final = "$export-file"
_LATER: Final = "5"
"""Seconds after which a client may ask again."""


def of_export(level: Level, group: str = "") -> Request:
    """Return the authorization request of an export.

    Parameters
    ----------
    level
        What is exported.
    group
        Id of the Group.
    """
    target = {"system": "", "patient": "Patient", "group": "Group"}[level]
    return Request(interaction=Interaction.EXPORT, target=target, target_id=group)


def kick_off(
    backend: Backend, call: Call, level: Level, given: Sequence[tuple[str, str]], prefer: str, *, address: str
) -> Step:
    """Accept an export, durably.

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    level
        What is exported.
    given
        The parameters.
    prefer
        The header ``Prefer``.
    address
        Of the request, below that of the API.

    Raises
    ------
    Problem
        ``incorrect`` for a request that is not asynchronous, or a parameter that is not served; ``not-found`` for a
        Group that is not there; ``busy`` when there are too many exports.
    """
    exports = _exports(backend)
    path = address.partition("?")[0].split("/")
    group = path[1] if level == "group" else ""
    backend.allow(call, of_export(level, group))
    wishes = prefer.replace(" ", "")
    if "respond-async" not in wishes:
        raise Problem(Category.INCORRECT, "an export needs the header Prefer: respond-async")
    request = export_request(level, given, backend.types, group=group, lenient="handling=lenient" in wishes)
    if group:
        with backend.database.read() as connection:
            backend.store.read(connection, "Group", group)
    event = balp.queried(call.principal, query=address, patient=None, at=backend.clock.now())
    url, client = f"{call.base}/{address}", call.principal.client
    return backend.changing(
        lambda tx: exports.accept(tx, request, url, client), event, lambda export: _accepted(call, export)
    )


def _accepted(call: Call, export: str) -> Reply:
    return Reply(status=202, headers={"Content-Location": f"{call.base}/{STATUS}/{export}"})


def status(backend: Backend, call: Call, export_id: str) -> Reply:
    """Return how far an export is, or its manifest.

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    export_id
        Id of the export.

    Raises
    ------
    Problem
        ``not-found`` when the client has no such export; ``fault`` when it failed.
    """
    export = _mine(backend, call, export_id)
    if export.state == "failed":
        raise Problem(Category.FAULT, "the export failed; start another one")
    if export.state != "complete" or export.expires_at is None or export.transaction_time is None:
        progress = f"{export.written} resources written" if export.state == "running" else "waiting"
        return Reply(status=202, headers={"X-Progress": progress, "Retry-After": _LATER})
    manifest = {
        "transactionTime": instant(export.transaction_time),
        "request": export.url,
        "requiresAccessToken": False,
        "output": _files(call, export, "output"),
        "deleted": _files(call, export, "deleted"),
        "error": [],
    }
    expires = http_date(export.expires_at)
    return Reply(status=200, body=orjson.dumps(manifest), headers={"Expires": expires}, media_type="application/json")


def _files(call: Call, export: Export, of: str) -> list[Mapping[str, Any]]:
    return [
        {"type": it.type, "url": f"{call.base}/{FILE}/{export.id}/{quote(it.name)}", "count": it.count}
        for it in export.outputs
        if it.list == of
    ]


def cancel(backend: Backend, call: Call, export_id: str) -> Step:
    """End an export and have its files deleted.

    Parameters
    ----------
    backend, call, export_id
        As for :func:`status`.

    Raises
    ------
    Problem
        ``not-found`` when the client has no such export.
    """
    export = _mine(backend, call, export_id)
    entity = f"urn:ausculta:export:{export.id}"
    event = balp.deleted(call.principal, entity=entity, patient=None, at=backend.clock.now())
    return backend.changing(lambda tx: _exports(backend).cancel(tx, export.id), event, lambda _: Reply(status=202))


def file(backend: Backend, call: Call, export_id: str, name: str) -> Step:
    """Return a file of an export; the disclosure is recorded first.

    Parameters
    ----------
    backend, call, export_id
        As for :func:`status`.
    name
        Name of the file.

    Raises
    ------
    Problem
        ``not-found`` when there is no such file, or not any more.
    """
    export = _mine(backend, call, export_id)
    output = _named(export, name)
    content = _exports(backend).content(export.id, output)
    entity = f"urn:ausculta:export:{export.id}:{output.name}"
    event = balp.read(call.principal, entity=entity, patient=None, at=backend.clock.now())
    return backend.recorded([event], Reply(status=200, content=content, size=output.size, media_type=NDJSON))


def _named(export: Export, name: str) -> Output:
    for output in export.outputs if export.state == "complete" else ():
        if output.name == name:
            return output
    raise Problem(Category.NOT_FOUND, "there is no such file")


def _mine(backend: Backend, call: Call, export_id: str) -> Export:
    """Return an export of the client, once it is permitted."""
    exports = _exports(backend)
    with backend.database.read() as connection:
        export = exports.get(connection, export_id)
    request = of_export("system") if export is None else of_export(export.request.level, export.request.group)
    backend.require(call.principal, request)
    is_there = export is not None and export.state != "cancelled" and export.client == call.principal.client
    if export is None or not is_there or _is_over(backend, export):
        raise Problem(Category.NOT_FOUND, f"there is no such export; one is kept for {KEPT_FOR.days * 24} hours")
    return export


def _is_over(backend: Backend, export: Export) -> bool:
    return export.expires_at is not None and export.expires_at <= backend.clock.now()


def _exports(backend: Backend) -> Exports:
    if backend.exports is None:
        raise HttpProblem(501, Category.UNSUPPORTED, "this server has no place for exports")
    return backend.exports
