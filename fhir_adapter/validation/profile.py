"""Compiles a profile to the same checks as R4's own structures (R4, profiling.html).

Checked are cardinality, types, fixed values, patterns, required bindings whose codes are known, invariants that
:mod:`fhir_adapter.validation.fhirpath` can compile, and slices with a discriminator by value or pattern. What a profile
demands beside that is listed in :attr:`Profile.unchecked`, so that nobody takes silence for conformance.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fhir_adapter.validation.definitions import Json, Node, binding, constraints, targets, tree, type_code
from fhir_adapter.validation.invariants import ELSEWHERE, WRITTEN, expression
from fhir_adapter.validation.records import Definitions, Element, Expected, Slice, Structure
from fhir_adapter.validation.rules import Faults
from fhir_adapter.validation.structure import Checks
from fhir_adapter.validation.table import choice_name

_SLICE_NAME: Final = re.compile(":[^.]+")
_VALUED: Final = ("fixed", "pattern")


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """One profile, compiled."""

    url: str
    #: What is demanded and not checked: paths of slices and bindings, keys of invariants.
    unchecked: tuple[str, ...]
    _checks: Checks
    _name: str

    def faults(self, resource: Mapping[str, Any]) -> Faults:
        """Return what a resource lacks to conform, or None."""
        return self._checks.whole(self._checks.structure(self._name), resource)


def compile_profile(definition: Json, base: Definitions, others: Sequence[Json] = ()) -> Profile:
    """Compile a profile.

    Parameters
    ----------
    definition
        Its StructureDefinition with a snapshot.
    base
        The definitions of R4.
    others
        StructureDefinitions that it refers to, such as extensions.

    Raises
    ------
    ValueError
        For a snapshot that lacks an element which others are parts of.
    """
    reader = _Reader(base, {it["url"]: it["type"] for it in (definition, *others)})
    for other in others:
        reader.read(other)
    reader.unchecked.clear()  # those of the profile itself count
    name = reader.read(definition)
    checks = Checks(replace(base, structures={**base.structures, **reader.structures}))
    return Profile(url=definition["url"], unchecked=tuple(reader.unchecked), _checks=checks, _name=name)


class _Reader:
    """Collects the structures of profiles; each is named by the profile's URL and the element's id."""

    def __init__(self, base: Definitions, known: Mapping[str, str]) -> None:
        self._base = base
        #: URL of a profile -> what it is a profile of.
        self._known = known
        self._types = {url.rsplit("/", 1)[-1]: type_ for url, type_ in known.items()}
        self.structures: dict[str, Structure] = {}
        self.unchecked: list[str] = []

    def read(self, definition: Json) -> str:
        return self._structure(definition["url"], tree(definition), definition["type"])

    def _structure(self, url: str, node: Node, base: str) -> str:
        """Add the structure of a node; what its snapshot does not list is as in its base type."""
        definition = node.definition
        name = f"{url}|{definition['id']}#{base}"
        elements = [it for part in node.parts.items() for it in self._elements(url, *part)]
        listed = set(node.parts)
        inherited = [it for it in self._base.structures[base].elements if it.name not in listed]
        own = constraints(definition, ())
        self.unchecked += [
            it.key
            for it in own
            if it.key not in ELSEWHERE and it.key not in WRITTEN and expression(it, self._base) is None
        ]
        self.structures[name] = Structure(name=name, elements=(*inherited, *elements), constraints=own)
        return name

    def _elements(self, url: str, name: str, node: Node) -> Iterator[Element]:
        whole = self._element(url, name, node)
        if not name.endswith("[x]"):
            yield replace(whole, slices=self._slices(url, name, node), closed=_is_closed(node))
            return
        plain = tuple(dict.fromkeys(type_code(it) for it in node.definition.get("type", ())))
        yield replace(whole, types=plain)
        parts = [node] if node.parts and len(plain) == 1 else []
        for part in (*parts, *node.slices.values()):  # each is one type of the choice
            code = type_code(part.definition["type"][0])
            yield self._element(url, choice_name(name[:-3], code), part)

    def _element(self, url: str, name: str, node: Node) -> Element:
        definition = node.definition
        most = definition["max"]
        types = definition.get("type", ())
        codes = tuple(dict.fromkeys(self._type(url, node, it) for it in types))
        if "contentReference" in definition:
            codes = (">" + _SLICE_NAME.sub("", definition["contentReference"].rsplit("#", 1)[-1]),)
        bound = definition.get("binding", {})
        if bound.get("strength") == "required" and not binding(definition, self._base.value_sets):
            self.unchecked.append(f"{definition['id']}: binding")
        allowed = frozenset(self._types.get(it, it) for it in targets(definition))
        if not allowed <= self._base.resources:
            self.unchecked.append(f"{definition['id']}: target")
            allowed = frozenset()
        values = {kind: _value(definition, kind) for kind in _VALUED}
        return Element(
            name=name,
            least=definition["min"],
            most=None if most == "*" else int(most),
            repeats=definition["base"]["max"] not in {"0", "1"},
            types=codes,
            targets=allowed,
            binding=binding(definition, self._base.value_sets),
            fixed=values["fixed"],
            pattern=values["pattern"],
        )

    def _type(self, url: str, node: Node, type_: Json) -> str:
        code = type_code(type_)
        profiles = [it for it in type_.get("profile", ()) if it in self._known]
        if node.parts and len(node.definition["type"]) == 1:
            path = node.definition.get("base", node.definition)["path"]
            base = path if code in {"BackboneElement", "Element"} else code
            return ">" + self._structure(url, node, base)
        return f">{profiles[0]}|{code}#{code}" if profiles else code

    def _slices(self, url: str, name: str, node: Node) -> tuple[Slice, ...]:
        discriminators = node.definition.get("slicing", {}).get("discriminator", ())
        found = []
        for slice_name, part in node.slices.items():
            expected = [_expected(part, it) for it in discriminators]
            if not expected or any(it is None for it in expected):
                self.unchecked.append(f"{part.definition['id']}: slice")
                continue
            most = part.definition["max"]
            found.append(
                Slice(
                    name=slice_name,
                    least=part.definition["min"],
                    most=None if most == "*" else int(most),
                    discriminators=tuple(it for it in expected if it is not None),
                    element=self._element(url, name, part),
                )
            )
        return tuple(found)


def _is_closed(node: Node) -> bool:
    return bool(node.definition.get("slicing", {}).get("rules") == "closed")


def _value(definition: Json, kind: str) -> Any:
    for name, value in definition.items():
        if name.startswith(kind) and name[len(kind) : len(kind) + 1].isupper():
            return value
    return None


def _expected(node: Node, discriminator: Json) -> tuple[tuple[str, ...], Expected] | None:
    """Return what a slice expects at the path of a discriminator; None when it cannot be said from the definition."""
    if discriminator["type"] not in {"value", "pattern"} or "(" in discriminator["path"]:
        return None
    path = () if discriminator["path"] == "$this" else tuple(discriminator["path"].split("."))
    return _at(node, (), path)


def _at(node: Node, above: tuple[str, ...], path: tuple[str, ...]) -> tuple[tuple[str, ...], Expected] | None:
    """Return the value that a node or one below it fixes; ``above`` is the way to the node, ``path`` what is left."""
    for kind in _VALUED:
        found = _value(node.definition, kind)
        if found is not None:
            return above, Expected(kind=kind, value=found)
    if not path:
        return None
    if path[0] not in node.parts:
        return _of_extension(node, above, path)
    part = node.parts[path[0]]
    tried = (_at(it, (*above, path[0]), path[1:]) for it in (part, *part.slices.values()))
    return next((it for it in tried if it is not None), None)


def _of_extension(node: Node, above: tuple[str, ...], path: tuple[str, ...]) -> tuple[tuple[str, ...], Expected] | None:
    """Return the URL of the extension that a slice is a profile of."""
    profiles = [url for type_ in node.definition.get("type", ()) for url in type_.get("profile", ())]
    return ((*above, *path), Expected(kind="fixed", value=profiles[0])) if path == ("url",) and profiles else None
