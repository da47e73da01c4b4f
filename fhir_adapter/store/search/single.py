"""Reads one value of a search: the tests of the index that it stands for (R4, search.html)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeAlias

from fhir_adapter.store.document import GREATEST_EXPONENT
from fhir_adapter.store.search.comparisons import BY_CODE, BY_UNIT, PREFIXES, pattern_of
from fhir_adapter.store.search.parameters import Kind, Parameter
from fhir_adapter.store.search.shapes import BOTH, PART, START, SYSTEM, VALUE
from fhir_adapter.store.search.texts import value_set
from fhir_adapter.store.search.values import LONGEST_VALUE, comparable, fold, key_of, local, seconds
from fhir_adapter.store.times import span
from kernel.errors import Category, Problem

DEEPEST: Final = 4
"""Most steps of a chain, ``_has`` included."""
AFTER_ANY_TEXT: Final = "\U0010ffff"


_PREFIXED: Final = re.compile(rf"({'|'.join(PREFIXES)})?(.*)", re.DOTALL)
_NUMBER: Final = re.compile(r"[+-]?\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,3})?")

Tests: TypeAlias = Sequence[tuple[str, tuple[Any, ...]]]
"""Each test with its values."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the reading of a search depends on beside its text."""

    #: URL of this API: references that start with it are its own.
    base: str = ""
    #: Steps of chains so far.
    depth: int = 0

    @property
    def below(self) -> "Reading":
        """The reading of a condition one step further."""
        if self.depth + 1 > DEEPEST:
            raise Problem(Category.INCORRECT, f"a chain may have {DEEPEST} steps at the most")
        return replace(self, depth=self.depth + 1)


