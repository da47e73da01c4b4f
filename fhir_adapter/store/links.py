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
_ROOT: Final = re.compile(r"(https?://.+)/[A-Z][A-Za-z]{1,63}/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?")
_RELATIVE: Final = re.compile(r"[A-Z][A-Za-z]{1,63}/[A-Za-z0-9\-.]{1,64}")
_VERSION: Final = re.compile(r"/_history/[A-Za-z0-9\-.]{1,64}\Z")
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
    full_urls = frozenset(it.full_url for it in operations if it.full_url and (it.method != "DELETE" or not it.where))
    conditions: dict[str, Query] = {}
    linked = []
    for operation in operations:
        plain = operation.document.plain if operation.document else {}
        unresolved = dict(_unresolved(plain, _Named(operation.full_url, full_urls)))
        for reference in unresolved.values():
            if reference in full_urls or reference in conditions:
                continue
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


class _Named:
    """Says which entry of the transaction a reference of one entry names (R4, bundle.html#references)."""

    def __init__(self, full_url: str, full_urls: frozenset[str]) -> None:
        root = _ROOT.fullmatch(full_url)
        self._root = root[1] if root else ""
        self._full_urls = full_urls

    def entry(self, reference: str) -> str:
        """Return the ``fullUrl`` of the entry, empty for none; its version is the one it gets here."""
        if reference in self._full_urls:
            return reference
        url = _VERSION.sub("", reference)
        if self._root and _RELATIVE.fullmatch(url):
            url = f"{self._root}/{url}"
        return url if url in self._full_urls else ""

    def any(self, key: str, reference: str) -> str:
        """Return what the transaction has to resolve for a reference, empty for one that stays as it is."""
        return self.entry(reference) or (reference if key == "reference" and _is_open(reference) else "")


def _unresolved(value: Any, named: _Named) -> Iterator[tuple[str, str]]:
    """Yield each reference that the transaction has to resolve, with what it names."""
    if type(value) is dict:
        for key, item in value.items():
            if type(item) is str:
                if key in _reference_keys():
                    if name := named.any(key, item):
                        yield item, name
                elif key == "div":
                    yield from ((found[2], name) for found in _LINKED.finditer(item) if (name := named.entry(found[2])))
            else:
                if type(item) is list and key in _reference_keys():
                    yield from ((it, name) for it in item if type(it) is str and (name := named.entry(it)))
                yield from _unresolved(item, named)
    elif type(value) is list:
        for item in value:
            yield from _unresolved(item, named)


def _is_open(reference: str) -> bool:
    return reference.startswith("urn:uuid:") or ("?" in reference and ":" not in reference.split("?", 1)[0])
