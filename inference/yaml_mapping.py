"""Reads YAML that people write: unknown keys are refused, and every error names its position.

A :class:`YamlMapping` returns the values of one mapping and records which keys were read, so that a key that is never
read (usually a spelling mistake) is refused rather than ignored.
"""

import math
import re
from collections.abc import Hashable, Mapping
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, TypeVar

import yaml

from kernel.errors import Category, Problem

T = TypeVar("T")

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MOST_VALUES = 100_000
_LARGEST = 1e300
"""No number of a declaration is larger, and what is no number is not below it."""


class _Unclear(Exception):
    """YAML that is read in no form: with its line, and what is wrong."""


class _PlainLoader(yaml.SafeLoader):
    """Reads plain values that are written out, each key once.

    Of a key that is given twice the last would win (YAML 1.2, 3.2.1.1). A control character is no part of a text of
    FHIR or HL7 v2.
    """

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if isinstance(node, yaml.ScalarNode) and _CONTROL.search(node.value):
            raise _Unclear(node.start_mark.line + 1, "a text holds a control character")
        return super().construct_scalar(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise _Unclear(key.start_mark.line + 1, f"{key.value} is given twice; remove one")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class YamlMapping:
    """One mapping of a YAML file.

    Parameters
    ----------
    place
        Where it stands, for error messages, such as ``model.yaml: outputs[0]``.
    content
        The parsed YAML.
    """

    def __init__(self, place: str, content: object) -> None:
        self.place = place
        if not isinstance(content, Mapping):
            raise Problem(Category.INCORRECT, f"{place} must be a mapping")
        self._content: Mapping[Any, Any] = content
        self._read: set[str] = set()

    def has(self, key: str) -> bool:
        """Return whether ``key`` is given."""
        return key in self._content

    def take(self, key: str, kind: type[T]) -> T:
        """Return the value of ``key``, which must be given and of ``kind``.

        Parameters
        ----------
        key
            Key of the mapping.
        kind
            Python type that the value must have; a boolean is accepted only for ``bool``, not as a number.

        Raises
        ------
        Problem
            ``incorrect`` when the key is missing or its value is of another type.
        """
        self._read.add(key)
        if key not in self._content:
            raise Problem(Category.INCORRECT, f"{self.place}.{key} is missing{self._similar(key)}")
        value = self._content[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            wanted = "a text in quotation marks" if kind is str and _is_bare(value) else f"of type {kind.__name__}"
            raise Problem(Category.INCORRECT, f"{self.place}.{key} must be {wanted}")
        return value

    def _similar(self, key: str) -> str:
        """Return a hint at a key that may be a misspelling of ``key``, or nothing."""
        unread = [str(name) for name in self._content if name not in self._read]
        similar = get_close_matches(key, unread, n=1)
        return f"; is {similar[0]} a misspelling of it?" if similar else ""

    def text(self, key: str) -> str:
        """Return a text that is not empty, with each run of white space replaced by one space.

        Raises
        ------
        Problem
            ``incorrect`` when the key is missing, its value is not a text, or the text is empty.
        """
        value = " ".join(self.take(key, str).split())
        if not value:
            raise Problem(Category.INCORRECT, f"{self.place}.{key} must not be empty")
        return value

    def choice(self, key: str, *choices: str) -> str:
        """Return a text that is one of ``choices``.

        Parameters
        ----------
        key
            Key of the mapping.
        *choices
            Texts that are allowed.

        Raises
        ------
        Problem
            ``incorrect`` when the key is missing or its value is not one of ``choices``.
        """
        value = self.text(key)
        if value not in choices:
            raise Problem(Category.INCORRECT, f"{self.place}.{key} must be one of: {', '.join(choices)}")
        return value

    def number(self, key: str) -> Decimal:
        """Return an integer or decimal number."""
        return as_number(f"{self.place}.{key}", self.take(key, object))

    def positive(self, key: str, most: int | None = None) -> Decimal:
        """Return a number above 0.

        Parameters
        ----------
        key
            Key of the mapping.
        most
            The number must not be above it; None is without limit.

        Raises
        ------
        Problem
            ``incorrect`` when the key is missing, its value is not a number, or the number is out of range.
        """
        value = self.number(key)
        if value <= 0:
            raise Problem(Category.INCORRECT, f"{self.place}.{key} must be above 0")
        if most is not None and value > most:
            raise Problem(Category.INCORRECT, f"{self.place}.{key} must be at most {most}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, empty when ``key`` is not given.

        Raises
        ------
        Problem
            ``incorrect`` when the value is not a list of texts.
        """
        if not self.has(key):
            return ()
        values = self.take(key, list)
        if not all(isinstance(value, str) for value in values):
            raise Problem(Category.INCORRECT, f"{self.place}.{key} must be a list of texts")
        return tuple(values)

    def some_of(self, key: str, *choices: str) -> tuple[str, ...]:
        """Return a list of at least one text, each of them one of ``choices``.

        Parameters
        ----------
        key
            Key of the mapping.
        *choices
            Texts that are allowed.

        Raises
        ------
        Problem
            ``incorrect`` when the value is no such list.
        """
        values = self.take(key, list)
        if not values or not all(isinstance(value, str) and value in choices for value in values):
            raise Problem(Category.INCORRECT, f"{self.place}.{key} must be a list, each entry of: {', '.join(choices)}")
        return tuple(values)

    def range(self, key: str) -> tuple[Decimal, Decimal]:
        """Return two numbers, from low to high.

        Raises
        ------
        Problem
            ``incorrect`` when the value is not a list of two numbers, or they are given from high to low.
        """
        place = f"{self.place}.{key}"
        bounds = self.take(key, list)
        if len(bounds) != 2:
            raise Problem(Category.INCORRECT, f"{place} must be two numbers")
        low, high = (as_number(place, bound) for bound in bounds)
        if not low <= high:
            raise Problem(Category.INCORRECT, f"{place} must be given from low to high")
        return low, high

    def tables(self, key: str) -> tuple["YamlMapping", ...]:
        """Return a list of mappings."""
        place = f"{self.place}.{key}"
        return tuple(YamlMapping(f"{place}[{number}]", value) for number, value in enumerate(self.take(key, list)))

    def table(self, key: str) -> "YamlMapping":
        """Return a mapping inside this one."""
        return YamlMapping(f"{self.place}.{key}", self.take(key, object))

    def all_keys(self) -> tuple[str, ...]:
        """Return all keys, which counts as reading each.

        Raises
        ------
        Problem
            ``incorrect`` when one is no text, as YAML reads ``1`` and ``yes``.
        """
        self._read.update(self._content)
        for key in self._content:
            if not isinstance(key, str):
                raise Problem(Category.INCORRECT, f"{self.place}: put the key {key} in quotation marks")
        return tuple(self._content)

    def done(self) -> None:
        """Refuse keys that were never read.

        Raises
        ------
        Problem
            ``incorrect`` when the mapping has such a key; it names the first in alphabetical order.
        """
        unknown = sorted(str(key) for key in self._content if key not in self._read)
        if unknown:
            raise Problem(Category.INCORRECT, f"{self.place}.{unknown[0]} is not known")


def _is_bare(value: object) -> bool:
    """Return whether YAML reads something else than a text because its quotation marks are missing."""
    return isinstance(value, bool | int | float | date)


def as_number(place: str, value: object) -> Decimal:
    """Return a YAML number exactly as it was written in decimal.

    Parameters
    ----------
    place
        Where the value stands, for the error message, such as ``features.yaml: features[0].low``.
    value
        The parsed YAML.

    Raises
    ------
    Problem
        ``incorrect`` when it is not an integer or decimal number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise Problem(Category.INCORRECT, f"{place} must be a number")
    return Decimal(str(value))


def read_yaml(name: str, content: bytes | None) -> object:
    """Read a YAML file of plain values.

    Parameters
    ----------
    name
        Name of the file, for error messages.
    content
        Its bytes; None when it is absent.

    Raises
    ------
    Problem
        ``incorrect`` when it is absent, not YAML, or not written out plainly.
    """
    try:
        if content is not None:
            found = yaml.load(content.decode("utf-8"), _PlainLoader)  # noqa: S506 - it is a safe loader
            if _size(found, {}) > _MOST_VALUES:
                raise Problem(
                    Category.INCORRECT, f"{name} stands for more than {_MOST_VALUES} values by its aliases (*)"
                )
            return found
    except _Unclear as unclear:
        line, wrong = unclear.args
        raise Problem(Category.INCORRECT, f"{name}, line {line}: {wrong}") from None
    except (ValueError, RecursionError, yaml.YAMLError) as failure:  # a number of 5000 digits, brackets in brackets
        detail = f"{name} cannot be read{_place_of(failure)}"
        raise Problem(Category.INCORRECT, detail, diagnostics=str(failure)) from failure
    raise Problem(Category.INCORRECT, f"{name} cannot be read", diagnostics="it is absent")


def _size(value: object, known: dict[int, float]) -> float:
    """Return how many values there are when every alias is written out; without end where one holds itself."""
    if not isinstance(value, list | dict):
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf
        parts = value if isinstance(value, list) else value.values()
        known[id(value)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(value)]


def _place_of(failure: Exception) -> str:
    """Return where a file is not YAML and why, as far as that is known."""
    if not isinstance(failure, yaml.MarkedYAMLError) or failure.problem_mark is None:
        return ""
    mark = failure.problem_mark
    return f": line {mark.line + 1}, column {mark.column + 1}: {failure.problem}"
