"""Rules of R4 that the model library does not check: codes, reference targets, JSON types, invariants.

``r4_rules.json`` holds, for each structure of R4 4.0.1, the checks of its elements:

    =set        a code of that value set          ~set    a concept with at least one coding of it (required bindings)
    @A|B        a reference to one of these types  >Node   a structure to descend into
    #s #b #i #d  a JSON string, boolean, integer, number (the model library takes ``"5"`` for 5 and 0 for a date)

It is derived from HL7's definitions (CC0); a test derives it again and compares. :class:`Rules` walks a resource
and the table together, so the cost grows with the resource and not with the standard.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

import orjson

from fhir_adapter.store.document import Json
from fhir_adapter.store.invariants import INVARIANTS
from fhir_adapter.store.problems import Issue

_JSON_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    ">": (dict,),
    "@": (dict,),
    "~": (dict,),
    "=": (str,),
    "#s": (str,),
    "#b": (bool,),
    "#i": (int,),
    "#d": (int, float),
}


class Rules:
    """The table, loaded once.

    Attributes
    ----------
    types
        Every resource type that can be validated.
    """

    def __init__(self) -> None:
        table = orjson.loads(files("fhir_adapter.store").joinpath("r4_rules.json").read_bytes())
        self.types: frozenset[str] = frozenset(table["types"])
        self._structures: Mapping[str, Mapping[str, str]] = table["structures"]
        self._systems: Mapping[str, Mapping[str, frozenset[str]]] = {
            name: {system: frozenset(codes) for system, codes in systems.items()}
            for name, systems in table["valueSets"].items()
        }
        self._codes = {name: frozenset().union(*systems.values()) for name, systems in self._systems.items()}
        self._targets = {
            rule: frozenset(rule[1:].split("|")) if rule[1:] else self.types
            for structure in self._structures.values()
            for rule in structure.values()
            if rule[0] == "@"
        }

    def faults(self, resource: Json) -> Iterator[Issue]:
        """Return the faults of a resource that the model library has validated.

        Parameters
        ----------
        resource
            Plain JSON with a ``resourceType``.
        """
        kind = resource["resourceType"]
        yield from self._structure(kind, resource, kind)

    def _structure(self, name: str, value: Json, path: str) -> Iterator[Issue]:
        faults = [*self._elements(self._structures.get(name, {}), value, path)]
        yield from faults
        if faults:
            return  # invariants are checked last: they rely on elements of the right type
        for invariant in INVARIANTS.get(name, ()):
            if not invariant.holds(value):
                yield Issue(code="invariant", text=f"{invariant.key}: {invariant.text}", expression=path)

    def _elements(self, rules: Mapping[str, str], value: Json, path: str) -> Iterator[Issue]:
        for key, found in value.items():
            rule = rules.get(key)
            if rule is not None:
                for item in found if type(found) is list else (found,):
                    yield from self._element(rule, item, f"{path}.{key}")
            elif key in _EVERYWHERE:
                yield from self._special(key, found, path)

    def _special(self, key: str, found: Any, path: str) -> Iterator[Issue]:
        for item in found if type(found) is list else (found,):
            if type(item) is not dict:
                continue
            if key == "contained" or (key == "resource" and "resourceType" in item):
                yield from self._structure(item["resourceType"], item, f"{path}.{key}")
            elif key == "text":
                yield from self._structure("Narrative", item, f"{path}.text")
            elif key != "resource":
                yield from self._structure("Extension", item, f"{path}.{key}")

    def _element(self, rule: str, item: Any, path: str) -> Iterator[Issue]:
        if item is None:
            return  # an item of an array that has only an extension
        mark = rule[0]
        if type(item) not in _JSON_TYPES[rule if mark == "#" else mark]:
            yield Issue(code="structure", text="the value has the wrong JSON type", expression=path)
        elif mark == ">":
            yield from self._structure(rule[1:], item, path)
        elif mark == "=" and item not in self._codes[rule[1:]]:
            yield Issue(code="code-invalid", text=f"the code is not in value set {rule[1:]}", expression=path)
        elif mark == "@":
            yield from self._reference(rule, item, path)
        elif mark == "~":
            yield from self._concept(rule[1:], item, path)

    def _reference(self, rule: str, item: Json, path: str) -> Iterator[Issue]:
        faults = [*self._structure("Reference", item, path)]
        yield from faults
        target = "" if faults else item.get("type") or _literal_type(item.get("reference", ""))
        if target and target in self.types and target not in self._targets[rule]:
            yield Issue(code="structure", text=f"a reference to {target} is not allowed", expression=path)

    def _concept(self, name: str, item: Json, path: str) -> Iterator[Issue]:
        is_coding = "system" in item or "code" in item
        faults = [*self._structure("Coding" if is_coding else "CodeableConcept", item, path)]
        yield from faults
        if faults:
            return
        codings: Sequence[Json] = (item,) if is_coding else item.get("coding", ())
        allowed = self._systems[name]
        if not any(coding.get("code") in allowed.get(coding.get("system", ""), ()) for coding in codings):
            yield Issue(code="code-invalid", text=f"no coding is in value set {name}", expression=path)


_EVERYWHERE: Final = frozenset({"extension", "modifierExtension", "contained", "text", "resource"})


def _literal_type(reference: str) -> str:
    """Return the type that a relative or absolute RESTful reference names; empty for URNs, fragments and conditions."""
    if "?" in reference:
        return reference.split("?", 1)[0].rsplit("/", 1)[-1]
    parts = reference.split("/_history/", 1)[0].rsplit("/", 2)
    return parts[-2] if len(parts) > 1 else ""
