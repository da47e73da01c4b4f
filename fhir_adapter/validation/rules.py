"""Rules for one element: each returns None for a value that is right, and its faults for one that is not."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from fhir_adapter.validation.links import linked_type
from fhir_adapter.validation.primitives import CHECKS, has_json_type, is_too_long
from fhir_adapter.validation.records import LOCAL, Fault

Faults: TypeAlias = list[Fault] | None
Rule: TypeAlias = Callable[[Any], Faults]
Test: TypeAlias = Callable[[Any], bool]

MOST_FAULTS: Final = 100
"""Faults that are collected of one element; more are not reported."""
MOST_REFERENCES: Final = 10_000
"""References to contained resources in one resource: each is carried from where it is found to the resource."""
_TOO_MANY: Final = Fault("too-costly", f"a resource may refer to its contained resources {MOST_REFERENCES} times")
NOT_AN_OBJECT: Final = [Fault("structure", "a JSON object is expected here")]
NOT_AN_ARRAY: Final = [Fault("structure", "the element repeats and must be an array")]
NULL: Final = Fault("structure", "null only where an extension stands for the value")


def merged(faults: Faults, step: str, found: Sequence[Fault]) -> list[Fault]:
    """Add faults of a part to those of the whole; the result is either references to resolve, or faults.

    Parameters
    ----------
    faults
        Those so far.
    step
        The path from the whole to the part.
    found
        Those of the part.
    """
    collected = [] if faults is None else faults
    for fault in found:
        only_references = bool(collected) and collected[0].code == LOCAL
        if fault.code == LOCAL and only_references and len(collected) == MOST_REFERENCES:
            collected[:] = [_TOO_MANY]
        elif fault.code == LOCAL and (only_references or not collected):
            collected.append(Fault(LOCAL, fault.text, step + fault.path, fault.targets))
        elif fault.code != LOCAL:
            if only_references:
                collected.clear()  # what is wrong in itself need not be resolved
            if len(collected) < MOST_FAULTS:
                collected.append(Fault(fault.code, fault.text, step + fault.path))
    return collected


def primitive_fault(name: str, value: Any, value_set: str = "") -> Fault:
    """Return the fault of a value that is not of a primitive type.

    Parameters
    ----------
    name
        The primitive type.
    value
        The value.
    value_set
        The value set of a required binding.
    """
    if type(value) is list:
        return Fault("structure", "the element does not repeat")
    if not has_json_type(name, value):
        return Fault("structure", "the value has the wrong JSON type")
    if is_too_long(name, value):
        return Fault("too-long", f"the {name} is longer than this server reads")
    if name == "xhtml":
        return Fault("invariant", "txt-1: the narrative is not plain, safe XHTML with some content")
    if value_set and CHECKS[name](value):
        return Fault("code-invalid", f"the code is not in value set {value_set}")
    return Fault("value", f"the value is no {name} of R4")


def coded(codes: frozenset[str]) -> Test:
    """Return the test of a code with a required binding."""
    return lambda value: type(value) is str and value in codes


def primitive(test: Test, name: str, value_set: str) -> Rule:
    """Return the rule of one primitive.

    Parameters
    ----------
    test
        Its test.
    name
        The primitive type.
    value_set
        The value set of a required binding; empty for none.
    """
    return lambda item: None if test(item) else [primitive_fault(name, item, value_set)]


def repeated_primitive(test: Test, name: str, value_set: str) -> Rule:
    """Return the rule of an array of primitives.

    Parameters
    ----------
    test
        The test of one.
    name
        The primitive type.
    value_set
        The value set of a required binding; empty for none.
    """

    def rule(items: Any) -> Faults:
        if type(items) is not list:
            return NOT_AN_ARRAY
        faults: Faults = None
        for index, item in enumerate(items):
            if not test(item):
                fault = NULL if item is None else primitive_fault(name, item, value_set)
                faults = merged(faults, f"[{index}]", (fault,))
        return faults

    return rule


def repeated(one: Rule) -> Rule:
    """Return the rule of an array."""

    def rule(items: Any) -> Faults:
        if type(items) is not list:
            return NOT_AN_ARRAY
        faults: Faults = None
        for index, item in enumerate(items):
            found = one(item)
            if found is not None:
                faults = merged(faults, f"[{index}]", found)
        return faults

    return rule


def counted(rule: Rule, least: int, most: int | None) -> Rule:
    """Return a rule that also counts the items of the array.

    Parameters
    ----------
    rule
        The rule of the array.
    least, most
        The cardinality; None for any number.
    """
    fault = Fault("structure", f"the element may occur {least} to {'any number of' if most is None else most} times")

    def check(items: Any) -> Faults:
        faults = rule(items)
        if type(items) is list and (len(items) < least or (most is not None and len(items) > most)):
            return merged(faults, "", (fault,))
        return faults

    return check


def also(rule: Rule, holds: Test, fault: Fault) -> Rule:
    """Return a rule that also demands that something holds of a value that is right.

    Parameters
    ----------
    rule
        The rule that comes first.
    holds
        What must hold.
    fault
        The fault where it does not.
    """

    def check(value: Any) -> Faults:
        faults = rule(value)
        if (faults is None or all(it.code == LOCAL for it in faults)) and not holds(value):
            return merged(faults, "", (fault,))
        return faults

    return check


def concept(rule: Rule, systems: Mapping[str, frozenset[str]], value_set: str) -> Rule:
    """Return the rule of a Coding, CodeableConcept or Quantity with a required binding.

    A concept that is left out with an extension needs no code (R4, extensibility.html#Special-Case).

    Parameters
    ----------
    rule
        The rule of its type.
    systems
        The codes by code system.
    value_set
        Name of the value set.
    """
    nothing: frozenset[str] = frozenset()

    def holds(value: Mapping[str, Any]) -> bool:
        codings = value.get("coding")
        if codings is None:
            if "code" in value or "system" in value:
                codings = (value,)
            else:
                return "extension" in value and value.keys() <= {"id", "extension"}
        return any(it.get("code") in systems.get(it.get("system", ""), nothing) for it in codings)

    return also(rule, holds, Fault("code-invalid", f"no coding is in value set {value_set}"))


def reference(rule: Rule, targets: frozenset[str], resources: frozenset[str]) -> Rule:
    """Return the rule of a reference (R4, references.html).

    Parameters
    ----------
    rule
        The rule of a Reference.
    targets
        The resource types that it may name; empty for any.
    resources
        All resource types.
    """
    allowed = targets or resources

    def other(value: Mapping[str, Any], text: str) -> Faults:
        if text[:1] == "#":
            return [Fault(LOCAL, text[1:], "", targets)] if len(text) > 1 else None
        stated = value.get("type", "").rsplit("/", 1)[-1]
        literal = linked_type(text) or literal_type(text)
        named = {it for it in (stated, literal) if it in resources}
        if len(named) > 1:
            return [Fault("structure", "type and reference name different resource types")]
        for name in named:
            if name not in allowed:
                return [Fault("structure", f"a reference to {name} is not allowed")]
        return None

    def check(value: Any) -> Faults:
        faults = rule(value)
        if faults is not None:
            return faults
        text = value.get("reference", "")
        if "type" not in value and text[: text.find("/")] in allowed:
            return None
        return other(value, text)

    return check


def literal_type(text: str) -> str:
    """Return the type that a relative or absolute RESTful reference names; empty for URNs, fragments and conditions."""
    if "?" in text:
        return text.split("?", 1)[0].rsplit("/", 1)[-1]
    parts = text.split("/_history/", 1)[0].rsplit("/", 2)
    return parts[-2] if len(parts) > 1 else ""
