"""Makes StructureDefinitions of FHIR Shorthand (HL7, FSH 3.0), for guides that are published as its text.

Only the rules that IHE's Basic Audit Log Patterns use: cardinality, assignment, ``only``, ``from``, ``contains``,
``obeys``, ``insert`` and the caret rules of slicing. Anything else raises ValueError. The snapshot lists the elements
that a rule names and those above them; what it does not list is as in the base definition, as
:mod:`fhir_adapter.validation.profile` reads it.
"""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from fhir_adapter.validation.definitions import Json

_COMMENT: Final = re.compile(r"(?:^|\s)//.*$")
_LONG_TEXT: Final = re.compile(r'"""(?:.|\n)*?"""')
_HEADER: Final = re.compile(
    r"(Profile|Extension|ValueSet|RuleSet|Invariant|Parent|Id|Alias):\s*([^\s(]+)(?:\s*=\s*(\S+))?"
)
_OTHER: Final = re.compile(r"(?:Instance|CodeSystem|Mapping|Logical|Resource):")
_ITEMS: Final = frozenset({"Profile", "Extension", "ValueSet", "RuleSet", "Invariant"})
_TEXT: Final = re.compile(r'(Description|Expression|Severity):\s*(?:"(.*)"|#(\w+))')
_PARAMETER: Final = re.compile(r"{(\w+)}")
_INSERT: Final = re.compile(r"insert (\w+)\((.*)\)")
_CARDINALITY: Final = re.compile(r"(\d*)\.\.(\d+|\*)?(?=\s|$)")
_CODE: Final = re.compile(r"([^\s#]*)#(\S+)")
_STEP: Final = re.compile(r"([A-Za-z]+(?:\[x\])?)(?:\[([^\]]+)\])?")


@dataclass(kw_only=True)
class _Item:
    """A profile, a value set, a set of rules or an invariant, as its text has it."""

    kind: str
    name: str
    id: str = ""
    parent: str = ""
    rules: list[str] = field(default_factory=list)
    #: Of an invariant.
    texts: dict[str, str] = field(default_factory=dict)
    #: Names of the parameters of a set of rules.
    parameters: tuple[str, ...] = ()


def definitions(text: str, base: Mapping[str, Json], canonical: str) -> list[Json]:
    """Return the profiles and value sets of some text.

    Parameters
    ----------
    text
        FHIR Shorthand.
    base
        Path -> element of the base definitions, such as ``AuditEvent.agent``.
    canonical
        The guide's URL, before ``/StructureDefinition``.

    Raises
    ------
    ValueError
        For a rule that is not known here.
    """
    aliases: dict[str, str] = {}
    items = {item.name: item for item in _items(text, aliases)}
    made: list[Json] = []
    for item in items.values():
        if item.kind == "ValueSet":
            made.append(_value_set(item, aliases, canonical))
        elif item.kind in {"Profile", "Extension"}:
            made.append(_Snapshot(item, items, base, aliases, canonical).definition())
    return made


def _items(text: str, aliases: dict[str, str]) -> Iterator[_Item]:
    item: _Item | None = None
    for line in _LONG_TEXT.sub('""', text).splitlines():
        stripped = _COMMENT.sub("", line).strip()
        header = _HEADER.match(stripped)
        if header and header[1] == "Alias":
            aliases[header[2]] = str(header[3])
        elif header and header[1] in _ITEMS:
            if item:
                yield item
            names = stripped.partition("(")[2].rstrip(")").split(",")
            item = _Item(kind=header[1], name=header[2], parameters=tuple(it.strip() for it in names))
        elif _OTHER.match(stripped):
            if item:
                yield item
            item = None
        elif header and item:
            setattr(item, header[1].lower(), header[2])
        elif item and (texts := _TEXT.match(stripped)):
            item.texts[texts[1]] = texts[2] or texts[3]
        elif item and stripped.startswith("* "):
            item.rules.append(stripped[2:].strip())
        elif item and item.rules and stripped and not re.match(r"[A-Z][a-z]+:", stripped):
            item.rules[-1] += f" {stripped}"
    if item:
        yield item


