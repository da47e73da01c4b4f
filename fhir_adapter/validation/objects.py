"""The function of one JSON object: one pass over its names, then what concerns all of them together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from fhir_adapter.validation.invariants import Invariant
from fhir_adapter.validation.primitives import CHECKS
from fhir_adapter.validation.records import LOCAL, Element, Fault, Structure
from fhir_adapter.validation.rules import NOT_AN_OBJECT, NULL, Faults, Rule, Test, merged, primitive_fault
from fhir_adapter.validation.table import choice_name, r4

_EMPTY: Final = Fault("invariant", "ele-1: all FHIR elements must have a value or children")
_UNKNOWN: Final = Fault("structure", "the element is not known here")
_NO_VALUE: Final = Fault("structure", "what stands beside a primitive value is an object with its id and extensions")
_UNALIGNED: Final = Fault("structure", "an array and the array of its extensions must have the same length")
_MISSING: Final = Fault("required", "a required element is missing")
_SEVERAL: Final = Fault("structure", "only one type of a choice may be present")


def names_of(element: Element) -> Iterator[tuple[str, str]]:
    """Return the names in JSON of an element with their types: one, or one for each type of a choice."""
    if not element.name.endswith("[x]"):
        yield element.name, element.types[0] if element.types else "Element"
        return
    for code in element.types:
        yield choice_name(element.name[:-3], code), code


@cache
def known_names() -> frozenset[str]:
    """Return all names of elements in R4's JSON: what was sent under another name may be anything, a person's too."""
    elements = (element for structure in r4().structures.values() for element in structure.elements)
    return frozenset({"resourceType", *(name for element in elements for name, _ in names_of(element))})


@dataclass(kw_only=True, slots=True)
class Shape:
    """What the function of one structure knows; its rules are filled in after it exists, as they may refer to it."""

    structure: Structure
    #: Name -> test, for primitives that do not repeat.
    tests: dict[str, Test] = field(default_factory=dict)
    #: Name -> rule, for all others.
    others: dict[str, Rule] = field(default_factory=dict)
    #: Name of a primitive, also of a repeated one -> its type and value set.
    primitives: dict[str, tuple[str, str]] = field(default_factory=dict)
    invariants: tuple[Invariant, ...] = ()
    #: The rule of an ``Element``, for what stands beside a primitive value.
    companion: Rule | None = None
    #: Names of primitives that repeat.
    repeating: frozenset[str] = frozenset()

    def missing(self, value: Mapping[str, Any]) -> Iterator[str]:
        """Return the names of required elements that an object lacks; an extension instead of a value is enough."""
        for element in self.structure.elements:
            if element.least and not any(
                name in value or (f"_{name}" in value and name in self.primitives) for name, _ in names_of(element)
            ):
                yield element.name.removesuffix("[x]")

    def beside(self, name: str, value: Mapping[str, Any]) -> Faults:
        """Return the faults of ``_name``, which has the ids and extensions of a primitive (R4, json.html#primitive).

        Parameters
        ----------
        name
            The name, with its ``_``.
        value
            The object.
        """
        found, primitive = value[name], value.get(name[1:])
        # The types of id, and of the url of an extension, are FHIRPath's own: they have no extensions.
        is_bare = name == "_id" or (name == "_url" and self.structure.base == "Extension")
        if is_bare or name[1:] not in self.primitives or self.companion is None:
            return [_UNKNOWN]
        if name[1:] not in self.repeating:
            return self.companion(found)
        if type(found) is not list:
            return [_NO_VALUE]
        faults: Faults = None
        for index, item in enumerate(found):
            inner = self.companion(item) if item is not None else None
            faults = merged(faults, f"[{index}]", inner) if inner is not None else faults
        if primitive is None:
            return merged(faults, "", [NULL]) if None in found else faults
        if type(primitive) is not list or len(primitive) != len(found):
            return merged(faults, "", [_UNALIGNED])
        both = zip(primitive, found, strict=True)
        return merged(faults, "", [NULL]) if any(a is None and b is None for a, b in both) else faults

    def other(self, name: str, value: Mapping[str, Any]) -> tuple[str, Faults]:
        """Return the path and faults of an element that is neither a single primitive nor has a rule.

        Parameters
        ----------
        name
            Its name.
        value
            The object.
        """
        if name[:1] == "_":
            return (f".{name[1:]}" if name[1:] in known_names() else ""), self.beside(name, value)
        return (f".{name}" if name in known_names() else ""), [_UNKNOWN]


def object_rule(shape: Shape) -> Rule:  # noqa: C901 - one pass with no further calls: it runs for every object
    """Return the function of a structure's JSON."""
    test_of, rule_of = shape.tests.get, shape.others.get
    invariants = [(invariant, invariant.holds) for invariant in shape.invariants]
    elements = shape.structure.elements
    required = frozenset(it.name for it in elements if it.least and not it.name.endswith("[x]"))
    choices = {name: it.name for it in elements if it.name.endswith("[x]") for name, _ in names_of(it)}
    choices |= {f"_{name}": f"_{stem}" for name, stem in choices.items()}
    required_choices = [
        frozenset(name for name, _ in names_of(it)) for it in elements if it.least and it.name.endswith("[x]")
    ]
    demands = bool(required or required_choices)

    def check(value: Any) -> Faults:  # noqa: C901, PLR0912 - see above
        if type(value) is not dict:
            return NOT_AN_OBJECT
        faults: Faults = None
        for name, item in value.items():
            test = test_of(name)
            if test is not None:
                if not test(item):
                    code, value_set = shape.primitives[name]
                    faults = merged(faults, f".{name}", (primitive_fault(code, item, value_set),))
                continue
            rule = rule_of(name)
            if rule is not None:
                found = rule(item)
                if found is not None:
                    faults = merged(faults, f".{name}", _without_nulls(found, name, value))
            else:
                path, found = shape.other(name, value)
                if found is not None:
                    faults = merged(faults, path, found)
        if len(value) < 2 and (not value or "id" in value):
            faults = merged(faults, "", (_EMPTY,))
        if demands and (not required <= value.keys() or _lacks(value, required_choices)):
            for name in shape.missing(value):
                faults = merged(faults, f".{name}", (_MISSING,))
        if choices and len(value) > 1:
            faults = _choices(value, choices, faults)
        if invariants and (faults is None or all(it.code == LOCAL for it in faults)):
            for invariant, holds in invariants:
                if not holds(value):
                    faults = merged(faults, "", (broken(invariant),))
        return faults

    return check


def _lacks(value: Mapping[str, Any], required_choices: list[frozenset[str]]) -> bool:
    return any(names.isdisjoint(value) for names in required_choices) if required_choices else False


def broken(invariant: Invariant) -> Fault:
    """Return the fault of an invariant that does not hold."""
    return Fault("invariant", f"{invariant.key}: {invariant.human}")


def _without_nulls(found: list[Fault], name: str, value: Mapping[str, Any]) -> list[Fault]:
    """Leave out the nulls of an array of primitives that has an array of extensions, which checks them."""
    return [it for it in found if it.text != NULL.text] if f"_{name}" in value else found


def _choices(value: Mapping[str, Any], choices: Mapping[str, str], faults: Faults) -> Faults:
    found = [choices[name] for name in value if name in choices]
    if len(found) < 2 or len(set(found)) == len(found):
        return faults
    for name in sorted({it for it in found if found.count(it) > 1}):
        faults = merged(faults, f".{name.removesuffix('[x]').removeprefix('_')}", (_SEVERAL,))
    return faults


def repeating_names(structure: Structure) -> frozenset[str]:
    """Return the names of a structure's elements that repeat."""
    return frozenset(element.name for element in structure.elements if element.repeats)


def primitive_names(structure: Structure) -> dict[str, tuple[str, str]]:
    """Return the names of a structure's primitives, with type and value set."""
    return {
        name: (code, element.binding)
        for element in structure.elements
        for name, code in names_of(element)
        if code in CHECKS
    }
