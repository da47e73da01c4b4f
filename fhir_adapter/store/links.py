"""References between the entries of one transaction, and to what a search finds (FHIR R4, http.html#trules)."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Final

from fhir_adapter.store.operations import Operation, PreparedChanges
from fhir_adapter.store.prepare import condition
from fhir_adapter.store.search.query import Query
from fhir_adapter.validation.objects import names_of
from fhir_adapter.validation.table import r4
from kernel.errors import Category, Problem

_LINKED: Final = re.compile(r"""((?:href|src)\s*=\s*["'])([^"']*)(["'])""")
_TYPES: Final = frozenset({"uri", "url", "uuid", "oid", "canonical"})


@cache
def _reference_keys() -> frozenset[str]:
    """Return the elements in which temporary references are replaced: ``reference``, and all that are only ever URIs.

    A name that is a text or a code elsewhere in R4 is not one of them; ``url`` and ``uri`` always are.
    """
    types: dict[str, set[str]] = {}
    for structure in r4().structures.values():
        for element in structure.elements:
            for name, code in names_of(element):
                types.setdefault(name, set()).add(code)
    primitives = {name: {code for code in codes if code[:1].islower()} for name, codes in types.items()}
    found = {name for name, codes in primitives.items() if codes and codes <= _TYPES}
    return frozenset({"reference", "url", "uri", *found})


def link(operations: Sequence[Operation]) -> PreparedChanges:
    """Check the operations of one transaction together and find the references between them.

    Parameters
    ----------
    operations
        The operations, each validated.

    Raises
    ------
    Problem
        ``incorrect`` when a resource is changed twice or a reference names no operation.
    """
    _check_distinct(operations)
    full_urls = frozenset(operation.full_url for operation in operations if operation.full_url)
    conditions: dict[str, Query] = {}
    linked = []
    for operation in operations:
        plain = operation.document.plain if operation.document else {}
        unresolved = frozenset(_unresolved(plain, full_urls))
        for reference in unresolved - full_urls:
            kind, _, query = reference.partition("?")
            if not query:
                raise Problem(Category.INCORRECT, "a reference names no entry of the transaction")
            conditions[reference] = condition(kind, query)
        linked.append(replace(operation, unresolved=unresolved) if unresolved else operation)
    return PreparedChanges(operations=tuple(linked), conditions=conditions)


def as_they_are(operations: Sequence[Operation]) -> PreparedChanges:
    """Check the operations of one transaction together and leave their references as they are.

    For resources under their own ids. A stored resource may hold a reference that only a transaction would resolve, and
    a change of another member of it must not fail for that.

    Parameters
    ----------
    operations
        The operations, each validated.

    Raises
    ------
    Problem
        ``incorrect`` when a resource is changed twice.
    """
    _check_distinct(operations)
    return PreparedChanges(operations=tuple(operations))


def _check_distinct(operations: Sequence[Operation]) -> None:
    require_distinct(it.reference for it in operations if it.method != "POST" and it.where is None)


def require_distinct(references: Iterable[str]) -> None:
    """Return when no resource is named twice; raises ``incorrect`` otherwise (R4, http.html#trules)."""
    named = list(references)
    if len(set(named)) != len(named):
        raise Problem(Category.INCORRECT, "a transaction may not name the same resource twice")


def resolved(value: Any, names: Mapping[str, str]) -> Any:
    """Replace references in exact JSON.

    Parameters
    ----------
    value
        Exact JSON; not changed.
    names
        Reference as it was sent to reference as it is stored.

    Returns
    -------
    Any
        A copy with every reference in ``names`` replaced.
    """
    if type(value) is dict:
        return {
            key: _renamed(key, item, names) if type(item) is str else _below(key, item, names)
            for key, item in value.items()
        }
    if type(value) is list:
        return [resolved(item, names) for item in value]
    return value


def _below(key: str, value: Any, names: Mapping[str, str]) -> Any:
    """Replace references in what is no string; a list of strings has the name of one."""
    if type(value) is list:
        return [_renamed(key, it, names) if type(it) is str else resolved(it, names) for it in value]
    return resolved(value, names)


def _renamed(key: str, text: str, names: Mapping[str, str]) -> str:
    if key in _reference_keys():
        return names.get(text, text)
    if key == "div":  # links and images of a narrative
        return _LINKED.sub(lambda found: f"{found[1]}{names.get(found[2], found[2])}{found[3]}", text)
    return text


def _unresolved(value: Any, full_urls: frozenset[str]) -> Iterator[str]:
    if type(value) is dict:
        for key, item in value.items():
            if type(item) is str:
                if key in _reference_keys():
                    if item in full_urls or (key == "reference" and _is_open(item)):
                        yield item
                elif key == "div" and full_urls:
                    yield from (found[2] for found in _LINKED.finditer(item) if found[2] in full_urls)
            else:
                if type(item) is list and key in _reference_keys():
                    yield from (it for it in item if type(it) is str and it in full_urls)
                yield from _unresolved(item, full_urls)
    elif type(value) is list:
        for item in value:
            yield from _unresolved(item, full_urls)


def _is_open(reference: str) -> bool:
    return reference.startswith("urn:uuid:") or ("?" in reference and ":" not in reference.split("?", 1)[0])