def _system(name: str, aliases: Mapping[str, str], canonical: str) -> str:
    return name if ":" in name else aliases.get(name, f"{canonical}/CodeSystem/{name}")


def _value_set(item: _Item, aliases: Mapping[str, str], canonical: str) -> Json:
    codes: dict[str, list[str]] = {}
    for rule in item.rules:
        found = _CODE.match(rule)
        if found and not rule.startswith("^"):
            codes.setdefault(_system(found[1], aliases, canonical), []).append(found[2])
    url = f"{canonical}/ValueSet/{item.id or item.name}"
    return {"resourceType": "ValueSet", "url": url, "codes": codes}


class _Snapshot:
    """Applies the rules of a profile, and before them those of its parents."""

    def __init__(
        self,
        item: _Item,
        items: Mapping[str, _Item],
        base: Mapping[str, Json],
        aliases: Mapping[str, str],
        canonical: str,
    ) -> None:
        self._item = item
        self._items = items
        self._base = base
        self._aliases = aliases
        self._canonical = canonical
        self._elements: dict[str, dict[str, Any]] = {}

    def definition(self) -> Json:
        """Return the StructureDefinition."""
        chain = [self._item]
        while chain[0].parent in self._items:
            chain.insert(0, self._items[chain[0].parent])
        kind = "Extension" if self._item.kind == "Extension" else chain[0].parent
        self._elements[kind] = self._of_base(kind, kind)
        for rule in (rule for item in chain for rule in self._rules(item)):
            self._apply(kind, rule)
        url = f"{self._canonical}/StructureDefinition/{self._item.id or self._item.name}"
        if kind == "Extension":
            self._element(kind, "url")["fixedUri"] = url
        return {
            "resourceType": "StructureDefinition",
            "url": url,
            "type": kind,
            "derivation": "constraint",
            "snapshot": {"element": sorted(self._elements.values(), key=lambda it: self._order(it["id"]))},
        }

    def _rules(self, item: _Item) -> Iterator[str]:
        for rule in item.rules:
            insert = _INSERT.match(rule)
            if insert is None:
                yield rule
                continue
            named = self._items[insert[1]]
            values = [it.strip() for it in insert[2].split(",")]
            given = dict(zip(named.parameters, values, strict=True))
            for inner in named.rules:
                yield _filled(inner, given)

    def _order(self, name: str) -> list[str]:
        return name.split(".")

    def _of_base(self, path: str, name: str) -> dict[str, Any]:
        if path not in self._base:
            raise ValueError(f"the base definitions have no element {path}")
        return deepcopy(dict(self._base[path])) | {"id": name}

    def _element(self, kind: str, text: str) -> dict[str, Any]:
        """Return the element of a path such as ``agent[client].who``; those above it are added."""
        name, path = kind, kind
        for step, slice_name in _STEP.findall(text):
            above = self._elements[name]
            name = f"{name}.{step}"
            path = self._path(above, path, step)
            if name not in self._elements:
                self._elements[name] = self._of_base(path, name)
            if slice_name:
                name = f"{name}:{slice_name}"
        return self._elements[name]

    def _path(self, above: Json, path: str, step: str) -> str:
        if f"{path}.{step}" in self._base:
            return f"{path}.{step}"
        return f"{above['type'][0]['code']}.{step}"

    def _apply(self, kind: str, rule: str) -> None:
        text, _, rest = rule.partition(" ")
        rest = rest.strip()
        if rest.startswith("and "):  # several paths and one rule: only flags are given so
            return
        if text.startswith("^") or (rest.startswith("^") and not rest.startswith("^slicing")):
            return
        element = self._element(kind, text)
        if rest.startswith("^slicing."):
            self._slicing(element, rest)
        elif rest.startswith("contains "):
            self._contains(element, rest)
        elif rest.startswith("obeys "):
            self._obey(element, rest.removeprefix("obeys ").strip())
        elif rest.startswith("only "):
            element["type"] = self._types(rest.removeprefix("only "))
        elif rest.startswith("from "):
            self._bind(element, rest)
        elif rest.startswith("= "):
            self._assign(element, rest.removeprefix("= "))
        elif _CARDINALITY.match(rest):
            _bound(element, rest)
        elif rest != "MS":
            raise ValueError(f"this rule of {self._item.name} is not known: {rule}")

    def _slicing(self, element: dict[str, Any], rest: str) -> None:
        name, _, value = rest.removeprefix("^slicing.").partition(" = ")
        slicing = element.setdefault("slicing", {})
        if name == "rules":
            slicing["rules"] = value.strip("#")
        elif name.startswith("discriminator."):
            found = slicing.setdefault("discriminator", [{}])[0]
            found[name.removeprefix("discriminator.")] = value.strip('#"')

    def _contains(self, element: dict[str, Any], rest: str) -> None:
        for part in re.split(r"\s+and\s+", rest.removeprefix("contains ")):
            text, *more = part.split()
            profile, name = (text, more[1]) if more[:1] == ["named"] else ("", text)
            made = deepcopy({key: value for key, value in element.items() if key != "slicing"})
            made |= {"id": f"{element['id']}:{name}", "min": 0}
            if profile:
                made["type"] = [{"code": "Extension", "profile": [self._url(profile)]}]
            _bound(made, next(it for it in more if ".." in it))
            self._elements[made["id"]] = made
        if element["path"].endswith(".extension"):
            element.setdefault("slicing", {"discriminator": [{"type": "value", "path": "url"}], "rules": "open"})

    def _url(self, name: str) -> str:
        item = self._items.get(name)
        own = f"{self._canonical}/StructureDefinition/{item.id or item.name}" if item else ""
        return own or f"http://hl7.org/fhir/StructureDefinition/{name}"

    def _types(self, text: str) -> list[dict[str, Any]]:
        found = []
        for part in re.split(r"\s+or\s+(?![^(]*\))", text.strip()):
            targets = re.match(r"Reference\((.+)\)", part)
            names = re.split(r"\s+or\s+|\s*\|\s*", targets[1]) if targets else []
            found.append(
                {"code": "Reference", "targetProfile": [self._url(it) for it in names]} if names else {"code": part}
            )
        return found

    def _obey(self, element: dict[str, Any], name: str) -> None:
        texts = self._items[name].texts
        rule = {
            "key": name,
            "severity": texts["Severity"],
            "human": texts["Description"],
            "expression": texts["Expression"],
        }
        element["constraint"] = [*element.get("constraint", ()), rule]

    def _bind(self, element: dict[str, Any], rest: str) -> None:
        name, *more = rest.removeprefix("from ").split()
        item = self._items.get(name)
        url = name if ":" in name else f"{self._canonical}/ValueSet/{item.id or item.name}" if item else name
        element["binding"] = {"strength": more[0].strip("()") if more else "required", "valueSet": url}

    def _assign(self, element: dict[str, Any], text: str) -> None:
        exactly = text.endswith("(exactly)")
        kind = element["type"][0]["code"]
        found = _CODE.match(text)
        value: Any
        if found:
            value = {"code": found[2]}
            if found[1]:
                value["system"] = _system(found[1], self._aliases, self._canonical)
            value = {"coding": [value]} if kind == "CodeableConcept" else value["code"] if kind == "code" else value
        elif text.split(maxsplit=1)[0] in {"true", "false"}:
            value = text.startswith("true")
        elif text.startswith('"'):
            value = text.split('"')[1]
        else:
            raise ValueError(f"this value in {self._item.name} is not known: {text}")
        # A code is compared without its display, as the pattern of it says; "exactly" would demand that there is none.
        how = "fixed" if exactly and kind not in {"CodeableConcept", "Coding"} else "pattern"
        element[how + kind[0].upper() + kind[1:]] = value


def _filled(rule: str, given: Mapping[str, str]) -> str:
    return _PARAMETER.sub(lambda it: given[it[1]], rule)


def _bound(element: dict[str, Any], text: str) -> None:
    found = _CARDINALITY.match(text)
    if found is None:
        raise ValueError(f"{text} is no cardinality")
    if found[1]:
        element["min"] = int(found[1])
    if found[2]:
        element["max"] = found[2]
