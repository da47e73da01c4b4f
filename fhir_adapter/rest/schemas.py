"""Schemas of bodies for OpenAPI: the outline of a resource. The StructureDefinitions of HL7 say the rest."""

from collections.abc import Mapping
from typing import Final

from fhir_adapter.store.document import Json


def _resource(kind: str, properties: Json, required: tuple[str, ...] = ()) -> Json:
    return {
        "type": "object",
        "required": ["resourceType", *required],
        "properties": {"resourceType": {"const": kind}, **properties},
    }


_REQUEST: Final = {
    "type": "object",
    "required": ["method", "url"],
    "properties": {
        "method": {"enum": ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]},
        "url": {"type": "string"},
        "ifNoneMatch": {"type": "string"},
        "ifModifiedSince": {"type": "string"},
        "ifMatch": {"type": "string"},
        "ifNoneExist": {"type": "string"},
    },
}
_ENTRY: Final = {
    "type": "object",
    "properties": {
        "fullUrl": {"type": "string"},
        "resource": {"$ref": "#/components/schemas/Resource"},
        "request": _REQUEST,
    },
}
_ISSUE: Final = {
    "type": "object",
    "required": ["severity", "code"],
    "properties": {
        "severity": {"enum": ["fatal", "error", "warning", "information"]},
        "code": {"type": "string"},
        "details": {"type": "object"},
        "diagnostics": {"type": "string"},
        "expression": {"type": "array", "items": {"type": "string"}},
    },
}
_PATCH: Final = {
    "type": "object",
    "required": ["op", "path"],
    "properties": {
        "op": {"enum": ["add", "remove", "replace", "move", "copy", "test"]},
        "path": {"type": "string", "pattern": "^(/[A-Za-z0-9_-]*)*$"},
        "from": {"type": "string"},
        "value": {},
    },
}

SCHEMAS: Final[Mapping[str, Json]] = {
    "Resource": {
        "type": "object",
        "required": ["resourceType"],
        "properties": {"resourceType": {"type": "string"}, "id": {"type": "string"}, "meta": {"type": "object"}},
    },
    "Bundle": _resource("Bundle", {"type": {"type": "string"}, "entry": {"type": "array", "items": _ENTRY}}, ("type",)),
    "OperationOutcome": _resource(
        "OperationOutcome", {"issue": {"type": "array", "minItems": 1, "items": _ISSUE}}, ("issue",)
    ),
    "Parameters": _resource(
        "Parameters",
        {"parameter": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}}},
    ),
    "JsonPatch": {"type": "array", "items": _PATCH},
    "Object": {"type": "object"},
    "Text": {"type": "string"},
}
