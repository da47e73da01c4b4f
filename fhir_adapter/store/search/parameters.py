"""The search parameters of each type, read from ``tables/parameters.json``: HL7's own of R4 4.0.1.

The file holds a line for each type, and in it the parameters by their names. A *branch* is one path to elements of one
type, written ``component/value+Quantity:Quantity``, with a plus sign before the type of a choice; the index knows it by
a number, and parameters that lead to the same elements share it. Between square brackets stands what an element of the
path must have: ``telecom[system=phone]``, ``extension[url=…]``. ``tables/units.json`` holds the units of UCUM that can
be compared. :mod:`fhir_adapter.store.search.compile` writes both files.
"""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal, TypeAlias

import orjson

Kind: TypeAlias = Literal["token", "reference", "date", "string", "uri", "number", "quantity", "composite"]

ID: Final = "_id"
LAST_UPDATED: Final = "_lastUpdated"
TAG: Final = "_tag"
AUDIT_EVENT: Final = "AuditEvent"
_TYPE_OF_CHOICE: Final = re.compile(r"\+\w+")
_OF_AUDIT: Final = frozenset({ID, LAST_UPDATED, TAG, "action", "date", "entity", "patient"})
"""Parameters of the audit log, which has a table of its own."""


@dataclass(frozen=True)
class Branch:
    """The elements of one type at one path."""

    #: Steps from the resource, such as ``component/valueQuantity``.
    path: str
    #: Type of the elements.
    type: str
    #: How the index names it.
    number: int
    #: How the index names the identifiers of its references.
    identifiers: int


@dataclass(frozen=True)
class Component:
    """One component of a composite parameter."""

    kind: Kind
    branches: tuple[Branch, ...]


@dataclass(frozen=True)
class Whole:
    """Where one element must hold all components of a composite parameter."""

    #: Path of the element; empty for the resource itself.
    on: str
    components: tuple[Component, ...]


@dataclass(frozen=True)
class Parameter:
    """One search parameter of one type."""

    #: Name in a query.
    name: str
    #: How its values are indexed and compared.
    kind: Kind
    branches: tuple[Branch, ...] = ()
    #: For a reference: the types that it may name; empty for any.
    targets: tuple[str, ...] = ()
    #: For a reference: whether only those of its targets count.
    restricted: bool = False
    #: For a token: the code system of elements that do not state one.
    system: str = ""
    #: For a composite.
    wholes: tuple[Whole, ...] = ()

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of its branches, each once."""
        return tuple(dict.fromkeys(branch.number for branch in self.branches))


@cache
def of(kind: str) -> Mapping[str, Parameter]:
    """Return the parameters of a type by name; those of every type for one that R4 does not know."""
    table = _table()
    lines = table[kind] if kind in table else {name: it for name, it in table["Basic"].items() if name.startswith("_")}
    wanted = lines if kind != AUDIT_EVENT else {name: it for name, it in lines.items() if name in _OF_AUDIT}
    return {name: _read(kind, name, line) for name, line in wanted.items()}


@cache
def branches_of(kind: str) -> tuple[tuple[Kind, Branch], ...]:
    """Return what is indexed of a type: each branch once, with the kind of its parameters."""
    found: dict[tuple[Kind, Branch], None] = {}
    for parameter in of(kind).values():
        found |= dict.fromkeys((parameter.kind, branch) for branch in parameter.branches)
        for whole in parameter.wholes:
            found |= dict.fromkeys((part.kind, branch) for part in whole.components for branch in part.branches)
    return tuple(found)


def numbers_of(kind: str, name: str) -> tuple[int, ...]:
    """Return how the index names the elements of a parameter.

    Parameters
    ----------
    kind
        Resource type.
    name
        Name of the search parameter.
    """
    return of(kind)[name].numbers


def types() -> tuple[str, ...]:
    """Return the types that the table knows."""
    return tuple(_table())


def content() -> bytes:
    """Return both tables as they are stored: what the index is made by."""
    return _bytes("parameters.json") + _bytes("units.json")


@cache
def units() -> Mapping[str, tuple[str, str, str]]:
    """Return the units of UCUM that can be compared: unit -> factor, unit in base units, and what is added."""
    return {unit: (factor, base, added) for unit, (factor, base, added) in orjson.loads(_bytes("units.json")).items()}


@cache
def _table() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    found: Mapping[str, Mapping[str, Mapping[str, Any]]] = orjson.loads(_bytes("parameters.json"))["types"]
    return found


def _bytes(name: str) -> bytes:
    return files(__package__).joinpath("tables", name).read_bytes()


def _read(kind: str, name: str, line: Mapping[str, Any]) -> Parameter:
    return Parameter(
        name=name,
        kind=line["kind"],
        branches=_branches(kind, line["kind"], line.get("branches", ())),
        targets=tuple(line.get("targets", ())),
        restricted=line.get("restricted", False),
        system=line.get("system", ""),
        wholes=tuple(
            Whole(
                on=base["on"],
                components=tuple(
                    Component(kind=it["kind"], branches=_branches(kind, it["kind"], it["branches"]))
                    for it in base["components"]
                ),
            )
            for base in line.get("bases", ())
        ),
    )


def _branches(kind: str, how: str, texts: Sequence[str]) -> tuple[Branch, ...]:
    """Return the branches of a parameter; the types of one choice have one number: they are looked up together."""
    choices: dict[str, list[str]] = {}
    for text in texts:
        choices.setdefault(_TYPE_OF_CHOICE.sub("+", text.rsplit(":", 1)[0]), []).append(text)
    found = []
    for text in texts:
        path, type_ = text.rsplit(":", 1)
        together = sorted(choices[_TYPE_OF_CHOICE.sub("+", path)])
        name = f"{kind}.{' '.join(together)}"
        plain = path.replace("+", "")
        found.append(Branch(plain, type_, named_number(f"{name}#{how}"), named_number(f"{name}#identifier")))
    return tuple(found)


def named_number(name: str) -> int:
    """Return how the index names something: 31 bits that depend on its name only."""
    return zlib.crc32(name.encode()) & 0x7FFF_FFFF
