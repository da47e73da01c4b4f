"""``/openapi.json``: the API in the form of OpenAPI 3.1, made from the table of routes.

Paths, methods, types and media types are those of the routes, and names of search parameters those of the search. What
a route does not state itself, its headers, parameters and statuses, is in the tables below, by the code of the
interaction. A resource type is a parameter of the path, so that there is one path for an interaction of all types.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from fhir_adapter.bulk.request import NDJSON
from fhir_adapter.patch.read import JSON_PATCH
from fhir_adapter.rest.answers import FHIR_JSON
from fhir_adapter.rest.headers import FORM_TYPES
from fhir_adapter.rest.routes import AUDIT_INTERACTIONS, ROUTES, Route
from fhir_adapter.rest.schemas import SCHEMAS
from fhir_adapter.store.document import Json
from fhir_adapter.store.search.compartments import PATIENT
from fhir_adapter.store.search.parameters import AUDIT_EVENT, of

JSON: Final = "application/json"
STATED: Final[Mapping[str, str]] = {"metadata": FHIR_JSON, "openapi.json": JSON}
"""What the API says of itself, and its media type. These addresses take ``GET`` and need no resource."""

_TIMED: Final = {"type": "string", "description": "A date or an instant of FHIR."}
_NATURAL: Final = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
_LIST: Final = {"type": "string", "description": "Values separated by commas."}
_MANY: Final = {"type": "array", "items": {"type": "string"}}
_FLAG: Final = {"type": "string", "examples": ["true"]}

HEADERS: Final[Mapping[str, Json]] = {
    "If-Match": {"type": "string", "examples": ['W/"1"']},
    "If-None-Match": {"type": "string", "examples": ['W/"1"', "*"]},
    "If-None-Exist": {"type": "string", "examples": ["identifier=urn:oid:1.2.3|1"]},
    "If-Modified-Since": {"type": "string", "examples": ["Thu, 15 Jan 2026 12:00:00 GMT"]},
    "Prefer": {"type": "string", "examples": ["return=minimal", "handling=lenient", "respond-async"]},
    "X-Request-Id": {"type": "string", "pattern": "^[A-Za-z0-9.-]{1,64}$"},
}
"""The headers of requests, but those that OpenAPI states in another way (Accept, Content-Type)."""

_QUERY: Final[Mapping[str, Json]] = {
    "_format": {"type": "string", "enum": ["json", JSON, FHIR_JSON]},
    "_pretty": _FLAG,
    "_summary": {"type": "string", "enum": ["true", "text", "data", "false"]},
    "_elements": _LIST,
    "_count": _NATURAL,
    "_sort": _LIST,
    "_total": {"type": "string", "enum": ["none", "estimate", "accurate"]},
    "_include": _MANY,
    "_revinclude": _MANY,
    "_since": _TIMED,
    "_at": _TIMED,
    "_type": _LIST,
    "_typeFilter": _MANY,
    "_outputFormat": {"type": "string", "enum": [NDJSON, "application/ndjson", "ndjson"]},
    "patient": _MANY,
    "max": _NATURAL,
    "profile": _MANY,
    "mode": {"type": "string", "enum": ["create", "update", "delete", "profile"]},
    "id": _LIST,
    "status": _LIST,
    "eventsSinceNumber": _NATURAL,
    "eventsUntilNumber": _NATURAL,
    "content": {"type": "string", "enum": ["empty", "id-only", "full-resource"]},
}

SEARCH: Final = "search"
"""The name of what stands for all search parameters of a type."""

_OF_HISTORY: Final = ("_count", "_since", "_at")
_OF_SEARCH: Final = (SEARCH, "_count", "_sort", "_total", "_summary", "_elements", "_include", "_revinclude")
_OF_EXPORT: Final = ("_type", "_since", "_typeFilter", "_outputFormat", "patient")
PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "read": ("_summary", "_elements"),
    "vread": ("_summary", "_elements"),
    "history-instance": _OF_HISTORY,
    "history-type": _OF_HISTORY,
    "history-system": _OF_HISTORY,
    "search-type": _OF_SEARCH,
    "search-compartment": _OF_SEARCH,
    "everything": ("_count", "_since", "_type"),
    "lastn": (SEARCH, "max"),
    "validate": ("profile", "mode"),
    "events": ("eventsSinceNumber", "eventsUntilNumber", "content"),
    "export": _OF_EXPORT,
}
"""The parameters after the question mark, by the code of the interaction, without those of every one."""
EVERYWHERE: Final = ("_format", "_pretty")

_CHANGE: Final = ("If-Match", "Prefer")
_READ: Final = ("If-None-Match", "If-Modified-Since")
READ_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "create": ("If-None-Exist", "Prefer"),
    "update": ("If-Match", "If-None-Match", "Prefer"),
    "patch": _CHANGE,
    "delete": _CHANGE,
    "read": _READ,
    "vread": _READ,
    "search-type": ("Prefer",),
    "search-compartment": ("Prefer",),
    "transaction": ("Prefer",),
    "export": ("Prefer",),
}
"""The headers that an interaction reads, by its code, without ``X-Request-Id``, which every one reads."""

_ALWAYS: Final = (400, 403, 404, 406, 414, 429, 500, 503)
_BODY: Final = (408, 413, 415, 422)
_CONDITION: Final = (409, 412)
STATUSES: Final[Mapping[str, tuple[int, ...]]] = {
    "create": (200, 201, *_CONDITION),
    "update": (200, 201, *_CONDITION),
    "patch": (200, 410, *_CONDITION),
    "delete": (200, 204, *_CONDITION),
    "read": (200, 304, 410),
    "vread": (200, 304, 410),
    "transaction": (200, 410, *_CONDITION),
    "export": (202, 501),
    "export-status": (200, 202, 501),
    "events": (200, 410),
    "status": (200, 410),
    "everything": (200, 410),
}
"""The statuses of an interaction, by its code, without those of every one and those of a body."""
_CHANGES: Final = frozenset({"create", "update", "patch", "delete"})
_RESULTS: Final[Mapping[str, str]] = {
    "history-instance": "Bundle",
    "history-type": "Bundle",
    "history-system": "Bundle",
    "search-type": "Bundle",
    "search-compartment": "Bundle",
    "everything": "Bundle",
    "lastn": "Bundle",
    "transaction": "Bundle",
    "events": "Bundle",
    "status": "Bundle",
    "validate": "OperationOutcome",
}
_BODIES: Final[Mapping[str, str]] = {"transaction": "Bundle", "export": "Parameters"}


_DESCRIPTION: Final = (
    "FHIR 4.0.1 in JSON. GET is also HEAD. A body may be compressed with gzip (Content-Encoding)."
    " `x-fhir-search-parameters` lists the search parameters of each type. A link of an answer may hold further"
    " parameters; it is followed as it is."
)


def document(types: frozenset[str], *, base: str, version: str) -> Json:
    """Return the OpenAPI document.

    Parameters
    ----------
    types
        Resource types that are served.
    base
        Base URL of this API.
    version
        Version of the software.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ausculta, FHIR R4",
            "version": version,
            "description": _DESCRIPTION,
        },
        "servers": [{"url": base}],
        **_without_address(types),
    }


