"""What tells the slices of an element apart, read from a profile (R4, profiling.html#discriminator)."""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from fhir_adapter.validation.definitions import Json, Node, type_code
from fhir_adapter.validation.records import Definitions, Expected

Found: TypeAlias = tuple[tuple[str, ...], Expected] | None
"""A path below an item and what is expected there; None when the definition does not say it."""

_STEP: Final = re.compile(r"\$this|extension\('[^']+'\)|ofType\([A-Za-z]+\)|resolve\(\)|[A-Za-z]\w*")
_VALUED: Final = ("fixed", "pattern")
EXTENSION: Final = "extension('"
RESOLVE: Final = "resolve()"


def value_of(definition: Json, kind: str) -> Any:
    """Return the value that an ElementDefinition fixes, or None.

    Parameters
    ----------
    definition
        An ElementDefinition.
    kind
        ``fixed`` or ``pattern``.
    """
    for name, value in definition.items():
        if name.startswith(kind) and name[len(kind) : len(kind) + 1].isupper():
            return value
    return None


def bound_set(definition: Json, definitions: Definitions) -> str:
    """Return the key under which the value set of a binding is known; empty when it is not.

    Parameters
    ----------
    definition
        An ElementDefinition.
    definitions
        Where value sets are looked up: by canonical, and those of R4 by the last part of it.
    """
    url = str(definition.get("binding", {}).get("valueSet", "")).split("|")[0]
    if url in definitions.value_sets:
        return url
    name = url.rsplit("/", 1)[-1]
    return name if url.startswith("http://hl7.org/fhir/") and name in definitions.value_sets else ""


def expected(node: Node, discriminator: Json, definitions: Definitions, known: Mapping[str, str]) -> Found:
    """Return what a slice expects at the path of a discriminator.

    Parameters
    ----------
    node
        The slice.
    discriminator
        ``ElementDefinition.slicing.discriminator``.
    definitions
        R4, for value sets.
    known
        Canonical of a profile -> what it is a profile of.
    """
    text, kind = discriminator["path"], discriminator["type"]
    steps = tuple(step for step in _STEP.findall(text) if step != "$this")
    if ".".join(steps) != text.replace("$this.", "").replace("$this", ""):
        return None
    if kind in {"value", "pattern"}:
        return _value(node, (), steps, definitions) if RESOLVE not in steps else None
    if kind == "type" and steps[-1:] == (RESOLVE,):
        return _targets(_below(node, steps[:-1]), steps[:-1], known)
    place = _below(node, steps)
    if place is None or RESOLVE in steps:
        return None
    return _OF_PLACE[kind](place.definition, steps) if kind in _OF_PLACE else None


def _of_type(definition: Json, steps: tuple[str, ...]) -> Found:
    codes = frozenset(type_code(it) for it in definition.get("type", ()))
    return (steps, Expected(kind="type", value=codes)) if steps and codes else None


def _of_existence(definition: Json, steps: tuple[str, ...]) -> Found:
    if definition["max"] == "0":
        return steps, Expected(kind="exists", value=False)
    return (steps, Expected(kind="exists", value=True)) if definition["min"] else None


def _of_profile(definition: Json, steps: tuple[str, ...]) -> Found:
    profiles = [(url, it["code"]) for it in definition.get("type", ()) for url in it.get("profile", ())]
    return (steps, Expected(kind="profile", value=profiles[0])) if len(profiles) == 1 else None


_OF_PLACE: Final = {"type": _of_type, "exists": _of_existence, "profile": _of_profile}


def _targets(node: Node | None, steps: tuple[str, ...], known: Mapping[str, str]) -> Found:
    """Return the types that a reference names, without following it."""
    urls = [url for it in (node.definition.get("type", ()) if node else ()) for url in it.get("targetProfile", ())]
    types = frozenset(known.get(url, url.rsplit("/", 1)[-1]) for url in urls)
    return (steps, Expected(kind="target", value=types)) if types and "Resource" not in types else None


def _below(node: Node, steps: tuple[str, ...]) -> Node | None:
    """Return the node at a path; None when the profile says nothing of it."""
    found: Node | None = node
    for step in steps:
        found = _next(found, step) if found is not None else None
    return found


def _next(node: Node, step: str) -> Node | None:
    if step.startswith(EXTENSION):
        url = step[len(EXTENSION) : -2]
        slices = node.parts["extension"].slices.values() if "extension" in node.parts else ()
        return next((it for it in slices if url in _profiles(it.definition)), None)
    if step.startswith("ofType("):
        return node
    part = node.parts.get(step) or node.parts.get(f"{step}[x]")
    if part is None:
        return None
    return next(iter(part.slices.values())) if step not in node.parts and len(part.slices) == 1 else part


def _profiles(definition: Json) -> list[str]:
    return [url for type_ in definition.get("type", ()) for url in type_.get("profile", ())]


def _value(node: Node, above: tuple[str, ...], path: tuple[str, ...], definitions: Definitions) -> Found:
    """Return the value that a node or one below it fixes; ``above`` is the way to the node, ``path`` what is left."""
    for kind in _VALUED:
        found = value_of(node.definition, kind)
        if found is not None:
            return above, Expected(kind=kind, value=found)
    if not path:
        return _codes(node, above, definitions)
    part = _next(node, path[0])
    if part is None:
        profiles = _profiles(node.definition)
        return ((*above, *path), Expected(kind="fixed", value=profiles[0])) if path == ("url",) and profiles else None
    tried = (_value(it, (*above, path[0]), path[1:], definitions) for it in (part, *part.slices.values()))
    return next((it for it in tried if it is not None), None)


def _codes(node: Node, above: tuple[str, ...], definitions: Definitions) -> Found:
    """Return the codes of a required binding, which tell a slice apart as a value does."""
    name = bound_set(node.definition, definitions)
    if node.definition.get("binding", {}).get("strength") != "required" or not name:
        return None
    return above, Expected(kind="codes", value=definitions.value_sets[name])
