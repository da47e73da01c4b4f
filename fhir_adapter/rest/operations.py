"""The operation ``$validate`` (R4, resource-operation-validate.html)."""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from fhir_adapter.rest import outcome
from fhir_adapter.rest.access import of_instance
from fhir_adapter.rest.audit_events import read_event
from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.steps import Call, Event, Reply, Step
from fhir_adapter.store import document
from fhir_adapter.store.document import Json
from fhir_adapter.store.problems import Gone, Invalid, Issue
from fhir_adapter.store.query_string import pairs_of
from fhir_adapter.store.search.index import patient_of
from kernel.errors import Category, Problem
from privacy import balp
from privacy.authorize import Interaction

_MODES: Final = frozenset({"create", "update", "delete", "profile"})
_OF_INSTANCE: Final = frozenset({"update", "delete"})
_IGNORED: Final = frozenset({"_format", "_pretty"})
_MOST_PROFILES: Final = 10


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What a request asks."""

    #: None where the stored resource is meant.
    resource: Json | None = None
    mode: str = ""
    profiles: tuple[str, ...] = ()
    #: What forbids to read the resource at all.
    issues: tuple[Issue, ...] = ()


def validate(backend: Backend, call: Call, kind: str, resource_id: str, query: str, body: bytes = b"") -> Step:
    """Return what is to be said of a resource, as an OperationOutcome; nothing is stored.

    Parameters
    ----------
    backend
        The parts of the API.
    call
        Who makes the request.
    kind, resource_id
        Resource type and id in the URL; the id is empty for the operation on a type.
    query
        What follows the question mark: ``profile`` and ``mode``.
    body
        The resource, or Parameters with ``resource``, ``profile`` and ``mode``; empty for the stored resource.

    Raises
    ------
    Problem
        ``incorrect`` when the request itself is wrong.
    """
    backend.allow(call, of_instance(Interaction.VALIDATE, kind, resource_id))
    asked = _asked(kind, query, body)
    _check(asked, kind, resource_id)
    issues = [*asked.issues]
    patient = None
    if resource_id:
        stored, patient = _stored(backend, kind, resource_id)
        issues += _of_instance(asked, resource_id, kind, is_stored=stored is not None)
        if asked.resource is None and asked.mode != "delete" and stored is not None:
            asked = _Asked(resource=stored, mode=asked.mode, profiles=asked.profiles)
    if asked.resource is not None and not asked.issues:
        issues += backend.writer.validator.issues_of(asked.resource, asked.profiles)
        patient = patient or patient_of(asked.resource)
    reply = Reply(status=200, body=orjson.dumps(outcome.validation(issues)))
    return backend.recorded([_event(backend, call, f"{kind}/{resource_id}" if resource_id else None, patient)], reply)


def _event(backend: Backend, call: Call, entity: str | None, patient: str | None) -> Event:
    return balp.validated(call.principal, entity=entity, patient=patient, at=backend.clock.now())


def _asked(kind: str, query: str, body: bytes) -> _Asked:
    """Read the query and the body; of both, the body's ``mode`` counts, and all profiles."""
    pairs = [pair for pair in pairs_of(query) if pair[0] not in _IGNORED]
    if any(name not in {"profile", "mode"} for name, _ in pairs):
        raise Problem(Category.INCORRECT, "$validate has the parameters resource, mode and profile")
    mode = next((value for name, value in pairs if name == "mode"), "")
    profiles = tuple(value for name, value in pairs if name == "profile")
    if not body:
        return _Asked(mode=mode, profiles=profiles)
    resource, issues = _read(body, kind)
    if resource.get("resourceType") != "Parameters" or (kind == "Parameters" and not _is_call(resource)):
        return _Asked(resource=resource, mode=mode, profiles=profiles, issues=issues)
    named = _parameters(resource)
    stated = [*profiles, *(value for name, value in named if name == "profile")]
    return _Asked(
        resource=next((value for name, value in named if name == "resource"), None),
        mode=next((value for name, value in named if name == "mode"), mode),
        profiles=tuple(stated),
        issues=issues,
    )


def _read(body: bytes, kind: str) -> tuple[Json, tuple[Issue, ...]]:
    """Return a resource, with what forbids to store it already because of its JSON."""
    try:
        return document.parse(body).plain, ()
    except Problem as problem:
        try:
            plain = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise problem from None
        if not isinstance(plain, dict):
            raise
        found = problem.issues if isinstance(problem, Invalid) else ()
        return plain, tuple(found) or (Issue(code="structure", text=problem.detail, expression=kind),)


def _is_call(parameters: Json) -> bool:
    return any(name == "resource" for name, _ in _parameters(parameters))


def _parameters(parameters: Json) -> list[tuple[str, Any]]:
    """Return the names and values of the operation's parameters."""
    parts = parameters.get("parameter")
    found: list[tuple[str, Any]] = []
    for part in parts if isinstance(parts, list) else ():
        name = part.get("name") if isinstance(part, dict) else None
        if name == "resource":
            value = part.get("resource")
            if not isinstance(value, dict):
                raise Problem(Category.INCORRECT, "the parameter resource holds a resource")
            found.append((name, value))
        elif name in {"mode", "profile"}:
            value = next((it for key, it in part.items() if key.startswith("value")), None)
            if not isinstance(value, str):
                raise Problem(Category.INCORRECT, f"the parameter {name} has a text for its value")
            found.append((name, value))
        else:
            raise Problem(Category.INCORRECT, "$validate has the parameters resource, mode and profile")
    return found


def _check(asked: _Asked, kind: str, resource_id: str) -> None:
    if asked.mode and asked.mode not in _MODES:
        raise Problem(Category.INCORRECT, "the mode is create, update, delete or profile")
    if asked.mode in _OF_INSTANCE and not resource_id:
        raise Problem(Category.INCORRECT, "this mode needs the id of a resource in the URL")
    if asked.resource is None and not resource_id:
        raise Problem(Category.INCORRECT, "$validate needs a resource")
    if asked.resource is not None and asked.resource.get("resourceType") != kind:
        raise Problem(Category.INCORRECT, "the resource is not of the type in the URL")
    if len(asked.profiles) > _MOST_PROFILES:
        raise Problem(Category.INCORRECT, f"at most {_MOST_PROFILES} profiles can be asked for")


def _stored(backend: Backend, kind: str, resource_id: str) -> tuple[Json | None, str | None]:
    with backend.database.read() as connection:
        try:
            if kind == "AuditEvent":
                row = read_event(connection, resource_id)
                return orjson.loads(row.event), row.patient
            found = backend.store.read(connection, kind, resource_id)
        except Gone:
            return None, None
        except Problem as problem:
            if problem.category is Category.NOT_FOUND:
                return None, None
            raise
    return orjson.loads(found.content), found.patient


def _of_instance(asked: _Asked, resource_id: str, kind: str, *, is_stored: bool) -> list[Issue]:
    """Return what is to be said of the instance that the URL names."""
    if not is_stored and (asked.resource is None or asked.mode == "delete"):
        return [Issue(code="not-found", text="there is no such resource", expression=kind)]
    stated = asked.resource.get("id") if asked.resource else resource_id
    if asked.mode == "create" and is_stored:
        return [Issue(code="duplicate", text="the resource exists already", expression=f"{kind}.id")]
    if asked.mode in _OF_INSTANCE and stated != resource_id:
        return [Issue(code="value", text="the id is not that of the URL", expression=f"{kind}.id")]
    return []
