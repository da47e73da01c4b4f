"""How ``fhir_adapter/store/r4_rules.json`` is derived from HL7's R4 4.0.1 definitions.

Run as a program to write the file again: ``python tests/fhir/r4_rules.py <folder of the definitions> <file>``.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOURCE = "HL7 FHIR R4 4.0.1 StructureDefinitions, ValueSets and CodeSystems (hl7.fhir.r4, CC0)"
#: In R4, but not in the model library's R4B: they cannot be validated, so they are not served.
NOT_IN_MODELS = {
    "EffectEvidenceSynthesis",
    "MedicinalProduct",
    "MedicinalProductAuthorization",
    "MedicinalProductContraindication",
    "MedicinalProductIndication",
    "MedicinalProductIngredient",
    "MedicinalProductInteraction",
    "MedicinalProductManufactured",
    "MedicinalProductPackaged",
    "MedicinalProductPharmaceutical",
    "MedicinalProductUndesirableEffect",
    "RiskEvidenceSynthesis",
    "SubstanceNucleicAcid",
    "SubstancePolymer",
    "SubstanceProtein",
    "SubstanceReferenceInformation",
    "SubstanceSourceMaterial",
    "SubstanceSpecification",
}
NUMBERS = {"integer": "#i", "positiveInt": "#i", "unsignedInt": "#i", "decimal": "#d", "boolean": "#b"}
#: Structures with an invariant of their own, kept although nothing in them needs a rule.
KEPT = {"Period", "Attachment"}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _concepts(concepts: list[dict[str, Any]]) -> Iterator[str]:
    for concept in concepts:
        yield concept["code"]
        yield from _concepts(concept.get("concept", []))


def value_sets(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Return the value sets that can be listed: url -> system -> codes."""
    systems = {c["url"]: c for c in _lines(folder / "required-codesystems.ndjson")}
    listed: dict[str, dict[str, list[str]]] = {}
    for value_set in _lines(folder / "required-valuesets.ndjson"):
        codes: dict[str, list[str]] = {}
        for include in value_set.get("compose", {}).get("include", []):
            system = include.get("system")
            if "filter" in include or "valueSet" in include or system is None:
                break
            if "concept" in include:
                codes.setdefault(system, []).extend(c["code"] for c in include["concept"])
            elif systems.get(system, {}).get("content") == "complete":
                codes.setdefault(system, []).extend(_concepts(systems[system].get("concept", [])))
            else:
                break
        else:
            if codes and sum(map(len, codes.values())) <= 400 and "exclude" not in value_set["compose"]:
                listed[value_set["url"]] = {system: sorted(set(found)) for system, found in codes.items()}
    return listed


def _rule(type_: dict[str, Any], all_types: list[dict[str, Any]], element: dict[str, Any], sets: dict[str, Any]) -> str:
    code = type_["code"]
    binding = element.get("binding", {})
    bound = binding.get("valueSet", "").split("|")[0]
    bound = bound if binding.get("strength") == "required" and bound in sets else ""
    if code == "code":
        return "=" + bound.rsplit("/", 1)[-1] if bound else "#s"
    if code in {"CodeableConcept", "Coding"}:
        return "~" + bound.rsplit("/", 1)[-1] if bound else ">" + code
    if code == "Reference":
        targets = {url.rsplit("/", 1)[-1] for t in all_types if t["code"] == code for url in t.get("targetProfile", [])}
        return "@" + ("" if "Resource" in targets else "|".join(sorted(targets)))
    if code in NUMBERS:
        return NUMBERS[code]
    if code[0].islower():
        return "#s"
    return ">" + code if code not in {"Resource", "Narrative", "Extension"} else ""


def _node(element: dict[str, Any], sets: dict[str, Any]) -> dict[str, str]:
    name = element["path"].rsplit(".", 1)[-1]
    if "contentReference" in element:
        return {name: ">" + element["contentReference"].split("#")[-1]}
    types = element.get("type", [])
    if name.endswith("[x]"):
        stem = name[:-3]
        found = {stem + t["code"][0].upper() + t["code"][1:]: _rule(t, types, element, sets) for t in types}
    elif types and types[0]["code"] in {"BackboneElement", "Element"}:
        found = {name: ">" + element["path"]}
    else:
        found = {name: _rule(types[0], types, element, sets)} if types else {}
    return {key: rule for key, rule in found.items() if rule}


def nodes(folder: Path, sets: dict[str, Any]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Return the concrete resource types and, for each structure, what to check in its elements."""
    types: list[str] = []
    found: dict[str, dict[str, str]] = {}
    for definition in _lines(folder / "structure-definitions.ndjson"):
        if definition["kind"] == "primitive-type" or definition["type"] in NOT_IN_MODELS:
            continue
        if definition["kind"] == "resource" and not definition["abstract"]:
            types.append(definition["type"])
        for element in definition["snapshot"]["element"][1:]:
            parent = element["path"].rsplit(".", 1)[0]
            found.setdefault(parent, {}).update(_node(element, sets))
    return sorted(types), _reachable(sorted(types), _pruned(found))


def _pruned(found: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    while True:
        kept = {
            name: {k: r for k, r in node.items() if r[0] != ">" or r[1:] in KEPT or found.get(r[1:])}
            for name, node in found.items()
            if node or name in KEPT
        }
        if kept == found:
            return kept
        found = kept


def _reachable(types: list[str], found: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    waiting = [*types, "Extension", "Reference", "Narrative", "CodeableConcept", "Coding"]
    kept: dict[str, dict[str, str]] = {}
    while waiting:
        name = waiting.pop()
        if name not in kept and name in found:
            kept[name] = found[name]
            waiting += [rule[1:] for rule in found[name].values() if rule[0] == ">"]
    return dict(sorted(kept.items()))


def rules(folder: Path) -> dict[str, Any]:
    """Return the whole content of the file."""
    sets = value_sets(folder)
    types, structures = nodes(folder, sets)
    used = {rule[1:] for node in structures.values() for rule in node.values() if rule[0] in "=~"}
    by_name = {url.rsplit("/", 1)[-1]: codes for url, codes in sorted(sets.items())}
    return {
        "source": SOURCE,
        "types": types,
        "valueSets": {name: codes for name, codes in by_name.items() if name in used},
        "structures": structures,
    }


def rendered(content: dict[str, Any]) -> str:
    """Return the file's text: one value set or structure a line."""
    parts = [f' "source": {json.dumps(content["source"])}', f' "types": {json.dumps(content["types"])}']
    for key in ("valueSets", "structures"):
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in content[key].items())
        parts.append(f' "{key}": {{\n{lines}\n }}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(rendered(rules(Path(sys.argv[1]))), encoding="utf-8")
