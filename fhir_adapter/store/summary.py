"""Reduced forms of a resource: ``_summary`` and ``_elements`` (FHIR R4, search.html#summary, #elements)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fhir_adapter.store.document import Json, encode, exact_values
from fhir_adapter.validation.objects import names_of
from fhir_adapter.validation.records import Structure
from fhir_adapter.validation.summaries import ALL, summaries
from fhir_adapter.validation.table import r4
from kernel.errors import Category, Problem

FORMS: Final = frozenset({"true", "text", "data", "false"})
"""Values of ``_summary`` that name a form of one resource; ``count`` is for searches."""
SUBSETTED: Final[Json] = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
    "display": "subsetted",
}
"""The tag of a resource that is not complete, so that nobody updates it with what he has got."""
_ALWAYS: Final = frozenset({"resourceType", "id", "meta", "implicitRules", "modifierExtension"})
"""Without them what is left could be misread."""


def reduced(content: bytes, kind: str, summary: str | None, elements: Sequence[str]) -> bytes:
    """Return a resource in a reduced form, with the tag ``SUBSETTED``; as it is when nothing is to be left out.

    Parameters
    ----------
    content
        The resource as stored.
    kind
        Its type.
    summary
        ``_summary``: ``true``, ``text``, ``data`` or ``false``; None when it was not sent.
    elements
        ``_elements``: names of elements at the top, such as ``name`` or ``Patient.name``; empty when it was not sent.

    Raises
    ------
    Problem
        ``incorrect`` for another value of ``_summary``, both together, or a name that the type does not have.
    """
    if summary is not None and summary not in FORMS:
        raise Problem(Category.INCORRECT, "_summary is true, text, data or false here")
    if elements and summary not in {None, "false"}:
        raise Problem(Category.INCORRECT, "_summary and _elements cannot be used together")
    if summary in {None, "false"} and not elements:
        return content
    structure = r4().structures[kind]
    resource = exact_values(content)
    if summary == "true":
        kept = _summarized(resource, kind)
    elif summary == "data":
        kept = {name: value for name, value in resource.items() if name != "text"}
    else:
        wanted = _mandatory(structure) | (_named(structure, elements) if elements else {"text"})
        kept = {name: value for name, value in resource.items() if name.removeprefix("_") in wanted}
    meta = kept.get("meta", {})
    tags = [tag for tag in meta.get("tag", []) if tag.get("code") != SUBSETTED["code"]]
    return encode(kept | {"meta": meta | {"tag": [*tags, SUBSETTED]}})


def _mandatory(structure: Structure) -> frozenset[str]:
    required = (name for element in structure.elements if element.least for name, _ in names_of(element))
    return _ALWAYS.union(required)


def _named(structure: Structure, elements: Sequence[str]) -> frozenset[str]:
    known = {
        element.name.removesuffix("[x]"): [name for name, _ in names_of(element)] for element in structure.elements
    }
    asked = [name.removeprefix(f"{structure.name}.").removesuffix("[x]") for name in elements]
    if not all(name in known or name in _ALWAYS for name in asked):
        raise Problem(Category.INCORRECT, "_elements names an element that this type does not have")
    return frozenset(key for name in asked for key in known.get(name, (name,)))


def _summarized(value: Mapping[str, Any], structure: str) -> Json:
    """Return what is marked of an object, and of what it holds."""
    found = r4().structures.get(structure)
    marked = summaries().get(structure, frozenset({ALL}))
    if found is None or found.base == "Extension" or structure == "Extension":
        return dict(value)
    kept: Json = {
        name: item for name, item in value.items() if name in _ALWAYS or (name == "extension" and ALL in marked)
    }
    for element in found.elements:
        if ALL not in marked and element.name not in marked and element.name != "id":
            continue
        for name, code in names_of(element):
            for key in (name, f"_{name}"):
                if key in value:
                    kept[key] = _inner(value[key], code.removeprefix(">"))
    return {name: kept[name] for name in value if name in kept}


def _inner(value: Any, code: str) -> Any:
    if type(value) is list:
        return [_inner(item, code) for item in value]
    if type(value) is not dict or code not in r4().structures or code == "Resource":
        return value
    return _summarized(value, code)
