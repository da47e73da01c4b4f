"""``/metadata``: the CapabilityStatement, made from the server's tables (FHIR R4, capabilitystatement.html).

Interactions come from the routes, parameters from the search table and types from the validator, so that the statement
is always true.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Final

from fhir_adapter.rest.routes import AUDIT_INTERACTIONS, ROUTES
from fhir_adapter.store.document import Json, instant
from fhir_adapter.store.search.parameters import AUDIT_EVENT, Parameter, of, types
from fhir_adapter.subscriptions.definition import BACKPORT
from fhir_adapter.subscriptions.topics import TOPICS

_ELSEWHERE: Final = frozenset({"search-compartment"})
"""Codes of routes that a CapabilityStatement does not state."""
_TOPIC: Final = f"{BACKPORT}capabilitystatement-subscriptiontopic-canonical"
FHIR_VERSION: Final = "4.0.1"
_SINCE: Final = datetime(2026, 11, 20, tzinfo=UTC)
"""Date of the last change of the statement's form."""


def statement(types: Iterable[str], *, base: str, version: str) -> Json:
    """Return the CapabilityStatement.

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
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": instant(_SINCE),
        "kind": "instance",
        "fhirVersion": FHIR_VERSION,
        "format": ["application/fhir+json", "json"],
        "patchFormat": ["application/json-patch+json", "application/fhir+json"],
        "software": {"name": "Ausculta", "version": version},
        "implementation": {"description": "Ausculta: AI models on this hospital's data", "url": base},
        "rest": [
            {
                "mode": "server",
                "resource": [_resource(kind) for kind in sorted(types)],
                "interaction": [{"code": code} for code in _codes("system")],
                "operation": _stated(_operations("$export")),
            }
        ],
    }


def _codes(level: str) -> list[str]:
    found = dict.fromkeys(code for route in ROUTES if route.level == level for code in route.codes)
    return [code for code in found if code not in _ELSEWHERE]


def _operations(*first: str) -> dict[str, str]:
    """Return name and definition of the operations whose path starts with one of some segments."""
    routes = [route for route in ROUTES if route.definition and route.path[0] in first]
    return {code: route.definition for route in routes for code in route.codes}


def _stated(operations: Mapping[str, str]) -> list[Json]:
    return [{"name": name, "definition": definition} for name, definition in operations.items()]


def _resource(kind: str) -> Json:
    is_audit = kind == "AuditEvent"
    codes = [code for code in _codes("type") if not is_audit or code in AUDIT_INTERACTIONS]
    stated: Json = {
        "type": kind,
        "interaction": [{"code": code} for code in codes],
        "operation": _stated(_operations("{type}", kind)),
    }
    if not is_audit:
        stated |= {
            "versioning": "versioned",
            "readHistory": True,
            "updateCreate": True,
            "conditionalCreate": True,
            "conditionalRead": "full-support",
            "conditionalUpdate": True,
            "conditionalDelete": "single",
            "referencePolicy": ["literal", "logical", "local"],
        }
    if kind == "Subscription":
        stated["extension"] = [{"url": _TOPIC, "valueCanonical": url} for url in TOPICS]
    return stated | _searched(kind)


@cache
def _searched(kind: str) -> Json:
    """State the search of a type: its parameters, and what can be included."""
    parameters = of(kind).values()
    stated: Json = {"searchParam": [{"name": it.name, "type": it.kind} for it in parameters]}
    if kind == AUDIT_EVENT:
        return stated
    forward = [f"{kind}:{it.name}" for it in parameters if it.kind == "reference"]
    stated |= {"searchInclude": [f"{kind}:*", *forward]} if forward else {}
    return stated | {"searchRevInclude": _naming(kind)}


@cache
def _naming(kind: str) -> list[str]:
    """Return the parameters of all types that may name resources of this one."""
    return [
        f"{source}:{it.name}"
        for source in types()
        if source != AUDIT_EVENT
        for it in of(source).values()
        if it.kind == "reference" and _may_name(it, kind)
    ]


def _may_name(parameter: Parameter, kind: str) -> bool:
    return not parameter.targets or kind in parameter.targets
