"""Sets of codes in ``features.yaml``: named once under ``code_sets``, used by several features."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from inference.features.records import CodeSet
from inference.yaml_mapping import YamlMapping
from kernel.errors import Category, Problem

CodeSets: TypeAlias = Mapping[str, Sequence[CodeSet]]
"""Name -> its codes, system by system."""


def code_sets(table: YamlMapping) -> CodeSets:
    """Read the code sets that a file declares.

    Parameters
    ----------
    table
        The whole file.

    Raises
    ------
    Problem
        ``incorrect``, naming the key that is missing, unknown or wrong.
    """
    if not table.has("code_sets"):
        return MappingProxyType({})
    named = table.table("code_sets")
    found: dict[str, Sequence[CodeSet]] = {}
    for name in named.all_keys():
        entries = named.tables(name)
        if not entries:
            raise Problem(Category.INCORRECT, f"{named.place}.{name} must not be empty")
        found[name] = tuple(_entry(entry) for entry in entries)
    return MappingProxyType(found)


def codes_in(table: YamlMapping, sets: CodeSets) -> Sequence[CodeSet]:
    """Return the codes that an entry names, by ``code_set`` or by ``system`` with ``codes`` or ``prefix``.

    Parameters
    ----------
    table
        The entry; its other keys are left for the caller.
    sets
        Those of the file.
    """
    return named_set(table, sets) if table.has("code_set") else (_codes(table),)


def named_set(table: YamlMapping, sets: CodeSets) -> Sequence[CodeSet]:
    """Return the set that ``code_set`` names.

    Parameters
    ----------
    table
        The entry.
    sets
        Those of the file.

    Raises
    ------
    Problem
        ``incorrect`` when the file declares no such set; it names those that it declares.
    """
    name = table.text("code_set")
    if name not in sets:
        declared = f"declared are: {', '.join(sets)}" if sets else "the file declares none"
        raise Problem(Category.INCORRECT, f"{table.place}.code_set: {name} is not under code_sets; {declared}")
    return sets[name]


def _entry(table: YamlMapping) -> CodeSet:
    entry = _codes(table)
    table.done()
    return entry


def _codes(table: YamlMapping) -> CodeSet:
    if table.has("codes") == table.has("prefix"):
        raise Problem(Category.INCORRECT, f"{table.place} must have either codes or prefix")
    system = table.text("system")
    codes, prefixes = _texts(table, "codes"), _texts(table, "prefix")
    return CodeSet(system=system, codes=codes, prefixes=prefixes)


def _texts(table: YamlMapping, key: str) -> tuple[str, ...]:
    if not table.has(key):
        return ()
    texts = table.take(key, list)
    if not texts or not all(isinstance(text, str) and text.strip() == text != "" for text in texts):
        detail = "must be a list of texts with at least one entry; put codes of digits in quotation marks"
        raise Problem(Category.INCORRECT, f"{table.place}.{key} {detail}")
    return tuple(texts)
