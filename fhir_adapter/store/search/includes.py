"""Resources that are added to the matches of a search (R4, search.html#include)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Integer, bindparam, func, or_, select

from fhir_adapter.store.problems import TooCostly
from fhir_adapter.store.search.conditions import Tag, shown
from fhir_adapter.store.search.parameters import Parameter, of
from fhir_adapter.store.search.paths import at, steps
from fhir_adapter.store.search.query import Inclusion
from fhir_adapter.store.search.values import key_of, local
from fhir_adapter.store.versions import CURRENT, StoredVersion, stored
from kernel.statements import StatementOfMany
from kernel.tables import resource_heads, resource_index, resource_versions

MOST_INCLUDED: Final = 1000
"""Most resources that are added to one page."""
MOST_BYTES: Final = 16 * 2**20
"""Most bytes that they have together; their sizes are known before they are read."""
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
        When more than :data:`MOST_INCLUDED`, or than :data:`MOST_BYTES`, would be added.
    """
    seen = {(it.type, it.id) for it in matches}
    found: list[StoredVersion] = []
    wave, rules, size = list(matches), list(inclusions), 0
    for _ in range(_MOST_ROUNDS):
        heads = [
            it
            for rule in rules
            for it in (_referring if rule.reverse else _referred)(connection, wave, rule, hidden_tag, base)
            if not ((it.type, it.id) in seen or seen.add((it.type, it.id)))  # type: ignore[func-returns-value]
        ]
        size += sum(it.size for it in heads)
        _require_few(len(found) + len(heads), size)
        wave = _contents(connection, heads)
        found += wave
        rules = [rule for rule in inclusions if rule.iterate]
        if not wave or not rules:
            break
    return found


def _require_few(number: int, size: int) -> None:
    if number > MOST_INCLUDED:
        raise TooCostly(f"more than {MOST_INCLUDED} resources would be included; ask for smaller pages by _count")
    if size > MOST_BYTES:
        limit = f"{MOST_BYTES // 2**20} MiB"
        raise TooCostly(f"resources of more than {limit} would be included; ask for smaller pages by _count")


def read_all(connection: Connection, keys: Iterable[Key], hidden_tag: Tag | None = None) -> list[StoredVersion]:
    """Return the current versions of resources that are not deleted.

    Parameters
    ----------
    connection
        Open connection to the database.
    keys
        Types and ids.
    hidden_tag
        System and code: resources with this tag are left out.

    Raises
    ------
    TooCostly
        As :func:`included`.
    """
    heads = [*_heads(connection, keys, hidden_tag)]
    _require_few(len(heads), sum(it.size for it in heads))
    return _contents(connection, heads)


def _heads(connection: Connection, keys: Iterable[Key], hidden_tag: Tag | None) -> Iterator[Any]:
    """Yield type, id, number and size of what is stored and not deleted."""
    by_type: dict[str, dict[str, None]] = {}
    for kind, name in keys:
        by_type.setdefault(kind, {})[name] = None
    for kind, names in by_type.items():
        yield from _named(kind, hidden_tag).run(connection, list(names), {"of_type": kind})


def _contents(connection: Connection, heads: Sequence[Any]) -> list[StoredVersion]:
    """Return the resources of heads, in their order."""
    rows = {row.key: row for row in _WHOLE.run(connection, [it.key for it in heads])}
    return [stored(rows[it.key]) for it in heads if it.key in rows]


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
) -> Iterator[Any]:
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
    return _heads(connection, keys, hidden_tag)


def _referring(
    connection: Connection, wave: Sequence[StoredVersion], rule: Inclusion, hidden_tag: Tag | None, base: str
) -> Iterator[Any]:
    parameter = of(rule.source)[rule.parameter]
    named = [
        key_of(reference)
        for version in wave
        if not rule.target or version.type == rule.target
        if not parameter.restricted or version.type in parameter.targets
        for reference in (f"{version.type}/{version.id}", *([f"{base}/{version.type}/{version.id}"] if base else ()))
    ]
    yield from _naming(rule.source, parameter.numbers, hidden_tag).run(connection, named, {"of_type": rule.source})


_SIZES: Final = CURRENT.with_only_columns(
    resource_heads.c.type,
    resource_heads.c.id,
    resource_heads.c.key,
    func.length(resource_versions.c.content, type_=Integer).label("size"),
)
_WHOLE: Final = StatementOfMany(lambda keys: CURRENT.where(resource_heads.c.key.in_(keys)))


@cache
def _named(kind: str, hidden_tag: Tag | None) -> StatementOfMany:
    heads = resource_heads.c
    return StatementOfMany(
        lambda ids: _SIZES.where(
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
            _SIZES.where(
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
