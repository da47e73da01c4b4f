"""Paths to the elements of a resource, as the table of search parameters writes them.

``component/valueQuantity`` leads through every component. ``telecom[system=phone]`` takes those with this value,
``item[extension=URL]`` those with this extension, ``entry[0]`` the first.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final, TypeAlias

_STEP: Final = re.compile(r"(?P<name>\w*)(?:\[(?:(?P<key>\w+)=(?P<value>[^\]]+)|(?P<index>0))\])?(?:/|$)")


@dataclass(frozen=True)
class Step:
    """One step of a path; with an empty name it stays where it is, and only limits."""

    name: str
    #: What an element must have: the name of a child and its value, or an extension by its URL.
    key: str = ""
    value: str = ""
    is_first: bool = False

    @property
    def is_limited(self) -> bool:
        """Whether some elements are left out."""
        return bool(self.key) or self.is_first

    @property
    def of_itself(self) -> "Step":
        """The limit of the step alone."""
        return replace(self, name="")


Steps: TypeAlias = Sequence[Step]


@cache
def steps(path: str) -> tuple[Step, ...]:
    """Return the steps of a path."""
    return tuple(
        Step(match["name"], match["key"] or "", match["value"] or "", is_first=match["index"] is not None)
        for match in _STEP.finditer(path)
        if match[0]
    )


def at(value: Any, rest: Steps) -> Iterator[Any]:
    """Yield the elements that steps lead to, from an element or a list of them.

    Parameters
    ----------
    value
        The element, or the list.
    rest
        The further steps.
    """
    if rest and rest[0].name == "":
        value = list(_limited(value if type(value) is list else [value], rest[0]))
        rest = rest[1:]
    if type(value) is list:
        for item in value:
            yield from at(item, rest)
    elif not rest:
        if value is not None:
            yield value
    elif type(value) is dict and rest[0].name in value:
        found = value[rest[0].name]
        yield from at(found, (rest[0].of_itself, *rest[1:]) if rest[0].is_limited else rest[1:])


def _limited(items: Sequence[Any], step: Step) -> Iterator[Any]:
    for item in items[:1] if step.is_first else items:
        if not step.key or _has(item, step.key, step.value):
            yield item


def _has(item: Any, key: str, value: str) -> bool:
    if type(item) is not dict:
        return False
    if key == "extension":
        return any(it.get("url") == value for it in item.get("extension", ()))
    return bool(item.get(key) == value)