@lru_cache(maxsize=4)
def _without_address(types: frozenset[str]) -> Json:
    paths: dict[str, dict[str, Json]] = {}
    for route in ROUTES:
        paths.setdefault(path_of(route), {})[route.method.lower()] = _operation(route)
    for name, media_type in STATED.items():
        answers = {str(status): _refused(status) for status in _ALWAYS}
        answers["200"] = _answer(media_type, "Resource" if media_type == FHIR_JSON else "Object")
        stated: Json = {"operationId": name, "tags": ["capabilities"], "responses": answers}
        paths[f"/{name}"] = {"get": stated | {"parameters": _named(EVERYWHERE, ())}}
    searched = {kind: {it.name: it.kind for it in of(kind).values()} for kind in sorted(types)}
    return {"paths": paths, "components": _components(types), "x-fhir-search-parameters": searched}


def path_of(route: Route) -> str:
    """Return the path of a route as OpenAPI writes it."""
    return "/" + "/".join(route.path)


def _operation(route: Route) -> Json:
    code = route.codes[0]
    names = [*PARAMETERS.get(code, ()), *EVERYWHERE]
    if code == "status" and "{id}" not in route.path:
        names += ["id", "status"]
    if code == "export" and len(route.path) == 1:
        names.remove("patient")
    if code in _CHANGES and route.path == ("{type}",) and route.method != "POST":
        names.append(SEARCH)
    parts = [{"$ref": f"#/components/parameters/{name}"} for name in _parts(route)]
    stated: Json = {
        "operationId": "-".join([code, route.method.lower(), *(part.strip("{}$_") for part in route.path)]),
        "tags": list(route.codes),
        "parameters": parts + _named(names, READ_HEADERS.get(code, ())),
        "responses": _answers(route),
    }
    if route.definition:
        stated["externalDocs"] = {"url": route.definition}
    if route.reads_body:
        stated["requestBody"] = _body(route)
    return stated


def _parts(route: Route) -> list[str]:
    """Return the components for the placeholders of a path."""
    names = [part[1:-1] for part in route.path if part[:1] == "{"]
    is_open = AUDIT_INTERACTIONS.issuperset(route.codes)
    return ["anyType" if name == "type" and is_open else name for name in names]


def _named(query: Iterable[str], headers: Iterable[str]) -> list[Json]:
    names = [f"query{name}" if name[:1] == "_" else f"query-{name}" for name in query]
    return [{"$ref": f"#/components/parameters/{name}"} for name in (*names, *headers, "X-Request-Id")]


