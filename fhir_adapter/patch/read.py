"""Reads patch documents as they are sent: JSON Patch by its media type, FHIRPath Patch as Parameters."""

import base64
import binascii
from typing import Any, Final

import orjson

from fhir_adapter.patch.fhirpath_patch import fhirpath_patch
from fhir_adapter.patch.json_patch import json_patch
from fhir_adapter.patch.values import without_empty
from fhir_adapter.store.document import Document, Json, check_size, exact_values
from fhir_adapter.store.operations import Patch
from fhir_adapter.store.problems import PatchFailed
from kernel.errors import Category, Problem

JSON_PATCH: Final = "application/json-patch+json"
"""Media type of RFC 6902."""


def patch_of_body(body: bytes, media_type: str) -> Patch:
    """Read the body of a PATCH.

    Parameters
    ----------
    body
        The patch document.
    media_type
        :data:`JSON_PATCH`, or that of FHIR's JSON for a FHIRPath Patch.

    Raises
    ------
    Problem
        ``incorrect`` for what is no patch document.
    """
    check_size(body)
    try:
        orjson.loads(body)  # what the next line would accept: NaN, other encodings
        read: Any = exact_values(body)
    except (ValueError, RecursionError) as failure:
        raise Problem(Category.INCORRECT, "the body is not well-formed JSON in UTF-8") from failure
    if media_type == JSON_PATCH:
        return _bounded(json_patch(read))
    if not isinstance(read, dict):
        raise Problem(Category.INCORRECT, f"a FHIRPath Patch is a Parameters; a JSON Patch is sent as {JSON_PATCH}")
    return _bounded(fhirpath_patch(read))


def patch_of_entry(document: Document) -> Patch:
    """Read the resource of a PATCH entry of a Bundle: a Binary with a JSON Patch, or Parameters.

    Parameters
    ----------
    document
        The resource.

    Raises
    ------
    Problem
        ``incorrect`` for another resource.
    """
    if document.type == "Parameters":
        return patch_of_body(orjson.dumps(document.exact), "")
    if document.type != "Binary" or document.plain.get("contentType") != JSON_PATCH:
        raise Problem(Category.INCORRECT, f"a PATCH entry holds Parameters, or a Binary of type {JSON_PATCH}")
    try:
        return patch_of_body(base64.b64decode(document.plain.get("data", ""), validate=True), JSON_PATCH)
    except (binascii.Error, TypeError, ValueError) as failure:
        raise Problem(Category.INCORRECT, "the data of the Binary is not base64") from failure


def _bounded(patch: Patch) -> Patch:
    def bounded(content: Json) -> Json:
        try:
            patched: Json = without_empty(patch(content))
        except RecursionError as failure:
            raise PatchFailed("what is left is nested too deeply") from failure
        return patched

    return bounded
