"""The rules of contained resources and of the references to them (R4, references.html#contained)."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fhir_adapter.validation.records import LOCAL, Fault
from fhir_adapter.validation.rules import MOST_FAULTS, Faults

_NO_TARGET: Final = "ref-1: a reference within the resource has no contained resource"
_NESTED: Final = "dom-2: a contained resource contains no other"
_UNNAMED: Final = "dom-3: a contained resource is referred to from elsewhere in the resource, or refers to it"
_VERSIONED: Final = "dom-4: a contained resource has no version of its own"
_LABELLED: Final = "dom-5: a contained resource has no security label of its own"


def resolved(resource: Mapping[str, Any], faults: Faults) -> Faults:
    """Return the faults of a resource after its references to contained resources have been resolved.

    Parameters
    ----------
    resource
        Plain JSON.
    faults
        What was found in it; a :data:`LOCAL` one is such a reference.
    """
    found = faults or []
    others = [fault for fault in found if fault.code != LOCAL]
    if others:
        return others
    contained = resource.get("contained", ())
    kinds = {inner.get("id"): inner["resourceType"] for inner in contained}
    wrong = [_of_reference(fault, kinds) for fault in found]
    wrong += [*_of_contained(contained)]
    wrong += [Fault("invariant", _UNNAMED, f".contained[{index}]") for index in unreferenced(resource)]
    return [fault for fault in wrong if fault is not None][:MOST_FAULTS] or None


def unreferenced(resource: Mapping[str, Any]) -> list[int]:
    """Return the positions of contained resources that nothing refers to, and that do not refer to the resource."""
    contained = resource.get("contained", ())
    named = set(_local_names(resource)) if contained else set()
    return [
        index
        for index, inner in enumerate(contained)
        if f"#{inner.get('id')}" not in named and "#" not in _local_names(inner)
    ]


def _of_reference(fault: Fault, kinds: Mapping[str, str]) -> Fault | None:
    kind = kinds.get(fault.text)
    if kind is None:
        return Fault("invariant", _NO_TARGET, fault.path)
    if fault.targets and kind not in fault.targets:
        return Fault("structure", f"a reference to {kind} is not allowed", fault.path)
    return None


def _of_contained(contained: Any) -> Iterator[Fault]:
    for index, inner in enumerate(contained):
        meta, path = inner.get("meta", {}), f".contained[{index}]"
        if "contained" in inner:
            yield Fault("invariant", _NESTED, path)
        if "versionId" in meta or "lastUpdated" in meta:
            yield Fault("invariant", _VERSIONED, path)
        if "security" in meta:
            yield Fault("invariant", _LABELLED, path)


def _local_names(value: Any) -> Iterator[str]:
    """Return every value that can refer to a contained resource: a reference, uri, url or canonical with ``#``."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if type(item) is str:
            if item[:1] == "#":
                yield item
        elif type(item) is dict:
            waiting.extend(item.values())
        elif type(item) is list:
            waiting.extend(item)
