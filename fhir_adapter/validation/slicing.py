"""What only profiles have: fixed values, patterns and slices (R4, profiling.html)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fhir_adapter.validation.records import Element, Expected, Fault
from fhir_adapter.validation.rules import Faults, Rule, also, merged

_FIXED: Final = Fault("value", "the profile fixes another value")
_PATTERN: Final = Fault("value", "the value does not contain what the profile demands")
_CLOSED: Final = Fault("structure", "the profile allows no element outside of its slices")


def valued(rule: Rule, element: Element) -> Rule:
    """Return the rule of an element whose value a profile fixes, in whole or in part.

    Parameters
    ----------
    rule
        The rule of its type.
    element
        The element.
    """
    if element.fixed is not None:
        rule = also(rule, lambda value: equal(value, element.fixed), _FIXED)
    if element.pattern is not None:
        rule = also(rule, lambda value: contains(value, element.pattern), _PATTERN)
    return rule


def equal(value: Any, expected: Any) -> bool:
    """Return whether a value is exactly what is expected; ``true`` is not 1.

    Parameters
    ----------
    value, expected
        Plain JSON.
    """
    return value == expected and isinstance(value, bool) == isinstance(expected, bool)


def contains(value: Any, expected: Any) -> bool:
    """Return whether a value has at least what a pattern has (R4, elementdefinition-definitions.html#pattern).

    Parameters
    ----------
    value, expected
        Plain JSON.
    """
    if type(expected) is dict:
        return type(value) is dict and all(name in value and contains(value[name], it) for name, it in expected.items())
    if type(expected) is list:
        return type(value) is list and all(any(contains(item, it) for item in value) for it in expected)
    return equal(value, expected)


def sliced(rule: Rule, element: Element, slice_rules: Mapping[str, Rule]) -> Rule:
    """Return the rule of an element that a profile slices.

    Parameters
    ----------
    rule
        The rule of the element.
    element
        The element, which repeats or is a choice.
    slice_rules
        The rule of an item of each slice.
    """

    def check(value: Any) -> Faults:
        faults = rule(value)
        if faults is not None:
            return faults
        items = value if type(value) is list else [value]
        counts = dict.fromkeys(slice_rules, 0)
        for index, item in enumerate(items):
            step = f"[{index}]" if type(value) is list else ""
            name = _slice_of(item, element)
            if name:
                counts[name] += 1
                found = slice_rules[name](item)
                faults = merged(faults, step, found) if found is not None else faults
            elif element.closed:
                faults = merged(faults, step, (_CLOSED,))
        return _counted(counts, element, faults)

    return check


def _slice_of(item: Any, element: Element) -> str:
    for part in element.slices:
        if all(_fits(item, path, expected) for path, expected in part.discriminators):
            return part.name
    return ""


def _fits(item: Any, path: Sequence[str], expected: Expected) -> bool:
    values = [item]
    for step in path:
        found = [value[step] for value in values if type(value) is dict and step in value]
        values = [it for value in found for it in (value if type(value) is list else [value])]
    if expected.kind == "fixed":
        return any(equal(value, expected.value) for value in values)
    return any(contains(value, expected.value) for value in values)


def _counted(counts: Mapping[str, int], element: Element, faults: Faults) -> Faults:
    for part in element.slices:
        count = counts[part.name]
        if count < part.least:
            fault = Fault("required", f"slice {part.name} of the profile is missing")
            faults = merged(faults, "", (fault,))
        elif part.most is not None and count > part.most:
            fault = Fault("structure", f"slice {part.name} of the profile may occur {part.most} times")
            faults = merged(faults, "", (fault,))
    return faults
