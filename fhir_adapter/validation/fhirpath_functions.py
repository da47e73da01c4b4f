"""The operators and functions of FHIRPath that invariants use, on lists of plain JSON values."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

import orjson

Values: TypeAlias = list[Any]


class UnsupportedError(Exception):
    """An expression uses what the compiler does not know."""


@dataclass(frozen=True, slots=True)
class Env:
    """What an expression can name beside what it is evaluated on."""

    #: ``%resource``.
    resource: Any
    #: ``%context``: the element that has the invariant.
    context: Any
    #: ``$this``: the item of the function around; outside of one, the context.
    this: list[Any]


def children_named(item: Mapping[str, Any], name: str, names: Sequence[str]) -> Iterator[Any]:
    """Return the children of a name; a primitive that has only extensions is the object with them.

    Parameters
    ----------
    item
        A JSON object.
    name
        The name, without a type for a choice.
    names
        The names with a type, for a choice.
    """
    for key in (name, *names):
        found = item.get(key)
        if found is None:
            found = item.get("_" + key)
        if type(found) is list:
            yield from (it for it in found if it is not None)
        elif found is not None:
            yield found


def truth(values: Values) -> bool | None:
    """Return a collection as a boolean; None when it is empty. A single item that is no boolean is true."""
    if not values:
        return None
    return values[0] if type(values[0]) is bool else True


def _key(value: Any) -> Any:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS) if isinstance(value, dict | list) else (type(value), value)


def _distinct(values: Values) -> Values:
    return list({_key(it): it for it in values}.values())


def _descendants(values: Values) -> Values:
    found: Values = []
    level = values
    while level:
        level = _children(level)
        found += level
    return found


def _children(values: Values) -> Values:
    found: Values = []
    for value in values:
        if type(value) is dict:
            for name, child in value.items():
                if name != "resourceType":
                    found += [it for it in child if it is not None] if type(child) is list else [child]
    return found


def _and(left: Values, right: Values) -> Values:
    first, second = truth(left), truth(right)
    if first is False or second is False:
        return [False]
    return [] if first is None or second is None else [True]


def _or(left: Values, right: Values) -> Values:
    first, second = truth(left), truth(right)
    if first or second:
        return [True]
    return [] if first is None or second is None else [False]


def _xor(left: Values, right: Values) -> Values:
    first, second = truth(left), truth(right)
    return [] if first is None or second is None else [first is not second]


def _implies(left: Values, right: Values) -> Values:
    first = truth(left)
    if first is False:
        return [True]
    second = truth(right)
    if second:
        return [True]
    return [] if first is None or second is None else [False]


def _equal(left: Values, right: Values) -> Values:
    if not left or not right:
        return []
    return [[_key(it) for it in left] == [_key(it) for it in right] or left == right]


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Values, Values], Values]:
    def apply(left: Values, right: Values) -> Values:
        if len(left) != 1 or len(right) != 1:
            return []
        first, second = left[0], right[0]
        numbers = all(type(it) in {int, float} for it in (first, second))
        return [compare(first, second)] if numbers or type(first) is type(second) is str else []

    return apply


def _within(left: Values, right: Values) -> Values:
    return [_key(left[0]) in {_key(it) for it in right}] if left else []


def _joined(left: Values, right: Values) -> Values:
    return ["".join(str(it) for it in (*left[:1], *right[:1]))]


def _text(left: Values, right: Values, test: Callable[[str, str], bool]) -> Values:
    # FHIRPath says that nothing has no result. R4's invariants are written for false: bdl-8 has no guard for it.
    if not left or not right or type(left[0]) is not str:
        return [False]
    return [test(left[0], right[0])]


@lru_cache(maxsize=64)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


def _matches(left: Values, right: Values) -> Values:
    return _text(left, right, lambda value, pattern: _pattern(pattern).search(value) is not None)


def _to_integer(focus: Values, _: Values) -> Values:
    text = str(focus[0]) if focus else ""
    return [int(text)] if re.fullmatch(r"[+-]?[0-9]{1,18}", text) else []


def _has_value(focus: Values, _: Values) -> Values:
    return [len(focus) == 1 and type(focus[0]) is not dict]


BINARY: Final[Mapping[str, Callable[[Values, Values], Values]]] = {
    "and": _and,
    "or": _or,
    "xor": _xor,
    "implies": _implies,
    "=": _equal,
    "!=": lambda left, right: [not it for it in _equal(left, right)],
    "<": _ordered(lambda a, b: a < b),
    ">": _ordered(lambda a, b: a > b),
    "<=": _ordered(lambda a, b: a <= b),
    ">=": _ordered(lambda a, b: a >= b),
    "in": _within,
    "contains": lambda left, right: _within(right, left),
    "|": lambda left, right: _distinct([*left, *right]),
    "+": lambda left, right: [left[0] + right[0]] if left and right else [],
    "&": _joined,
}

ITERATING: Final[Mapping[str, Callable[[Values, Sequence[Values]], Values]]] = {
    "where": lambda focus, found: [it for it, result in zip(focus, found, strict=True) if truth(result)],
    "select": lambda _focus, found: [it for result in found for it in result],
    "all": lambda _focus, found: [all(truth(result) for result in found)],
    "exists": lambda _focus, found: [any(truth(result) for result in found)],
}
"""Functions whose argument is evaluated on each item."""

FUNCTIONS: Final[Mapping[tuple[str, int], Callable[[Values, Values], Values]]] = {
    ("exists", 0): lambda focus, _: [bool(focus)],
    ("empty", 0): lambda focus, _: [not focus],
    ("not", 0): lambda focus, _: [] if truth(focus) is None else [not truth(focus)],
    ("count", 0): lambda focus, _: [len(focus)],
    ("first", 0): lambda focus, _: focus[:1],
    ("tail", 0): lambda focus, _: focus[1:],
    ("hasValue", 0): _has_value,
    ("isDistinct", 0): lambda focus, _: [len(_distinct(focus)) == len(focus)],
    ("children", 0): lambda focus, _: _children(focus),
    ("descendants", 0): lambda focus, _: _descendants(focus),
    ("trace", 1): lambda focus, _: focus,
    ("combine", 1): lambda focus, others: [*focus, *others],
    ("intersect", 1): lambda focus, others: [
        it for it in _distinct(focus) if _key(it) in {_key(other) for other in others}
    ],
    ("startsWith", 1): lambda focus, other: _text(focus, other, str.startswith),
    ("contains", 1): lambda focus, other: _text(focus, other, lambda value, part: part in value),
    ("matches", 1): _matches,
    ("toInteger", 0): _to_integer,
    ("toString", 0): lambda focus, _: [str(it) for it in focus[:1]],
}
"""Name and number of arguments -> function of what it is called on and its evaluated argument."""
