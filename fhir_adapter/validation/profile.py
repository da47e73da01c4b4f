"""Compiles a profile to the same checks as R4's own structures (R4, profiling.html).

Checked are cardinality, types, fixed values, patterns, bindings whose codes are known, invariants that
:mod:`fhir_adapter.validation.fhirpath` can compile, and slices by value, pattern, type, profile and existence. What a
profile demands beside that is listed in :attr:`Profile.unchecked`, so that nobody takes silence for conformance.

A profile is compiled twice: with what is an error, and with what is a warning besides (extensible and preferred
bindings, invariants of severity ``warning``).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fhir_adapter.validation.definitions import Json, Node, constraints, tree, type_code
from fhir_adapter.validation.discriminators import bound_set, expected, value_of
from fhir_adapter.validation.invariants import ELSEWHERE, UNCHECKED, WRITTEN, WRITTEN_FOR_PROFILES, expression
from fhir_adapter.validation.records import Constraint, Definitions, Element, Expected, Fault, Slice, Structure
from fhir_adapter.validation.rules import Faults
from fhir_adapter.validation.slicing import profile_name
from fhir_adapter.validation.structure import Checks
from fhir_adapter.validation.table import choice_name

_SLICE_NAME: Final = re.compile(":[^.]+")
_ERRORS: Final = frozenset({"required", "error"})
"""The strength of a binding and the severity of an invariant that are errors."""
_ALL: Final = _ERRORS | {"extensible", "preferred", "warning"}
_WITHOUT_FHIRPATH: Final = ELSEWHERE.union(WRITTEN, WRITTEN_FOR_PROFILES)
_ABSTRACT: Final = frozenset({"BackboneElement", "Element"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """One profile, compiled."""

    url: str
    #: What it is a profile of.
    type: str
    #: What is demanded and not checked: the path of an element, and what it is (``slice``, ``binding``, …).
    unchecked: tuple[tuple[str, str], ...]
    _errors: Checks
    _warnings: Checks
    _name: str

    def faults(self, value: Mapping[str, Any]) -> Faults:
        """Return what a resource, or an extension, lacks to conform, or None."""
        return self._errors.whole(self._errors.structure(self._name), value)

    def warnings(self, value: Mapping[str, Any], faults: Sequence[Fault]) -> list[Fault]:
        """Return what does not make a resource wrong, but should be otherwise.

        Parameters
        ----------
        value
            Plain JSON.
        faults
            What makes it wrong, from :meth:`faults`.
        """
        errors = set(faults)
        found = self._warnings.whole(self._warnings.structure(self._name), value) or ()
        return [fault for fault in found if fault not in errors]


def compile_profile(definition: Json, base: Definitions, others: Mapping[str, Json] | None = None) -> Profile:
    """Compile a profile.

    Parameters
    ----------
    definition
        Its StructureDefinition with a snapshot.
    base
        The definitions of R4, with the value sets that the profile binds to.
    others
        Canonical -> StructureDefinition: the profiles that it may refer to, such as extensions.

    Raises
    ------
    ValueError
        For a snapshot that lacks an element which others are parts of.
    """
    known = {**(others or {}), definition["url"]: definition}
    strict, wide = (_Reader(base, known, counted) for counted in (_ERRORS, _ALL))
    name = strict.read(definition)
    wide.read(definition)
    checks = [Checks(replace(base, structures={**base.structures, **it.structures})) for it in (strict, wide)]
    return Profile(
        url=definition["url"],
        type=definition["type"],
        unchecked=tuple(dict.fromkeys([*strict.unchecked, *wide.unchecked])),
        _errors=checks[0],
        _warnings=checks[1],
        _name=name,
    )


class _Reader:
    """Collects the structures of a profile and of those it refers to, named by URL and element id."""

    def __init__(self, base: Definitions, known: Mapping[str, Json], counted: frozenset[str]) -> None:
        self._base = base
        self._known = known
        self._types: Mapping[str, str] = {url: it["type"] for url, it in known.items()}
        self._counted = counted
        self._waiting: list[str] = []
        self.structures: dict[str, Structure] = {}
        self.unchecked: list[tuple[str, str]] = []

    def read(self, definition: Json) -> str:
        """Read a profile and all that it refers to; return the name of its structure."""
        name = self._structure(definition["url"], tree(definition), definition["type"])
        while self._waiting:
            other = self._known[self._waiting.pop()]
            if profile_name(other["url"], other["type"]) not in self.structures:
                self._structure(other["url"], tree(other), other["type"])
        return name

    def _not_checked(self, definition: Json, what: str) -> None:
        self.unchecked.append((definition["id"], what))

    def _structure(self, url: str, node: Node, base: str) -> str:
        """Add the structure of a node; what its snapshot does not list is as in its base type."""
        definition = node.definition
        is_root = "." not in definition["id"]
        name = profile_name(url, base) if is_root else f"{url}|{definition['id']}#{base}"
        self.structures[name] = self._base.structures[base]  # while its parts are read, which may refer to it
        elements = [it for part in node.parts.items() for it in self._elements(url, *part)]
        listed = set(node.parts)
        inherited = [it for it in self._base.structures[base].elements if it.name not in listed]
        known = self._base.structures[base].constraints
        keys = {it.key for it in known}
        own = self._constraints(definition, is_resource=base in self._base.resources)
        rules = (*known, *(it for it in own if it.key not in keys))
        self.structures[name] = Structure(name=name, elements=(*inherited, *elements), constraints=rules)
        return name

    def _constraints(self, definition: Json, *, is_resource: bool) -> tuple[Constraint, ...]:
        """Return the invariants of an element that can be checked; the others are noted."""
        found = []
        for it in constraints(definition, ("ref-1",), self._counted):
            if it.key in _WITHOUT_FHIRPATH:
                found.append(it)
            elif ("%resource" in it.expression and not is_resource) or expression(it, self._base) is None:
                if it.key not in UNCHECKED:
                    self._not_checked(definition, f"constraint {it.key}")
            else:
                found.append(it)
        return tuple(found)

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
        codes = tuple(dict.fromkeys(self._type(url, node, it) for it in definition.get("type", ())))
        if "contentReference" in definition:
            codes = (">" + _SLICE_NAME.sub("", definition["contentReference"].rsplit("#", 1)[-1]),)
        return Element(
            name=name,
            least=definition["min"],
            most=_most(definition),
            repeats=definition["base"]["max"] not in {"0", "1"},
            types=codes,
            targets=self._targets(definition),
            binding=self._binding(definition),
            constraints=() if node.parts else self._constraints(definition, is_resource=False),
            fixed=value_of(definition, "fixed"),
            pattern=value_of(definition, "pattern"),
        )

    def _binding(self, definition: Json) -> str:
        bound = definition.get("binding", {})
        strength, name = bound.get("strength"), bound_set(definition, self._base)
        if strength in {"required", "extensible"} and not name and bound.get("valueSet"):
            self._not_checked(definition, f"{strength} binding")
        return name if strength in self._counted else ""

    def _targets(self, definition: Json) -> frozenset[str]:
        """Return the types that a reference may name; whether the target conforms to a profile is not known here."""
        urls = [url for it in definition.get("type", ()) for url in it.get("targetProfile", ())]
        kinds = frozenset(self._types.get(url, url.rsplit("/", 1)[-1]) for url in urls)
        if "Resource" in kinds:
            return frozenset()
        if kinds <= self._base.resources:
            return kinds
        self._not_checked(definition, "target")
        return frozenset()

    def _type(self, url: str, node: Node, type_: Json) -> str:
        code = type_code(type_)
        named = [it.split("|")[0] for it in type_.get("profile", ()) if not it.endswith("/SimpleQuantity")]
        profiles = [it for it in named if it in self._known]
        self._waiting += profiles
        path = node.definition["base"]["path"]
        if not node.parts and code in _ABSTRACT and path in self._base.structures:
            return f">{path}"
        if node.parts and len(node.definition["type"]) == 1:
            return ">" + self._structure(url, node, path if code in _ABSTRACT else code)
        if len(named) > 1 or len(profiles) < len(named):
            self._not_checked(node.definition, "type profile")
            return code
        return f">{profile_name(profiles[0], self._types[profiles[0]])}" if profiles else code

    def _slices(self, url: str, name: str, node: Node) -> tuple[Slice, ...]:
        slicing = node.definition.get("slicing", {})
        if slicing.get("ordered"):
            self._not_checked(node.definition, "order of slices")
        found = []
        for slice_name, part in node.slices.items():
            wanted = [expected(part, it, self._base, self._types) for it in slicing.get("discriminator", ())]
            if not wanted or not all(it and self._is_known(it[1]) for it in wanted):
                self._not_checked(part.definition, "slice")
                continue
            self._waiting += [it[1].value[0] for it in wanted if it and it[1].kind == "profile"]
            found.append(
                Slice(
                    name=slice_name,
                    least=part.definition["min"],
                    most=_most(part.definition),
                    discriminators=tuple(it for it in wanted if it is not None),
                    element=self._element(url, name, part),
                )
            )
        return tuple(found)

    def _is_known(self, wanted: Expected) -> bool:
        return wanted.kind != "profile" or wanted.value[0] in self._known


def _most(definition: Json) -> int | None:
    return None if definition["max"] == "*" else int(definition["max"])


def _is_closed(node: Node) -> bool:
    return bool(node.definition.get("slicing", {}).get("rules") == "closed")