def tests_of(parameter: Parameter, modifier: str, text: str, reading: Reading) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the tests of one value, of which a row must meet one.

    Parameters
    ----------
    parameter
        The parameter.
    modifier
        Its modifier, one that its kind has.
    text
        The value.
    reading
        What else the reading depends on.
    """
    if parameter.kind == "token":
        if modifier == "in":
            yield from (_token_test(parameter, system, code) for system, code in value_set(unescaped(text)))
        else:
            yield _token_test(parameter, *token_of(text))
    elif parameter.kind == "reference":
        if modifier == "identifier":
            yield _token_test(parameter, *token_of(text))
        else:
            yield from ((VALUE, (key_of(reference),)) for reference in references_of(parameter, text, reading))
    elif parameter.kind == "string":
        yield _string_test(modifier, unescaped(text))
    elif parameter.kind == "uri":
        yield from _uri_tests(modifier, unescaped(text))
    elif parameter.kind == "date":
        prefix, stated = prefixed(text)
        low, high = date_range(prefix, stated)
        yield prefix, (seconds(low), seconds(high))
    else:
        yield _measure_test(parameter.kind, text)


def token_of(text: str) -> tuple[str | None, str | None]:
    """Return system and code of a token: None is "any", an empty system is "none".

    Raises
    ------
    Problem
        ``incorrect`` when both are empty.
    """
    system, *rest = divided(text, "|")
    code = ["|".join(rest)] if rest else []
    if not code:
        return None, unescaped(system)
    if system or code[0]:
        return unescaped(system), unescaped(code[0]) or None
    raise Problem(Category.INCORRECT, "a token is code, system|code, |code or system|")


def _token_test(parameter: Parameter, system: str | None, code: str | None) -> tuple[str, tuple[Any, ...]]:
    if parameter.system and system == parameter.system:  # the elements do not state it
        system = None
        if code is None:
            return START, ("", AFTER_ANY_TEXT)
    if code is None:
        return SYSTEM, (key_of(system or ""),)
    if any(branch.type == "boolean" for branch in parameter.branches):
        code = code.lower()
    return (VALUE, (key_of(code),)) if system is None else (BOTH, (key_of(code), key_of(system)))


def references_of(parameter: Parameter, text: str, reading: Reading) -> Iterator[str]:
    """Yield the references that a value may mean: one for each target of an id without a type.

    Parameters
    ----------
    parameter
        The parameter.
    text
        Its value.
    reading
        What else the reading depends on.

    Raises
    ------
    Problem
        ``incorrect`` for an id without a type, where any type may be meant.
    """
    reference = local(unescaped(text))
    if reading.base and reference.startswith(f"{reading.base}/"):
        reference = reference[len(reading.base) + 1 :]
    if "/" in reference or ":" in reference:
        target = reference.rsplit("/", 2)[-2] if "/" in reference else ""
        if not parameter.restricted or target in parameter.targets:
            yield reference
    elif parameter.targets:
        yield from (f"{target}/{reference}" for target in parameter.targets)
    else:
        raise Problem(Category.INCORRECT, f"search parameter '{parameter.name}' needs a type: Type/id")


def _string_test(modifier: str, text: str) -> tuple[str, tuple[Any, ...]]:
    folded = fold(text)[:LONGEST_VALUE]
    if modifier == "exact":
        return BOTH, (folded, "" if text == folded else text[:LONGEST_VALUE])
    if modifier == "contains":
        return PART, (pattern_of(folded),)
    return START, (folded, folded + AFTER_ANY_TEXT)


def _uri_tests(modifier: str, text: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    if modifier == "below":
        yield VALUE, (key_of(text),)
        yield START, (f"{text.rstrip('/')}/", f"{text.rstrip('/')}/{AFTER_ANY_TEXT}")
    elif modifier == "above":
        parts = text.split("/")
        yield from ((VALUE, (key_of("/".join(parts[:end])),)) for end in range(3, len(parts) + 1))
    else:
        yield VALUE, (key_of(text),)


def prefixed(text: str) -> tuple[str, str]:
    """Return the prefix of a date or number, ``eq`` when there is none, and what follows it."""
    match = _PREFIXED.fullmatch(text)
    assert match is not None
    return match[1] or "eq", match[2]


def date_range(prefix: str, text: str) -> tuple[datetime, datetime]:
    """Return start and end of a date; ``ap`` makes it three times as long.

    Parameters
    ----------
    prefix
        The prefix.
    text
        The date.
    """
    low, high = span(text.replace(" ", "+"))  # a plus sign that was not escaped
    if prefix != "ap":
        return low, high
    try:
        return low - (high - low), high + (high - low)
    except OverflowError:
        return low, high


def _measure_test(kind: Kind, text: str) -> tuple[str, tuple[Any, ...]]:
    parts = divided(text, "|")
    prefix, stated = prefixed(parts[0])
    if not _NUMBER.fullmatch(stated) or len(parts) not in ({1} if kind == "number" else {1, 3}):
        shown = "a number" if kind == "number" else "a number, number|system|code or number||code"
        raise Problem(Category.INCORRECT, f"{shown} is expected")
    low, high = _range(prefix, stated)
    system, code = (unescaped(part) for part in parts[1:]) if len(parts) == 3 else ("", "")
    if system and code:
        unit, start = comparable(low, system, code)
        return prefix + BY_UNIT, (unit, start, comparable(high, system, code)[1])
    if code:
        return prefix + BY_CODE, (float(low), float(high), key_of(code), key_of(code))
    return prefix, (float(low), float(high))


def _range(prefix: str, text: str) -> tuple[Decimal, Decimal]:
    """Return what a number stands for: to half a unit of its last digit, exactly after gt, lt and the like."""
    try:
        value = Decimal(text)
        if abs(value.adjusted()) > GREATEST_EXPONENT:
            raise Problem(Category.INCORRECT, f"a number may have an exponent up to {GREATEST_EXPONENT}")
        if prefix in {"eq", "ne"}:
            # The index holds twelve digits of a converted number: of more than ten, none is compared by the last.
            half = Decimal((0, (5,), max(int(value.as_tuple().exponent) - 1, value.adjusted() - 10)))
            return value - half, value + half
        if prefix == "ap":
            return value - abs(value) / 10, value + abs(value) / 10
    except InvalidOperation as failure:
        raise Problem(Category.INCORRECT, "a number is expected") from failure
    return value, value


def divided(text: str, at: str) -> list[str]:
    """Divide a value at a character, but not where a backslash escapes it (R4, search.html#escaping).

    Parameters
    ----------
    text
        The value; the parts are still escaped.
    at
        The character.
    """
    if "\\" not in text:
        return text.split(at)
    parts, start, place = [], 0, 0
    while place < len(text):
        if text[place] == "\\":
            place += 1
        elif text[place] == at:
            parts.append(text[start:place])
            start = place + 1
        place += 1
    return [*parts, text[start:]]


def unescaped(text: str) -> str:
    r"""Return a value without the backslashes before ``,``, ``|``, ``$`` and ``\``."""
    return re.sub(r"\\([,|$\\])", r"\1", text) if "\\" in text else text
