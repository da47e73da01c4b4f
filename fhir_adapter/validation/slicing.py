"""What only profiles have: fixed values, patterns and slices (R4, profiling.html)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from fhir_adapter.validation.discriminators import EXTENSION
from fhir_adapter.validation.records import Element, Expected, Fault, Slice
from fhir_adapter.validation.rules import Faults, Rule, Test, also, literal_type, merged
from fhir_adapter.validation.table import choice_name

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


def sliced(rule: Rule, element: Element, slice_rules: Mapping[str, Rule], profiled: Callable[[str], Rule]) -> Rule:
    """Return the rule of an element that a profile slices.

    Parameters
    ----------
    rule
        The rule of the element.
    element
        The element, which repeats or is a choice.
    slice_rules
        The rule of an item of each slice.
    profiled
        Returns the rule of a profile by the name of its structure.
    """
    fits_slice = {part.name: _membership(part, profiled) for part in element.slices}

    def check(value: Any) -> Faults:
        faults = rule(value)
        if faults is not None:
            return faults
        items = value if type(value) is list else [value]
        counts = dict.fromkeys(slice_rules, 0)
        for index, item in enumerate(items):
            step = f"[{index}]" if type(value) is list else ""
            name = next((it for it, fits in fits_slice.items() if fits(item)), "")
            if name:
                counts[name] += 1
                found = slice_rules[name](item)
                faults = merged(faults, step, found) if found is not None else faults
            elif element.closed:
                faults = merged(faults, step, (_CLOSED,))
        return _counted(counts, element, faults)

    return check


def _membership(part: Slice, profiled: Callable[[str], Rule]) -> Test:
    return lambda item: all(_fits(item, path, expected, profiled) for path, expected in part.discriminators)


def _fits(item: Any, path: Sequence[str], expected: Expected, profiled: Callable[[str], Rule]) -> bool:
    kind, wanted = expected.kind, expected.value
    if kind == "type":
        return any(_is_of(value, path[-1], wanted) for value in _values(item, path[:-1]))
    values = _values(item, path)
    if kind == "exists":
        return bool(values) is wanted
    if kind == "profile":
        return any(profiled(profile_name(*wanted))(value) is None for value in values)
    if kind == "codes":
        return any(_is_coded(value, wanted) for value in values)
    if kind == "target":
        return any(literal_type(value.get("reference", "")) in wanted for value in values if type(value) is dict)
    same = equal if kind == "fixed" else contains
    return any(same(value, wanted) for value in values)


def profile_name(url: str, kind: str) -> str:
    """Return the name of the structure of a profile.

    Parameters
    ----------
    url
        Its canonical, without a version.
    kind
        What it is a profile of.
    """
    return f"{url}|{kind}#{kind}"


def _values(item: Any, path: Sequence[str]) -> list[Any]:
    values = [item]
    for index, step in enumerate(path):
        following = path[index + 1] if index + 1 < len(path) else ""
        found = [it for value in values if type(value) is dict for it in _step(value, step, following)]
        values = [it for value in found for it in (value if type(value) is list else [value])]
    return values


def _step(value: Mapping[str, Any], step: str, following: str) -> Iterator[Any]:
    if step.startswith(EXTENSION):
        yield from (it for it in value.get("extension", ()) if it.get("url") == step[len(EXTENSION) : -2])
    elif step.startswith("ofType("):
        yield value  # the step before it has chosen by the type
    elif step in value:
        yield value[step]
    elif following.startswith("ofType("):
        name = choice_name(step, following[len("ofType(") : -1])
        if name in value:
            yield value[name]
    else:
        yield from (it for name, it in value.items() if name.startswith(step) and name[len(step)].isupper())


def _is_of(value: Any, step: str, types: frozenset[str]) -> bool:
    if type(value) is not dict:
        return False
    below = value.get(step)
    kind = below.get("resourceType") if type(below) is dict else None
    return kind in types or any(choice_name(step, code) in value for code in types)


def _is_coded(value: Any, systems: Mapping[str, frozenset[str]]) -> bool:
    if type(value) is not dict:
        return any(value in codes for codes in systems.values())
    return any(it.get("code") in systems.get(it.get("system", ""), ()) for it in value.get("coding", (value,)))


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
