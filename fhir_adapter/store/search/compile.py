"""Writes ``tables/parameters.json`` and ``tables/units.json`` from the standards, which are not part of this project.

Run as ``python -m fhir_adapter.store.search.compile SEARCH_PARAMETERS``, with HL7's SearchParameters of R4 4.0.1 as
NDJSON (CC0). The elements' types come from the definitions that the validator is made of. The units are those of the
examples that the Unified Code for Units of Measure publishes, as the library ucumvert ships and reads them.

A parameter's expression is a union of paths. Each path to elements of one type is a *branch*: it is indexed once,
however many parameters use it. :mod:`fhir_adapter.store.search.parameters` describes the file.
"""

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from fhir_adapter.validation.records import Definitions, Element
from fhir_adapter.validation.table import choice_name, r4
from inference.features.ucum import base

SOURCE: Final = "HL7 FHIR R4 4.0.1 SearchParameters (CC0)"
TABLES: Final = Path(__file__).parent / "tables"

LEFT_OUT: Final[Mapping[str, str]] = {
    "_content": "a search of the whole text",
    "_text": "a search of the narrative",
    "_query": "names a search of the server's own",
    "_filter": "a language of its own",
    "near": "distances between places",
}
"""Parameters that are not supported, and what they would need."""
_MOST_TARGETS: Final = 100
SPECIAL: Final = frozenset({"_id", "_lastUpdated"})
"""Parameters that need no index."""

_AS: Final = re.compile(
    r"\((?P<path>[\w.]+) as (?P<type>\w+)\)(?P<rest>(\.\w+)*)|(?P<path2>[\w.]+)\.as\((?P<type2>\w+)\)"
)
_STEP: Final = re.compile(
    r"(?P<name>\w+)(?P<index>\[0\])?"
    r"(?:\('(?P<extension>[^']+)'\))?"
    r"(?:\.where\("
    r"(?:resolve\(\) is (?P<target>\w+)|hasExtension\('(?P<has>[^']+)'\)|(?P<key>\w+)='(?P<value>[^']+)')"
    r"\))?"
    r"(?:\.ofType\((?P<of>\w+)\))?"
)
_WITH_ZERO: Final = {"Cel": ["1", "K", "273.15"], "[degF]": ["0.555555555555556", "K", "255.372222222222"]}
"""Scales with a zero of their own."""
_QUANTITIES: Final = frozenset({"Quantity", "SimpleQuantity", "Age", "Duration", "Count", "Distance", "Money", "Range"})
KINDS: Final[Mapping[str, frozenset[str]]] = {
    "number": frozenset({"decimal", "integer", "positiveInt", "unsignedInt", "Range"}),
    "quantity": _QUANTITIES,
    "date": frozenset({"date", "dateTime", "instant", "Period", "Timing"}),
    "string": frozenset({"string", "markdown", "HumanName", "Address", "code", "Annotation"}),
    "token": frozenset(
        {
            *("code", "id", "boolean", "string", "uri", "Coding", "CodeableConcept", "Identifier", "ContactPoint"),
            "canonical",
        }
    ),
    "reference": frozenset({"Reference", "canonical", "uri", "Resource"}),
    "uri": frozenset({"uri", "url", "canonical", "oid", "uuid"}),
}
"""Kind of parameter -> the types of elements that it can be compared with."""


def parameters(lines: Iterable[Mapping[str, Any]], known: Definitions) -> dict[str, dict[str, Any]]:
    """Return the table: type -> name of a parameter -> its kind, branches, targets and components.

    Parameters
    ----------
    lines
        The SearchParameters.
    known
        Structures of all types.
    """
    wanted = [
        it
        for it in lines
        if it.get("base") and it.get("expression") and it["code"] not in LEFT_OUT and not it["id"].startswith("example")
    ]
    by_url = {it["url"]: it for it in wanted}
    table: dict[str, dict[str, Any]] = {}
    for kind in sorted(known.resources):
        bases = {kind, "Resource", "DomainResource"}
        found: dict[str, Any] = {}
        for definition in wanted:
            if bases.isdisjoint(definition["base"]):
                continue
            line = _line(kind, definition, by_url, known)
            if line is not None:
                found[definition["code"]] = line
        table[kind] = dict(sorted(found.items()))
    return table


def _line(
    kind: str, definition: Mapping[str, Any], by_url: Mapping[str, Any], known: Definitions
) -> dict[str, Any] | None:
    if definition["code"] in SPECIAL:
        return {"kind": definition["type"]}
    if definition["type"] == "composite":
        return _composite(kind, definition, by_url, known)
    branches = list(dict.fromkeys(_branches(kind, definition["expression"], definition["type"], known)))
    if not branches:
        return None
    line: dict[str, Any] = {"kind": definition["type"], "branches": [f"{path}:{type_}" for path, type_, _ in branches]}
    if definition["type"] == "reference":
        restricted = sorted({target for *_, target in branches if target})
        targets = [it for it in definition.get("target", ()) if it in known.resources]
        # A parameter that may name every type lists them all.
        line |= {"targets": restricted or ([] if len(targets) > _MOST_TARGETS else sorted(targets))}
        line |= {"restricted": True} if restricted else {}
    if definition["type"] == "token" and (system := _implied(kind, branches, known)):
        line |= {"system": system}
    return line


