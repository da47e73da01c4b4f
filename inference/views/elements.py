"""Which elements R4 has and of which types they are, as fhirpathpy's tables of the specification say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final

NOTHING: Final = "?"
"""The type of what R4 does not define: nothing is found there."""
UNKNOWN: Final = ""
"""The type of what can be of several types."""

STRINGS: Final = frozenset(
    {"string", "code", "id", "uri", "url", "canonical", "oid", "uuid", "markdown", "base64Binary", "xhtml"}
)
NUMBERS: Final = frozenset({"integer", "decimal", "positiveInt", "unsignedInt"})
TIMES: Final = frozenset({"date", "dateTime", "instant", "time"})
PRIMITIVES: Final = STRINGS | NUMBERS | TIMES | {"boolean"}
_SYSTEM: Final[Mapping[str, str]] = MappingProxyType(
    {
        f"System.{name}": name[0].lower() + name[1:]
        for name in ("String", "Boolean", "Integer", "Decimal", "Date", "DateTime", "Time")
    }
)
_RESOURCES: Final = frozenset({"Resource", "DomainResource"})


@dataclass(frozen=True)
class Child:
    """One name in JSON that an element may have, and its type."""

    name: str
    type: str


def model() -> Mapping[str, Any]:
    """Return fhirpathpy's tables of R4; they take some tens of milliseconds to load."""
    from fhirpathpy.models import models  # noqa: PLC0415 - see above

    tables: Mapping[str, Any] = models["r4"]
    return tables


@cache
def children(type_: str, name: str) -> Sequence[Child]:
    """Return what an element may be called in JSON; several for a choice, none where R4 has no such element.

    Parameters
    ----------
    type_
        A FHIR type, or the path of an element that has children of its own, such as ``Patient.contact``.
    name
        Name of the element, without a type for a choice.
    """
    tables = model()
    path = tables["pathsDefinedElsewhere"].get(f"{type_}.{name}", f"{type_}.{name}")
    types = tables["path2Type"]
    if path in tables["choiceTypePaths"]:
        return tuple(Child(name + kind, types[path + kind]) for kind in tables["choiceTypePaths"][path])
    if path in types:
        return (Child(name, _SYSTEM.get(types[path], types[path])),)
    if path in _parents():
        return (Child(name, path),)
    parent = tables["type2Parent"].get(type_)
    return children(parent, name) if parent else ()


def is_resource(type_: str) -> bool:
    """Return whether R4 has a resource of that name."""
    parents = model()["type2Parent"]
    return type_ not in _RESOURCES and parents.get(type_) in _RESOURCES


@cache
def _parents() -> frozenset[str]:
    """Return the paths that have children."""
    tables = model()
    return frozenset(path.rpartition(".")[0] for table in ("path2Type", "choiceTypePaths") for path in tables[table])
