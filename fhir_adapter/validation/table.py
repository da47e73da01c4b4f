"""``tables/r4.json``: the structures of R4 4.0.1 in short, and how they are read.

``structures`` has a line for each structure, and in it the elements that are its own::

    "Observation": {"<": "DomainResource", "!": "obs-6 obs-7", "status": "1..1 code =observation-status",
                    "subject": "0..1 Reference(Device|Group|Location|Patient)",
                    "component": "0..* >Observation.component", "value[x]": "0..1 Quantity CodeableConcept …"}

``<`` is the structure whose elements it has besides, ``!`` its constraints, ``=`` the value set of a required binding,
and ``>`` a structure of its own. An element's own constraint follows it, as ``!org-2``.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

import orjson

from fhir_adapter.validation.records import Constraint, Definitions, Element, Structure

_ABSTRACT: Final = ("Element", "BackboneElement", "Resource", "DomainResource")
_ABOVE: Final = {"BackboneElement": "Element", "DomainResource": "Resource"}
_OF_ABSTRACT: Final = {
    "Element": {"id", "extension"},
    "BackboneElement": {"id", "extension", "modifierExtension"},
    "Resource": {"id", "meta", "implicitRules", "language"},
    "DomainResource": {
        *("id", "meta", "implicitRules", "language"),
        *("text", "contained", "extension", "modifierExtension"),
    },
}


def written(structure: Structure, constraints: Mapping[str, Constraint]) -> dict[str, str]:
    """Return the line of a structure.

    Parameters
    ----------
    structure
        The structure.
    constraints
        All constraints by the name under which they are listed.
    """
    base = _base(structure)
    left_out = _OF_ABSTRACT.get(base, set())
    line = {"<": base} if base else {}
    keys = [
        _listed(constraint, structure.name, constraints)
        for constraint in structure.constraints
        if base != "DomainResource" or not constraint.key.startswith("dom-")
    ]
    line |= {"!": " ".join(keys)} if keys else {}
    for element in structure.elements:
        if element.name not in left_out:
            own = "".join(f" !{_listed(it, structure.name, constraints)}" for it in element.constraints)
            line[element.name] = _element(element) + own
    return line


def _base(structure: Structure) -> str:
    if structure.name in _ABSTRACT:
        return ""
    names = {element.name for element in structure.elements}
    fitting = [name for name in _ABSTRACT if _OF_ABSTRACT[name] <= names]
    return fitting[-1] if fitting else ""


def _listed(constraint: Constraint, structure: str, constraints: Mapping[str, Constraint]) -> str:
    own = f"{constraint.key}@{structure}"
    return own if own in constraints else constraint.key


def _element(element: Element) -> str:
    inner = f"({'|'.join(sorted(element.targets))})" if element.targets else ""
    types = " ".join(code + inner if code == "Reference" else code for code in element.types)
    most = "*" if element.most is None else str(element.most)
    return f"{element.least}..{most} {types}" + (f" ={element.binding}" if element.binding else "")


@cache
def r4() -> Definitions:
    """Return the definitions of R4 4.0.1; read once."""
    content = orjson.loads(files("fhir_adapter.validation").joinpath("tables/r4.json").read_bytes())
    constraints = {
        name: Constraint(key=name.split("@")[0], human=human, expression=expression)
        for name, (human, expression) in content["constraints"].items()
    }
    lines: Mapping[str, Mapping[str, str]] = content["structures"]
    structures = {name: _read(name, lines, constraints) for name in lines}
    quantity = structures["Quantity"]
    # R4, SimpleQuantity: a Quantity without a comparator (sqty-1).
    simple = tuple(element for element in quantity.elements if element.name != "comparator")
    structures["SimpleQuantity"] = Structure(name="SimpleQuantity", elements=simple, constraints=quantity.constraints)
    return Definitions(
        structures=structures,
        resources=frozenset(content["resources"]),
        value_sets={
            name: {system: frozenset(codes) for system, codes in systems.items()}
            for name, systems in content["valueSets"].items()
        },
        choices=_choices(structures),
    )


def _read(name: str, lines: Mapping[str, Mapping[str, str]], constraints: Mapping[str, Constraint]) -> Structure:
    line = lines[name]
    base = _read(line["<"], lines, constraints) if "<" in line else Structure(name="", elements=())
    own = tuple(_parsed(key, text, constraints) for key, text in line.items() if key not in "<!")
    keys = line.get("!", "").split()
    replaced = {element.name for element in own}
    return Structure(
        name=name,
        elements=(*(element for element in base.elements if element.name not in replaced), *own),
        constraints=(*base.constraints, *(constraints[key] for key in keys)),
    )


def _parsed(name: str, text: str, constraints: Mapping[str, Constraint]) -> Element:
    bounds, *parts = text.split(" ")
    least, most = bounds.split("..")
    types, targets, bound, keys = [], frozenset[str](), "", []
    for part in parts:
        if part.startswith("="):
            bound = part[1:]
        elif part.startswith("!"):
            keys.append(part[1:])
        elif part.startswith("Reference("):
            types.append("Reference")
            targets = frozenset(part[10:-1].split("|"))
        else:
            types.append(part)
    return Element(
        name=name,
        least=int(least),
        most=None if most == "*" else int(most),
        repeats=most not in {"0", "1"},
        types=tuple(types),
        targets=targets,
        binding=bound,
        constraints=tuple(constraints[key] for key in keys),
    )


def _choices(structures: Mapping[str, Structure]) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {}
    for structure in structures.values():
        for element in structure.elements:
            if element.name.endswith("[x]"):
                stem = element.name[:-3]
                found.setdefault(stem, set()).update(choice_name(stem, code) for code in element.types)
    return {stem: tuple(sorted(names)) for stem, names in found.items()}


def choice_name(stem: str, code: str) -> str:
    """Return the name of a choice with its type: ``value``, ``Quantity`` -> ``valueQuantity``.

    Parameters
    ----------
    stem
        The element's name without ``[x]``.
    code
        The type.
    """
    name = "Quantity" if code == "SimpleQuantity" else code
    return stem + name[0].upper() + name[1:]
