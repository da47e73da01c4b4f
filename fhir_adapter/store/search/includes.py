"""Resources that are added to the matches of a search (R4, search.html#include)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import orjson
from sqlalchemy import Connection, bindparam, or_, select

from fhir_adapter.store.problems import TooCostly
from fhir_adapter.store.search.conditions import Tag, shown
from fhir_adapter.store.search.parameters import Parameter, of
from fhir_adapter.store.search.paths import at, steps
from fhir_adapter.store.search.query import Inclusion
from fhir_adapter.store.search.values import key_of, local
from fhir_adapter.store.versions import CURRENT, StoredVersion, stored
from kernel.statements import StatementOfMany
from kernel.tables import resource_heads, resource_index

MOST_INCLUDED: Final = 1000
"""Most resources that are added to one page."""
_MOST_ROUNDS: Final = 8
"""Most times that an inclusion is applied to what was included."""

Key = tuple[str, str]
"""Resource type and id."""


def included(
    connection: Connection,
    matches: Sequence[StoredVersion],
    inclusions: Sequence[Inclusion],
    *,
    hidden_tag: Tag | None = None,
    base: str = "",
) -> list[StoredVersion]:
    """Return the resources to add to a page, each once, none that is a match.

    Parameters
    ----------
    connection
        Open connection to the database.
    matches
        The page.
    inclusions
        What to add.
    hidden_tag
        System and code: resources with this tag are left out.
    base
        URL of this API: references that start with it are its own.

    Raises
    ------
    TooCostly
        When more than :data:`MOST_INCLUDED` would be added.
    """
    seen = {(it.type, it.id) for it in matches}
    found: list[StoredVersion] = []
    wave, rules = list(matches), list(inclusions)
    for _ in range(_MOST_ROUNDS):
        wave = [
            it
            for rule in rules
            for it in (_referring if rule.reverse else _referred)(connection, wave, rule, hidden_tag, base)
            if not ((it.type, it.id) in seen or seen.add((it.type, it.id)))  # type: ignore[func-returns-value]
        ]
        found += wave
        if len(found) > MOST_INCLUDED:
            raise TooCostly(f"more than {MOST_INCLUDED} resources would be included; ask for smaller pages by _count")
        rules = [rule for rule in inclusions if rule.iterate]
        if not wave or not rules:
            break
    return found


def read_all(connection: Connection, keys: Iterable[Key], hidden_tag: Tag | None = None) -> Iterator[StoredVersion]:
    """Yield the current versions of resources that are not deleted.

    Parameters
    ----------
    connection
        Open connection to the database.
    keys
        Types and ids.
    hidden_tag
        System and code: resources with this tag are left out.
    """
    by_type: dict[str, dict[str, None]] = {}
    for kind, name in keys:
        by_type.setdefault(kind, {})[name] = None
    for kind, names in by_type.items():
        rows = _named(kind, hidden_tag).run(connection, list(names), {"of_type": kind})
        yield from (stored(row) for row in rows)


def references(resource: Mapping[str, Any], parameters: Iterable[Parameter], base: str = "") -> Iterator[Key]:
    """Yield type and id of what a resource refers to by some parameters.

    Parameters
    ----------
    resource
        Plain JSON.
    parameters
        Those of its type that are references.
    base
        URL of this API.
    """
    for parameter in parameters:
        for branch in parameter.branches:
            for value in at(resource, steps(branch.path)):
                reference = local(value.get("reference", "")) if isinstance(value, dict) else ""
                if base:
                    reference = reference.removeprefix(f"{base}/")
                kind, slash, name = reference.partition("/")
                if (
                    slash
                    and "/" not in name
                    and ":" not in kind
                    and (not parameter.restricted or kind in parameter.targets)
                ):
                    yield kind, name


def _referred(
    connection: Connection, wave: Sequence[StoredVersion], rule: Inclusion, hidden_tag: Tag | None, base: str
) -> Iterator[StoredVersion]:
    parameters = (
        [it for it in of(rule.source).values() if it.kind == "reference"]
        if rule.parameter == "*"
        else [of(rule.source)[rule.parameter]]
    )
    keys = [
        key
        for version in wave
        if version.type == rule.source
        for key in references(orjson.loads(version.content), parameters, base)
        if not rule.target or key[0] == rule.target
    ]
    return read_all(connection, keys, hidden_tag)


def _referring(
    connection: Connection, wave: Sequence[StoredVersion], rule: Inclusion, hidden_tag: Tag | None, base: str
) -> Iterator[StoredVersion]:
    parameter = of(rule.source)[rule.parameter]
    named = [
        key_of(reference)
        for version in wave
        if not rule.target or version.type == rule.target
        if not parameter.restricted or version.type in parameter.targets
        for reference in (f"{version.type}/{version.id}", *([f"{base}/{version.type}/{version.id}"] if base else ()))
    ]
    for row in _naming(rule.source, parameter.numbers, hidden_tag).run(connection, named, {"of_type": rule.source}):
        yield stored(row)


@cache
def _named(kind: str, hidden_tag: Tag | None) -> StatementOfMany:
    heads = resource_heads.c
    return StatementOfMany(
        lambda ids: CURRENT.where(
            heads.type == bindparam("of_type"),
            heads.deleted.is_(False),
            heads.id.in_(ids),
            *shown(kind, resource_heads, hidden_tag),
        )
    )


@cache
def _naming(kind: str, numbers: tuple[int, ...], hidden_tag: Tag | None) -> StatementOfMany:
    heads = resource_heads.c
    rows = resource_index.alias()
    return StatementOfMany(
        lambda values: (
            CURRENT.where(
                heads.type == bindparam("of_type"),
                heads.deleted.is_(False),
                heads.key.in_(
                    select(rows.c.key).where(or_(*(rows.c.param == it for it in numbers)), rows.c.value.in_(values))
                ),
                *shown(kind, resource_heads, hidden_tag),
            )
            .order_by(heads.key)
            .limit(MOST_INCLUDED + 1)
        )
    )