def _body(route: Route) -> Json:
    kind = "Form" if route.media_types == FORM_TYPES else _BODIES.get(route.codes[0], "Resource")
    types = [it for it in sorted(route.media_types) if "/" in it]
    content = {it: {"schema": {"$ref": f"#/components/schemas/{kind}"}} for it in types}
    if JSON_PATCH in content:
        content |= {it: {"schema": {"$ref": "#/components/schemas/Parameters"}} for it in content}
        content[JSON_PATCH] = {"schema": {"$ref": "#/components/schemas/JsonPatch"}}
    return {"required": route.codes != ("export",), "content": content}


def _answers(route: Route) -> Json:
    code = route.codes[0]
    statuses = {*_ALWAYS, *STATUSES.get(code, (200,)), *(_BODY if route.reads_body else ())}
    kind = _RESULTS.get(code, "Resource")
    answers: dict[str, Json] = {}
    for status in sorted(statuses):
        if status >= 400:
            answers[str(status)] = _refused(status)
        elif code.startswith("export"):
            answers[str(status)] = _of_export(route, status)
        else:
            has_body = status in {200, 201}
            answers[str(status)] = _answer(FHIR_JSON, kind) if has_body else {"description": _MEANING[status]}
            if code in {*_CHANGES, "read", "vread"}:
                names = ("ETag", "Last-Modified", *(("Location",) if code in _CHANGES else ()))
                answers[str(status)]["headers"] = {name: {"schema": {"type": "string"}} for name in names}
    return answers


def _of_export(route: Route, status: int) -> Json:
    if status == 202:
        return {"description": _MEANING[status]}
    return _answer(*((NDJSON, "Text") if "{name}" in route.path else (JSON, "Object")))


def _answer(media_type: str, kind: str) -> Json:
    schema = {"$ref": f"#/components/schemas/{kind}"}
    return {"description": _MEANING[200], "content": {media_type: {"schema": schema}}}


def _refused(status: int) -> Json:
    return {"$ref": f"#/components/responses/{status}"}


_MEANING: Final[Mapping[int, str]] = {
    200: "Done.",
    201: "Created.",
    202: "Accepted, not finished.",
    204: "Done; there is nothing to return.",
    304: "The client has it already.",
    400: "The request is wrong.",
    403: "Not permitted, or too costly.",
    404: "There is nothing at this address.",
    406: "The answer is in JSON alone.",
    408: "The body took too long to arrive.",
    409: "In conflict with another request.",
    410: "Deleted.",
    412: "A condition does not hold, or finds several resources.",
    413: "The body is too large.",
    414: "The address is too long.",
    415: "The body is of another media type or encoding.",
    422: "The resource is not valid.",
    429: "Too many requests.",
    500: "An error of this server.",
    501: "Not offered by this server.",
    503: "Not available now.",
}


def _components(types: frozenset[str]) -> Json:
    every = sorted(types)
    in_path = {
        "type": {"type": "string", "enum": [kind for kind in every if kind != AUDIT_EVENT]},
        "anyType": {"type": "string", "enum": every},
        "member": {"type": "string", "enum": [kind for kind in every if kind in PATIENT]},
        "id": {"type": "string", "pattern": "^[A-Za-z0-9.-]{1,64}$"},
        "version": {"type": "string", "pattern": "^[0-9]{1,9}$"},
        "name": {"type": "string", "pattern": "^[A-Za-z0-9.-]{1,64}$"},
    }
    found: dict[str, Json] = {}
    for name, schema in in_path.items():
        spoken = "type" if name == "anyType" else name
        found[name] = {"name": spoken, "in": "path", "required": True, "schema": schema}
    for name, schema in _QUERY.items():
        stated: Json = {"name": name, "in": "query", "schema": schema}
        found[f"query{name}" if name[:1] == "_" else f"query-{name}"] = stated
    found[f"query-{SEARCH}"] = {
        "name": SEARCH,
        "in": "query",
        "style": "form",
        "explode": True,
        "schema": {"$ref": "#/components/schemas/Form"},
    }
    found |= {name: {"name": name, "in": "header", "schema": schema} for name, schema in HEADERS.items()}
    names = sorted({name for kind in types for name in of(kind)})
    form = {"type": "object", "propertyNames": _searched(names), "additionalProperties": {"type": "string"}}
    outcome = {FHIR_JSON: {"schema": {"$ref": "#/components/schemas/OperationOutcome"}}}
    answers = {str(it): {"description": text, "content": outcome} for it, text in _MEANING.items() if it >= 400}
    return {"parameters": found, "responses": answers, "schemas": {"Form": form, **SCHEMAS}}


def _searched(names: list[str]) -> Json:
    """Return what the names of search parameters look like: with modifiers, chains and ``_has``."""
    return {"anyOf": [{"enum": names}, {"pattern": "^(_has:|_?[a-z])[A-Za-z0-9:._-]*$"}]}
