"""``/metadata``: the CapabilityStatement, made from the server's tables (FHIR R4, capabilitystatement.html).

Interactions come from the routes, parameters from the search table and types from the validator, so that the statement
is always true.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from fhir_adapter.rest.routes import AUDIT_INTERACTIONS, ROUTES
from fhir_adapter.store.document import Json, instant
from fhir_adapter.store.search.parameters import EVERYWHERE, PARAMETERS, Parameter

FHIR_VERSION: Final = "4.0.1"
_OPERATIONS: Final = "http://hl7.org/fhir/OperationDefinition/"
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
        "software": {"name": "Ausculta", "version": version},
        "implementation": {"description": "Ausculta: AI models on this hospital's data", "url": base},
        "rest": [
            {
                "mode": "server",
                "resource": [_resource(kind) for kind in sorted(types)],
                "interaction": [{"code": code} for code in _codes("system")],
                "searchParam": [_parameter(parameter) for parameter in EVERYWHERE],
            }
        ],
    }


def _codes(level: str) -> list[str]:
    return list(dict.fromkeys(code for route in ROUTES if route.level == level for code in route.codes))


def _resource(kind: str) -> Json:
    is_audit = kind == "AuditEvent"
    codes = [code for code in _codes("type") if not is_audit or code in AUDIT_INTERACTIONS]
    stated: Json = {
        "type": kind,
        "interaction": [{"code": code} for code in codes],
        "operation": [{"name": name, "definition": f"{_OPERATIONS}Resource-{name}"} for name in _codes("operation")],
    }
    if not is_audit:
        stated |= {
            "versioning": "versioned",
            "readHistory": True,
            "updateCreate": True,
            "conditionalCreate": True,
            "conditionalRead": "not-match",
            "conditionalUpdate": False,
            "conditionalDelete": "not-supported",
            "referencePolicy": ["literal", "logical", "local"],
        }
    searched = [_parameter(parameter) for parameter in PARAMETERS.get(kind, ())]
    return stated | {"searchParam": searched} if searched else stated


def _parameter(parameter: Parameter) -> Json:
    return {"name": parameter.name, "type": parameter.kind}
