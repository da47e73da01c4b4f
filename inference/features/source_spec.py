"""The sources of a feature in ``features.yaml``: codes of Observations with a unit, or with accepted answers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from inference.features.analytes import ANALYTES
from inference.features.code_sets import CodeSets, named_set
from inference.features.records import LOINC, Source
from inference.features.units import is_unit
from inference.yaml_mapping import YamlMapping, as_number
from kernel.errors import Category, Problem

STATUSES: Final = ("preliminary", "final", "amended", "corrected")
"""Statuses in which an Observation states something (value set observation-status)."""


def sources_of(table: YamlMapping, sets: CodeSets) -> tuple[Source, ...]:
    """Read ``sources``; an entry that names a code set is one source for each of its codes.

    Parameters
    ----------
    table
        The entry of the feature.
    sets
        The code sets of the file.

    Raises
    ------
    Problem
        ``incorrect``, naming the key that is missing, unknown or wrong.
    """
    return tuple(source for entry in table.tables("sources") for source in _entry(entry, sets))


def check_groups(place: str, sources: Sequence[Source]) -> None:
    """Return when either no source has groups, or all have as many, and of words each one in one group.

    Parameters
    ----------
    place
        Of the feature, for error messages.
    sources
        Its sources.

    Raises
    ------
    Problem
        ``incorrect``, naming the place.
    """
    counts = {None if one.groups is None else len(one.groups) + (not one.answers) for one in sources}
    if len(counts) > 1:
        raise Problem(Category.INCORRECT, f"{place}.sources: same must make as many groups of each source")
    for source in sources:
        words = [word for group in source.groups or () if isinstance(group, frozenset) for word in group]
        expected = set(source.answers.values()) if source.groups is not None else set()
        if len(words) != len(set(words)) or set(words) != expected:
            raise Problem(Category.INCORRECT, f"{place}.sources: same must hold each answer once, and numbers else")


def _entry(table: YamlMapping, sets: CodeSets) -> Sequence[Source]:
    if not table.has("code_set"):
        system = table.text("system") if table.has("system") else LOINC
        return (_source(table, system, table.text("code")),)
    if table.has("code") or table.has("system"):
        raise Problem(Category.INCORRECT, f"{table.place} must have either code or code_set")
    found = named_set(table, sets)
    if any(one.prefixes for one in found):
        raise Problem(Category.INCORRECT, f"{table.place}.code_set: a source needs codes, and the set has a prefix")
    pairs = [(one.system, code) for one in found for code in one.codes]
    first = _source(table, *pairs[0])
    return (first, *(replace(first, system=system, code=code) for system, code in pairs[1:]))


def _source(table: YamlMapping, system: str, code: str) -> Source:
    source = Source(
        system=system,
        code=code,
        unit=table.text("unit") if table.has("unit") else None,
        plausible=table.range("plausible") if table.has("plausible") else None,
        answers=_answers(table.table("answers")) if table.has("answers") else MappingProxyType({}),
        analyte=table.choice("analyte", *ANALYTES) if table.has("analyte") else None,
        groups=_groups(table) if table.has("same") else None,
        statuses=frozenset(table.some_of("status", *STATUSES)) if table.has("status") else frozenset(),
    )
    table.done()
    if (source.unit is None) == (not source.answers):
        raise Problem(Category.INCORRECT, f"{table.place} must have either unit or answers")
    if source.unit is not None and not is_unit(source.unit):
        raise Problem(Category.INCORRECT, f"{table.place}.unit is not a unit of UCUM that can be converted")
    if source.analyte is not None and source.unit is None:
        raise Problem(Category.INCORRECT, f"{table.place}.analyte needs a unit")
    return source


def _groups(table: YamlMapping) -> tuple[frozenset[str] | Decimal, ...]:
    place = f"{table.place}.same"
    groups = table.take("same", list)
    if all(isinstance(group, list) and all(isinstance(word, str) for word in group) for group in groups):
        return tuple(frozenset(group) for group in groups)
    bounds = tuple(as_number(place, bound) for bound in groups)
    if any(upper <= lower for lower, upper in pairwise(bounds)):
        raise Problem(Category.INCORRECT, f"{place} must be given from low to high")
    return bounds


def _answers(table: YamlMapping) -> Mapping[str, str]:
    answers: dict[str, str] = {}
    for word in table.all_keys():
        for spelling in table.texts(word):
            if answers.setdefault(spelling.lower(), word) != word:
                raise Problem(Category.INCORRECT, f"{table.place}: {spelling} is listed twice")
    return MappingProxyType(answers)