def _composite(
    kind: str, definition: Mapping[str, Any], by_url: Mapping[str, Any], known: Definitions
) -> dict[str, Any] | None:
    """Return the components for each element that must hold all of them; the resource itself has an empty path."""
    bases = []
    for part in _union(definition["expression"]):
        root, _, path = part.partition(".")
        if root != kind:
            continue
        components = []
        for component in definition["component"]:
            full = [
                f"{kind}.{expression.removeprefix('%resource.')}"
                if expression.startswith("%resource.")
                else f"{part}.{expression.replace('DateTime', 'dateTime')}"
                for expression in _union(component["expression"])
            ]
            # HL7's definition of DocumentReference.relationship names the two components the wrong way round.
            for of in (by_url[component["definition"]]["type"], "token", "reference"):
                if branches := [it for path in full for it in _branches(kind, path, of, known)]:
                    break
            components.append({"kind": of, "branches": [f"{at}:{type_}" for at, type_, _ in branches]})
        if all(component["branches"] for component in components):
            bases.append({"on": path.replace(".", "/"), "components": components})
    return {"kind": "composite", "bases": bases} if bases else None


def _union(expression: str) -> list[str]:
    return [part.strip() for part in expression.split("|")]


def _branches(kind: str, expression: str, of: str, known: Definitions) -> Iterator[tuple[str, str, str]]:
    """Yield path, type and only target of each element that an expression leads to."""
    if expression == "Patient.deceased.exists() and Patient.deceased != false":
        if kind == "Patient":
            yield "!deceased", "boolean", ""
        return
    for part in _union(expression):
        text = part
        if match := _AS.fullmatch(part):
            text = f"{match['path'] or match['path2']}.ofType({match['type'] or match['type2']}){match['rest'] or ''}"
        root, _, rest = text.partition(".")
        if not rest and root[0].islower():  # HL7's expression of InsurancePlan.name has no type before the element
            root, rest = kind, root
        if root not in {kind, "Resource", "DomainResource"} or not rest:
            continue
        for path, type_, target in _walk(kind, rest, known):
            if type_ in KINDS[of] and not (of == "number" and type_ == "Range"):
                yield path, type_, target


def _walk(structure: str, rest: str, known: Definitions, path: str = "") -> Iterator[tuple[str, str, str]]:
    match = _STEP.match(rest)
    assert match is not None, rest
    below = rest[match.end() :].removeprefix(".")
    if match["extension"]:
        at = f"{path}extension[url={match['extension']}]"
        for element in _element("Extension", "value", known):
            for name, type_ in _choices(element):
                yield f"{at}/{name}", type_, ""
        return
    for element in _element(structure, match["name"], known):
        for name, type_ in _choices(element):
            if match["of"] and type_ != match["of"]:
                continue
            step = name
            if match["key"]:
                step += f"[{match['key']}={match['value']}]"
            if match["has"]:
                step += f"[extension={match['has']}]"
            step += "[0]" if match["index"] else ""
            if below:
                yield from _walk(type_.removeprefix(">"), below, known, f"{path}{step}/")
            else:
                yield path + step, type_, match["target"] or ""


def _element(structure: str, name: str, known: Definitions) -> Iterator[Element]:
    found = known.structures.get(structure)
    for element in found.elements if found else ():
        if element.name.removesuffix("[x]") == name:
            yield element


def _choices(element: Element) -> Iterator[tuple[str, str]]:
    stem = element.name.removesuffix("[x]")
    for type_ in element.types:
        is_choice = stem != element.name
        yield (f"{stem}+{choice_name(stem, type_).removeprefix(stem)}" if is_choice else stem), type_


def _implied(kind: str, branches: Iterable[tuple[str, str, str]], known: Definitions) -> str:
    """Return the code system of a parameter whose elements are codes, and which the elements do not state."""
    systems: set[str] = set()
    for path, type_, _ in branches:
        structure = kind
        element = None
        if type_ != "code":
            return ""
        for name in re.sub(r"\[[^]]*\]|\+\w+", "", path).split("/"):
            element = next(_element(structure, name, known), None)
            structure = element.types[0].removeprefix(">") if element else ""
        bound = known.value_sets.get(element.binding, {}) if element else {}
        systems.update(bound)
    return systems.pop() if len(systems) == 1 else ""


def units() -> dict[str, list[str]]:
    """Return the units of UCUM's examples that can be compared: unit -> factor, unit in base units, and what is added.

    Arbitrary units, such as international ones, can be compared with themselves only and are left out.
    """
    vendor = files("ucumvert").joinpath("vendor")
    essence = ElementTree.fromstring(vendor.joinpath("ucum-essence.xml").read_bytes())  # noqa: S314 - of a package
    arbitrary = [it.get("Code", "") for it in essence.iter() if it.get("isArbitrary") == "yes"]
    found: dict[str, list[str]] = dict(_WITH_ZERO)
    for row in csv.reader(vendor.joinpath("ucum_examples.tsv").read_text().splitlines(), delimiter="\t"):
        for text in row:
            if not any(code in text for code in arbitrary) and (known := base(text)) is not None:
                found.setdefault(text, [str(known[0]), known[1], "0"])
    return dict(sorted(found.items()))


def main(search_parameters: Path) -> None:
    """Write both tables."""
    with search_parameters.open(encoding="utf-8") as file:
        table = parameters([json.loads(line) for line in file], r4())
    content = {"source": SOURCE, "types": table}
    (TABLES / "parameters.json").write_text(json.dumps(content, separators=(",", ":")).replace('},"', '},\n"') + "\n")
    (TABLES / "units.json").write_text(json.dumps(units(), ensure_ascii=False).replace("], ", "],\n") + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
