"""Finds the elements that the path of a FHIRPath Patch names, with the places in which they stand.

R4 limits such a path to the simple subset of FHIRPath: names, indexes, ``where``, ``first``, ``last``, ``ofType`` and
``extension``. The criteria of ``where`` are comparisons with literals.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, TypeAlias

from fhir_adapter.patch.values import Work, equal
from fhir_adapter.validation.objects import names_of
from fhir_adapter.validation.records import Element
from fhir_adapter.validation.table import choice_name, r4
from kernel.errors import Category, Problem

_STEP: Final = re.compile(
    r"\.?(?:(?P<name>[A-Za-z][A-Za-z0-9]*+)(?!\()|(?P<function>first|last)\(\)"
    r"|(?P<typed>ofType|as)\((?P<type>[A-Za-z]+)\)|extension\('(?P<url>[^'\\]{1,500})'\))"
)
_INDEX: Final = re.compile(r"\[([0-9]{1,6})\]")
_CRITERION: Final = re.compile(
    r"(?P<and>\s+and\s+)?\s*(?P<names>[A-Za-z][A-Za-z0-9]*(?:\.[A-Za-z][A-Za-z0-9]*){0,9})\s*=\s*"
    r"(?:'(?P<text>(?:[^'\\]|\\.)*)'|(?P<number>-?[0-9]{1,18}(?:\.[0-9]{1,18})?)|(?P<truth>true|false))\s*?(?=\s+and\s|\s*\Z)"
)
_WHERE: Final = ".where("
LONGEST_PATH: Final = 1000
"""Most characters in a path."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """An element of a resource: where it stands, and what it is."""

    #: The object or array that holds it.
    holder: Any
    #: Its key or index there.
    key: Any
    #: Its structure in R4's definitions, or the code of a primitive.
    type: str
    #: Of an item of an array: the object that holds the array, and its key there.
    list_of: tuple[Any, str] | None = None

    @property
    def value(self) -> Any:
        """The element's JSON."""
        return self.holder[self.key]


Step: TypeAlias = Callable[[list[Place], Work], list[Place]]


def places(root: Place, steps: Sequence[Step], work: Work) -> list[Place]:
    """Return the elements that a path names.

    Parameters
    ----------
    root
        The resource.
    steps
        From :func:`path`.
    work
        Counts the elements that are visited.

    Raises
    ------
    TooCostly
        When the patch has visited too many.
    """
    found = [root]
    for step in steps:
        work.take(1 + len(found))
        found = step(found, work)
    return found


def path(text: str) -> tuple[list[Step], str]:
    """Read a path.

    Parameters
    ----------
    text
        Such as ``Patient.identifier.where(use = 'official')``.

    Returns
    -------
    steps, last
        What it does after the resource's type; the name that it ends with, empty when it ends with something else.

    Raises
    ------
    Problem
        ``incorrect`` for a path that is not in the simple subset.
    """
    kind = re.match(r"[A-Z][A-Za-z]+", text)
    if kind is None or len(text) > LONGEST_PATH:
        raise _unknown()
    steps: list[Step] = [_of_type(kind[0])]
    last, at = "", kind.end()
    while at < len(text):
        if text.startswith(_WHERE, at):
            end = _closing(text, at + len(_WHERE))
            steps.append(_where(text[at + len(_WHERE) : end]))
            at, last = end + 1, ""
            continue
        index, step = _INDEX.match(text, at), _STEP.match(text, at)
        if index is not None:
            steps.append(_nth(int(index[1])))
            at, last = index.end(), ""
        elif step is not None and text[at] == ".":
            steps.append(_step(step))
            at, last = step.end(), step["name"] or ""
        else:
            raise _unknown()
    return steps, last


@lru_cache(maxsize=4096)
def element_of(structure: str, name: str) -> Element | None:
    """Return the definition of an element: by its own name, or by that of a choice without the type.

    Parameters
    ----------
    structure
        The structure that has it.
    name
        Its name in a path or in JSON.
    """
    found = r4().structures.get(structure)
    for element in found.elements if found else ():
        if element.name in {name, f"{name}[x]"} or any(own == name for own, _ in names_of(element)):
            return element
    return None


