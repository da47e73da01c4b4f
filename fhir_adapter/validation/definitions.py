"""Reads a StructureDefinition's snapshot into a tree of its elements, for resources, data types and profiles alike."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from fhir_adapter.validation.records import Constraint, Element, Structure

Json: TypeAlias = Mapping[str, Any]

_FHIR_TYPE: Final = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"
_SYSTEM: Final = "http://hl7.org/fhirpath/System."
_SIMPLE: Final = "http://hl7.org/fhir/StructureDefinition/SimpleQuantity"
_OF_OTHERS: Final = frozenset({"ele-1", "ext-1"})
"""Constraints that a definition repeats at each element, and that the checks of structure and type contain."""


@dataclass(kw_only=True)
class Node:
    """One element definition with those of its parts and slices."""

    definition: Json
    parts: dict[str, "Node"] = field(default_factory=dict)
    slices: dict[str, "Node"] = field(default_factory=dict)


def tree(definition: Json) -> Node:
    """Return the element definitions of a StructureDefinition as a tree, by their ids (``a.b:slice.c``).

    Raises
    ------
    ValueError
        For a snapshot that lacks an element which others are parts of.
    """
    elements = definition["snapshot"]["element"]
    root = Node(definition=elements[0])
    for element in elements[1:]:
        node = root
        *above, last = element["id"].split(".")[1:]
        for step in above:
            node = _step(node, step)
        name, _, slice_name = last.partition(":")
        if slice_name:
            # Two of HL7's own profiles name a slice of an element that they do not list.
            node.parts.setdefault(name, Node(definition=element)).slices[slice_name] = Node(definition=element)
        else:
            node.parts[name] = Node(definition=element)
    return root


def _step(node: Node, step: str) -> Node:
    name, _, slice_name = step.partition(":")
    part = node.parts.get(name)
    found = part.slices.get(slice_name) if part is not None and slice_name else part
    if found is None:
        raise ValueError(f"the snapshot has no element {step} in {node.definition['id']}")
    return found


def structures(definition: Json, value_sets: Mapping[str, Any]) -> list[Structure]:
    """Return the structures of a base definition: its own, and one for each element with elements of its own.

    Parameters
    ----------
    definition
        A StructureDefinition with a snapshot.
    value_sets
        The value sets whose codes are known, by name; other bindings are not kept.
    """
    found: list[Structure] = []
    _collect(tree(definition), value_sets, found)
    return found


def _collect(node: Node, value_sets: Mapping[str, Any], found: list[Structure]) -> None:
    elements = tuple(element(name, part, value_sets) for name, part in node.parts.items())
    found.append(
        Structure(name=node.definition["path"], elements=elements, constraints=constraints(node.definition, ()))
    )
    for part in node.parts.values():
        if part.parts:
            _collect(part, value_sets, found)


def element(name: str, node: Node, value_sets: Mapping[str, Any]) -> Element:
    """Return the record of one element of a base definition.

    Parameters
    ----------
    name
        The last step of its path.
    node
        Its definition and those of its parts.
    value_sets
        The value sets whose codes are known, by name.
    """
    definition = node.definition
    most = definition["max"]
    return Element(
        name=name,
        least=definition["min"],
        most=None if most == "*" else int(most),
        repeats=definition.get("base", definition)["max"] not in {"0", "1"},
        types=_types(definition, has_parts=bool(node.parts)),
        targets=targets(definition),
        binding=binding(definition, value_sets),
        # The constraints of an element with parts belong to its structure.
        constraints=() if node.parts else constraints(definition, ("ref-1",)),
    )


def _types(definition: Json, *, has_parts: bool) -> tuple[str, ...]:
    if "contentReference" in definition:
        return (">" + definition["contentReference"].rsplit("#", 1)[-1],)
    if has_parts:
        return (">" + definition["path"],)
    return tuple(dict.fromkeys(type_code(it) for it in definition.get("type", ())))


def type_code(type_: Json) -> str:
    """Return the name of one of an element's types; a ``Quantity`` without a comparator is ``SimpleQuantity``."""
    code: str = type_["code"]
    if code.startswith(_SYSTEM):
        names = [it["valueUrl"] for it in type_.get("extension", ()) if it["url"] == _FHIR_TYPE]
        return str(names[0]) if names else "string"
    return "SimpleQuantity" if _SIMPLE in type_.get("profile", ()) else code


def targets(definition: Json) -> frozenset[str]:
    """Return the resource types that a reference may name; empty for any."""
    found = {
        url.rsplit("/", 1)[-1]
        for type_ in definition.get("type", ())
        if type_["code"] == "Reference"
        for url in type_.get("targetProfile", ())
    }
    return frozenset() if "Resource" in found else frozenset(found)


def binding(definition: Json, value_sets: Mapping[str, Any]) -> str:
    """Return the name of the value set that is required, where its codes are known.

    Parameters
    ----------
    definition
        An ElementDefinition.
    value_sets
        The value sets whose codes are known, by name.
    """
    bound = definition.get("binding", {})
    name: str = bound.get("valueSet", "").split("|")[0].rsplit("/", 1)[-1]
    return name if bound.get("strength") == "required" and name in value_sets else ""


def constraints(
    definition: Json, without: Iterable[str], severities: frozenset[str] = frozenset({"error"})
) -> tuple[Constraint, ...]:
    """Return the constraints that are the definition's own.

    Parameters
    ----------
    definition
        An ElementDefinition.
    without
        Keys to leave out.
    severities
        ``error``, or ``warning`` besides.
    """
    left_out = _OF_OTHERS.union(without)
    return tuple(
        Constraint(key=it["key"], human=it["human"], expression=it["expression"])
        for it in definition.get("constraint", ())
        if it["severity"] in severities and it["key"] not in left_out and "expression" in it
    )
