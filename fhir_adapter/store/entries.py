"""Reads the Bundles of transactions and batches (FHIR R4, http.html#transaction)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from fhir_adapter.patch.read import patch_of_entry
from fhir_adapter.store import prepare
from fhir_adapter.store.document import Document
from fhir_adapter.store.links import link
from fhir_adapter.store.operations import Entry, Lookup, Method, Operation, PreparedBundle, PreparedChanges
from fhir_adapter.store.problems import Invalid
from fhir_adapter.store.search.parse import parse
from fhir_adapter.store.validate import Validator
from kernel.clock import Ids
from kernel.errors import Category, Problem

MOST_ENTRIES: Final = 5000
"""Entries in one Bundle."""
_READS: Final = frozenset({"GET", "HEAD"})
_METHODS: Final[Mapping[Any, Method]] = {"DELETE": "DELETE", "POST": "POST", "PUT": "PUT", "PATCH": "PATCH"}
_URL: Final = re.compile(
    r"(?P<type>[A-Z][A-Za-z]{1,63})(/(?P<id>[A-Za-z0-9\-.]{1,64})(/_history/(?P<version>[0-9]{1,9}))?)?(\?(?P<query>.*))?"
)


def prepare_bundle(document: Document, validator: Validator, ids: Ids) -> PreparedBundle:
    """Read and validate a transaction or batch Bundle.

    Parameters
    ----------
    document
        The Bundle. The resources of its entries are validated; the Bundle itself is only read.
    validator
        Validates each resource.
    ids
        Assigns an id to each resource that is created.

    Raises
    ------
    Problem
        ``incorrect`` when it is not such a Bundle or, for a transaction, when any entry is wrong.
    """
    bundle = document.plain
    kind = bundle.get("type")
    if document.type != "Bundle" or kind not in {"transaction", "batch"}:
        raise Problem(Category.INCORRECT, "a Bundle of type transaction or batch is expected here")
    entries = bundle.get("entry", [])
    if not isinstance(entries, list) or len(entries) > MOST_ENTRIES:
        raise Problem(Category.INCORRECT, f"a Bundle may hold {MOST_ENTRIES} entries at the most")
    prepared: list[Entry] = []
    for position, entry in enumerate(entries):
        try:
            prepared.append(_entry(entry, document.exact["entry"][position], validator, ids))
        except Problem as problem:
            prepared.append(_positioned(problem, position))
    if kind == "batch":
        return PreparedBundle(kind="batch", entries=tuple(prepared), changes=PreparedChanges(operations=()))
    return _transaction(prepared)


def _transaction(entries: Sequence[Entry]) -> PreparedBundle:
    for entry in entries:
        if isinstance(entry, Problem):
            raise entry
    full_urls = [entry.full_url for entry in entries if not isinstance(entry, Problem) and entry.full_url]
    if len(set(full_urls)) != len(full_urls):
        raise Problem(Category.INCORRECT, "a transaction may not use the same fullUrl twice")
    changes = link([entry for entry in entries if isinstance(entry, Operation)])
    return PreparedBundle(kind="transaction", entries=tuple(entries), changes=changes)


def _entry(entry: Any, exact: Any, validator: Validator, ids: Ids) -> Operation | Lookup:
    request = entry.get("request") if isinstance(entry, dict) else None
    method, url = (request.get("method"), request.get("url")) if isinstance(request, dict) else (None, None)
    match = _URL.fullmatch(url) if isinstance(url, str) else None
    if match is None or not (method in _READS or method in _METHODS):
        raise Problem(Category.INCORRECT, "an entry needs request.method (GET, HEAD, POST, PUT, PATCH, DELETE) and url")
    if match["type"] not in validator.types:
        raise Problem(Category.UNSUPPORTED, "the resource type is not supported")
    if method in _READS:
        return _lookup(match, entry)
    # a change names one resource: by its id or by a condition; a create names none
    named = (match["id"] is not None) + (match["query"] is not None)
    if match["version"] or named != (method != "POST"):
        raise Problem(
            Category.INCORRECT, "request.url does not fit request.method; the condition of a POST is ifNoneExist"
        )
    operation = _change(_METHODS[method], match, _Content(entry, exact), validator, ids)
    return replace(
        operation,
        full_url=_text(entry, "fullUrl"),
        if_match=prepare.version_of(_text(request, "ifMatch") or None),
        only_new=prepare.must_be_new(_text(request, "ifNoneMatch") or None),
    )


class _Content:
    """The resource of an entry, in both views."""

    def __init__(self, entry: Any, exact: Any) -> None:
        self._plain, self._exact = entry.get("resource"), exact
        self.condition = _text(entry["request"], "ifNoneExist") or None

    @property
    def document(self) -> Document:
        if not isinstance(self._plain, dict):
            raise Problem(Category.INCORRECT, "the entry has no resource")
        return Document(exact=self._exact["resource"], plain=self._plain)


def _change(method: Method, match: re.Match[str], content: _Content, validator: Validator, ids: Ids) -> Operation:
    kind, resource_id, query = match["type"], match["id"] or "", match["query"]
    prepare.refuse_audit_change(kind)
    if method == "DELETE":
        return prepare.delete(kind, resource_id) if query is None else prepare.delete_where(kind, query)
    if method == "PATCH":
        return prepare.patch(kind, resource_id, query, patch_of_entry(content.document))
    if method == "POST":
        return prepare.post(kind, content.document, validator, ids, content.condition)
    if query is not None:
        return prepare.put_where(kind, query, content.document, validator, ids)
    return prepare.put(kind, resource_id, content.document, validator)


def _lookup(match: re.Match[str], entry: Any) -> Lookup:
    query, request = match["query"] or "", entry["request"]
    return Lookup(
        type=match["type"],
        id=match["id"] or "",
        version=int(match["version"]) if match["version"] else None,
        query=query,
        search=None if match["id"] else parse(match["type"], query),
        full_url=_text(entry, "fullUrl"),
        if_none_match=_text(request, "ifNoneMatch"),
        if_modified_since=_text(request, "ifModifiedSince"),
        head=request["method"] == "HEAD",
    )


def _text(holder: Any, key: str) -> str:
    value = holder.get(key, "")
    if not isinstance(value, str):
        raise Problem(Category.INCORRECT, f"{key} is not a string")
    return value


def _positioned(problem: Problem, position: int) -> Problem:
    """Add the position of the entry to a problem."""
    where = f"Bundle.entry[{position}]"
    if isinstance(problem, Invalid):
        return Invalid([replace(it, expression=f"{where}.resource{_below(it.expression)}") for it in problem.issues])
    return Problem(problem.category, f"{where}: {problem.detail}", diagnostics=problem.diagnostics)


def _below(expression: str) -> str:
    """Return what follows the resource type in an expression."""
    _, dot, rest = expression.partition(".")
    return dot + rest