def _step(match: re.Match[str]) -> Step:
    if match["name"]:
        return _child(match["name"])
    if match["function"]:
        return lambda found, _work: found[:1] if match["function"] == "first" else found[-1:]
    if match["type"]:
        wanted = match["type"]
        return lambda found, _work: [it for it in found if it.type.lower() == wanted.lower()]
    child = _child("extension")
    url = match["url"]
    return lambda found, work: [
        it for it in child(found, work) if type(it.value) is dict and it.value.get("url") == url
    ]


def _of_type(kind: str) -> Step:
    def step(found: list[Place], _work: Work) -> list[Place]:
        return [it for it in found if kind in {it.type, "Resource", "DomainResource"}]

    return step


def _child(name: str) -> Step:
    def step(found: list[Place], work: Work) -> list[Place]:
        return [child for place in found for child in _children(place, name, work)]

    return step


def _children(place: Place, name: str, work: Work) -> list[Place]:
    if type(place.value) is not dict:
        return []
    kind = place.value.get("resourceType", place.type) if place.type == "Resource" else place.type
    element = element_of(kind, name)
    for key, code in names_of(element) if element else ():
        found = place.value.get(key)
        of_type = code.removeprefix(">")
        if type(found) is list:
            work.take(len(found))
            holder = (place.value, key)
            return [Place(holder=found, key=at, type=of_type, list_of=holder) for at in range(len(found))]
        if found is not None:
            return [Place(holder=place.value, key=key, type=of_type)]
    return []


def _nth(index: int) -> Step:
    return lambda found, _work: found[index : index + 1]


def _where(text: str) -> Step:
    """Return the step of ``where``: comparisons of elements with literals, joined by ``and``.

    Nothing else of FHIRPath: a patch is carried out in the commit, so that what it costs must be bounded.
    """
    criteria: list[tuple[list[str], Any]] = []
    at = 0
    while at < len(text) or not criteria:
        found = _CRITERION.match(text, at)
        if found is None or (found["and"] is None) == bool(criteria):
            raise Problem(Category.INCORRECT, "where() takes comparisons such as use = 'official', joined by and")
        criteria.append((found["names"].split("."), _literal(found)))
        at = found.end()

    def holds(value: Any, work: Work) -> bool:
        return all(any(equal(it, wanted) for it in _values(value, names, work)) for names, wanted in criteria)

    return lambda found, work: [place for place in found if holds(place.value, work)]


def _literal(found: re.Match[str]) -> Any:
    if found["text"] is not None:
        return re.sub(r"\\(.)", r"\1", found["text"])
    return Decimal(found["number"]) if found["number"] else found["truth"] == "true"


def _values(value: Any, names: Sequence[str], work: Work) -> list[Any]:
    """Return what is at the end of some names, items of arrays one by one."""
    held = [value]
    for name in names:
        keys = (name, *r4().choices.get(name, ()))
        work.take(1 + len(held) * len(keys))
        inner = [it[key] for it in held if type(it) is dict for key in keys if key in it]
        held = [item for it in inner for item in (it if type(it) is list else [it])]
    work.take(len(held))
    return held


def _closing(text: str, start: int) -> int:
    """Return the place of the bracket that ends ``where(``, outside of strings."""
    depth, quoted, at = 1, False, start
    while at < len(text):
        character = text[at]
        if quoted:
            at += character == "\\"
            quoted = character != "'"
        elif character == "'":
            quoted = True
        else:
            depth += (character == "(") - (character == ")")
            if depth == 0:
                return at
        at += 1
    raise _unknown()


def _unknown() -> Problem:
    return Problem(Category.INCORRECT, "the path is not in the simple subset of FHIRPath that patches use")


def choice_key(element: Element, name: str, code: str) -> str:
    """Return the JSON name of an element: that of a choice has its type.

    Parameters
    ----------
    element
        Its definition.
    name
        The name that was given.
    code
        The type of the value.
    """
    if element.name.endswith("[x]") and element.name[:-3] == name:
        return choice_name(name, code)
    return name
