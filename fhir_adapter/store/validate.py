"""Validates documents as R4 resources; the only module that uses the model library.

``fhir.resources`` offers R4B (4.3.0), not R4 (4.0.1). For the types that are served here, its models accept R4
resources; types that exist in R4B only are refused by name. The models are used as validators only, because they change
decimals and timestamps. :mod:`fhir_adapter.store.rules` holds the checks that they lack.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from fhir.resources.R4B import get_fhir_model_class
from pydantic import BaseModel, ValidationError

from fhir_adapter.store.document import Document, Json
from fhir_adapter.store.invariants import RESOURCE_INVARIANTS
from fhir_adapter.store.problems import Invalid, Issue
from fhir_adapter.store.rules import Rules

MOST_ISSUES: Final = 20
"""Largest number of faults that are reported for one resource."""

_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TEXTS: Final[Mapping[str, tuple[str, str]]] = {
    "missing": ("required", "a required element is missing"),
    "extra_forbidden": ("structure", "the element is not known here"),
    "list_type": ("structure", "the element repeats and must be an array"),
}
"""Error type of the model library -> issue code and text; any other type is reported as a wrong value."""


class Validator:
    """Checks documents against R4 4.0.1; one instance is shared.

    Attributes
    ----------
    types
        The resource types that are served.
    """

    def __init__(self) -> None:
        self._rules = Rules()
        self.types = self._rules.types

    def warm_up(self, types: Iterable[str]) -> None:
        """Import the models of ``types`` now, so that the first request does not wait for it."""
        for kind in types:
            get_fhir_model_class(kind)

    def check(self, document: Document) -> None:
        """Raise unless the document is a valid R4 resource.

        Raises
        ------
        Invalid
            With an issue for each fault, up to :data:`MOST_ISSUES`; none repeats a value that was sent.
        """
        resource = document.plain
        faults = [*self._outline(resource)] or [*self._model(resource)] or [*self._rules.faults(resource)]
        faults += [] if faults else [*_whole(resource)]
        if faults:
            raise Invalid(faults[:MOST_ISSUES])

    def _outline(self, resource: Json) -> Iterator[Issue]:
        """Check what the model library cannot report."""
        for inner, path in _resources(resource):
            kind = inner.get("resourceType")
            if not isinstance(kind, str) or kind not in self.types:
                yield Issue(
                    code="not-supported", text="this is no resource type that R4 and this server know", expression=path
                )
            elif not isinstance(inner.get("id", "x"), str) or not _ID.fullmatch(inner.get("id", "x")):
                yield Issue(code="value", text="an id is 1 to 64 letters, digits, '-' and '.'", expression=f"{path}.id")

    def _model(self, resource: Json) -> Iterator[Issue]:
        kind = resource["resourceType"]
        model: type[BaseModel] = get_fhir_model_class(kind)
        try:
            model.model_validate(resource)
        except ValidationError as failure:
            for error in failure.errors(include_url=False, include_context=False, include_input=False):
                code, text = _TEXTS.get(error["type"], ("value", "the value is not allowed here"))
                yield Issue(code=code, text=text, expression=_expression(kind, error["loc"]))
        except (KeyError, LookupError, TypeError, AttributeError, RecursionError, ValueError):
            # The library raises other exceptions for some invalid input.
            yield Issue(code="structure", text="the resource cannot be read", expression=kind)


def _resources(resource: Json) -> Iterator[tuple[Json, str]]:
    kind = resource.get("resourceType")
    root = kind if isinstance(kind, str) and _NAME.fullmatch(kind) else "Resource"
    yield resource, root
    contained = resource.get("contained", ())
    for index, inner in enumerate(contained if isinstance(contained, list) else ()):
        if isinstance(inner, dict):
            yield inner, f"{root}.contained[{index}]"
    entries = resource.get("entry", ()) if kind == "Bundle" else ()
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict) and isinstance(entry.get("resource"), dict):
            yield from ((inner, f"{root}.entry[{index}].{path}") for inner, path in _resources(entry["resource"]))


def _whole(resource: Json) -> Iterator[Issue]:
    """Check the rules for a resource as a whole."""
    kind = resource["resourceType"]
    for invariant in RESOURCE_INVARIANTS:
        if not invariant.holds(resource):
            yield Issue(code="invariant", text=f"{invariant.key}: {invariant.text}", expression=kind)
    contained = {inner.get("id") for inner in resource.get("contained", ())}
    if not contained.issuperset(_local_references(resource)):
        text = "ref-1: a reference within the resource has no contained resource"
        yield Issue(code="invariant", text=text, expression=kind)


def _local_references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        reference = value.get("reference")
        if isinstance(reference, str) and reference.startswith("#") and reference != "#":
            yield reference[1:]
        for key, item in value.items():
            if key != "resource":
                yield from _local_references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _local_references(item)


def _expression(kind: str, location: tuple[int | str, ...]) -> str:
    path = kind
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif _NAME.fullmatch(step):
            path += f".{step}"
    return path
