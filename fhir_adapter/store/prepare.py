"""Prepares changes outside of any transaction (FHIR R4, http.html#transaction).

Parsing, validating and assigning ids takes time and can fail; a transaction should do neither. Resources and Bundles
are therefore converted to :class:`PreparedChanges` first, and only these are written.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from fhir_adapter.store.document import Document
from fhir_adapter.store.problems import Invalid
from fhir_adapter.store.search.query import Query, parse
from fhir_adapter.store.validate import Validator
from kernel.clock import Ids
from kernel.errors import Category, Problem

Method: TypeAlias = Literal["POST", "PUT", "DELETE"]

MOST_ENTRIES: Final = 5000
"""Entries in one Bundle."""
_ORDER: Final[tuple[Method, ...]] = ("DELETE", "POST", "PUT")
"""R4, http.html#trules: the order in which a transaction is processed, whatever the order of its entries."""
_METHODS: Final[Mapping[Any, Method]] = {method: method for method in _ORDER}
RESOURCE_ID: Final = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9\-.]{1,64}")
"""A logical id (R4, datatypes.html#id). ``.`` and ``..`` would be, but no URL can name them (RFC 3986, 5.2.4)."""
_URL: Final = re.compile(
    r"(?P<type>[A-Z][A-Za-z]{1,63})(/(?P<id>[A-Za-z0-9\-.]{1,64})(/_history/(?P<version>[0-9]{1,9}))?)?(\?(?P<query>.*))?"
)
_ETAG: Final = re.compile(r'(?:W/)?"([0-9]{1,9})"')
_REFERENCE_KEYS: Final = frozenset({"reference", "url", "uri", "valueUri", "valueUrl", "valueUuid"})
"""The elements in which temporary references of a transaction are replaced; never identifiers or text."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One change to make."""

    method: Method
    type: str
    #: Logical id of the resource; for a POST the id that it will get.
    id: str
    #: The resource to store; None for a DELETE.
    document: Document | None = None
    #: The version that must be the current one.
    if_match: int | None = None
    #: Create only when this search finds nothing.
    if_none_exist: Query | None = None
    #: The ``fullUrl`` by which other entries of the Bundle refer to it.
    full_url: str = ""
    #: References within the document that only the transaction can resolve.
    unresolved: frozenset[str] = frozenset()

    @property
    def reference(self) -> str:
        """Relative reference, ``Type/id``."""
        return f"{self.type}/{self.id}"


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """A GET entry of a Bundle: a read, a read of one version, or a search."""

    type: str
    #: Logical id; empty for a search.
    id: str
    #: For a read of one version.
    version: int | None
    #: For a search: what follows the question mark, as it was sent.
    query: str
    #: For a search: the parsed query.
    search: Query | None
    full_url: str


@dataclass(frozen=True, kw_only=True)
class PreparedChanges:
    """Validated changes of one transaction."""

    operations: tuple[Operation, ...]
    #: Conditional references (``Patient?identifier=…``) and their parsed searches.
    conditions: Mapping[str, Query] = field(default_factory=dict)

    def in_order(self) -> list[tuple[int, Operation]]:
        """Return the operations with their positions, in the order of processing."""
        return sorted(enumerate(self.operations), key=lambda numbered: _ORDER.index(numbered[1].method))


Entry: TypeAlias = Operation | Lookup | Problem
"""An entry of a Bundle; a Problem is in the position of an entry of a batch that cannot be carried out."""


@dataclass(frozen=True, kw_only=True)
class PreparedBundle:
    """A Bundle of type transaction or batch, parsed and validated."""

    kind: Literal["transaction", "batch"]
    #: In the order of the Bundle.
    entries: tuple[Entry, ...]
    #: The changes of a transaction: its operations in the order of the Bundle; empty for a batch.
    changes: PreparedChanges


def version_of(etag: str | None) -> int | None:
    """Read ``If-Match``; raises ``incorrect`` when it is not a version of this server."""
    if etag is None:
        return None
    match = _ETAG.fullmatch(etag.strip())
    if match is None:
        raise Problem(Category.INCORRECT, 'If-Match must be one ETag such as W/"3"')
    return int(match[1])


def condition(kind: str, query: str) -> Query:
    """Parse the search of a conditional request.

    Parameters
    ----------
    kind
        Resource type.
    query
        The search, with or without the type and the question mark before it.

    Returns
    -------
    Query
        Limited to two matches: more than one is an error in any case.

    Raises
    ------
    Problem
        ``incorrect`` for a search without a parameter, or one that is not served.
    """
    parsed = parse(kind, query.removeprefix("?").removeprefix(f"{kind}?"))
    if not parsed.criteria:
        raise Problem(Category.INCORRECT, "a condition needs at least one search parameter")
    return replace(parsed, count=2)


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
    changed = [operation.reference for operation in operations if operation.method in {"PUT", "DELETE"}]
    if len(set(changed)) != len(changed):
        raise Problem(Category.INCORRECT, "a transaction may not change the same resource twice")


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
            key: names.get(item, item) if type(item) is str and key in _REFERENCE_KEYS else resolved(item, names)
            for key, item in value.items()
        }
    if type(value) is list:
        return [resolved(item, names) for item in value]
    return value


def _unresolved(value: Any, full_urls: frozenset[str]) -> Iterator[str]:
    if type(value) is dict:
        for key, item in value.items():
            if type(item) is str:
                if key in _REFERENCE_KEYS and (item in full_urls or (key == "reference" and _is_open(item))):
                    yield item
            else:
                yield from _unresolved(item, full_urls)
    elif type(value) is list:
        for item in value:
            yield from _unresolved(item, full_urls)


def _is_open(reference: str) -> bool:
    return reference.startswith("urn:uuid:") or ("?" in reference and ":" not in reference.split("?", 1)[0])


def _entry(entry: Any, exact: Any, validator: Validator, ids: Ids) -> Operation | Lookup:
    request = entry.get("request") if isinstance(entry, dict) else None
    method, url = (request.get("method"), request.get("url")) if isinstance(request, dict) else (None, None)
    match = _URL.fullmatch(url) if isinstance(url, str) else None
    if match is None or (method != "GET" and method not in _METHODS):
        raise Problem(Category.INCORRECT, "an entry needs request.method (GET, POST, PUT, DELETE) and request.url")
    if match["type"] not in validator.types:
        raise Problem(Category.UNSUPPORTED, "the resource type is not supported")
    full_url = _text(entry, "fullUrl")
    if method == "GET":
        return _lookup(match, full_url)
    if match["version"] or match["query"] or bool(match["id"]) != (method != "POST"):
        raise Problem(Category.INCORRECT, "request.url does not fit request.method; conditions belong in ifNoneExist")
    if_match = version_of(_text(request, "ifMatch") or None)
    if method == "DELETE":
        return replace(delete(match["type"], match["id"], if_match), full_url=full_url)
    refuse_audit_change(match["type"])
    resource = entry.get("resource")
    if not isinstance(resource, dict):
        raise Problem(Category.INCORRECT, "the entry has no resource")
    document = Document(exact=exact["resource"], plain=resource)
    if method == "PUT":
        return replace(put(match["type"], match["id"], document, validator, if_match=if_match), full_url=full_url)
    unless = _text(request, "ifNoneExist")
    return replace(post(match["type"], document, validator, ids, unless or None), full_url=full_url)


def _lookup(match: re.Match[str], full_url: str) -> Lookup:
    query = match["query"] or ""
    return Lookup(
        type=match["type"],
        id=match["id"] or "",
        version=int(match["version"]) if match["version"] else None,
        query=query,
        search=None if match["id"] else parse(match["type"], query),
        full_url=full_url,
    )


def post(kind: str, document: Document, validator: Validator, ids: Ids, if_none_exist: str | None) -> Operation:
    """Return the operation of a create (R4, http.html#create, #ccreate).

    Parameters
    ----------
    kind
        Resource type in the URL.
    document
        The resource.
    validator
        Validates the resource.
    ids
        Assigns its id.
    if_none_exist
        Search of a conditional create; None for a create without a condition.

    Raises
    ------
    Invalid
        When the resource is not valid R4.
    Problem
        ``incorrect`` for another type than the URL's or a wrong condition; ``unsupported`` for an AuditEvent.
    """
    _check(kind, document, validator)
    unless = condition(kind, if_none_exist) if if_none_exist is not None else None
    return Operation(method="POST", type=kind, id=ids.new(), document=document, if_none_exist=unless)


def put(
    kind: str, resource_id: str, document: Document, validator: Validator, *, if_match: int | None = None
) -> Operation:
    """Return the operation of an update (R4, http.html#update).

    Parameters
    ----------
    kind, resource_id
        Resource type and id in the URL.
    document
        The resource.
    validator
        Validates the resource.
    if_match
        The version that must be the current one.

    Raises
    ------
    Invalid
        When the resource is not valid R4.
    Problem
        ``incorrect`` for another type or id than the URL's; ``unsupported`` for an AuditEvent.
    """
    _check(kind, document, validator)
    if not RESOURCE_ID.fullmatch(resource_id):
        raise Problem(Category.INCORRECT, "no resource may have an id like this")
    if document.id != resource_id:
        raise Problem(Category.INCORRECT, "the resource's id is not the id in the URL")
    return Operation(method="PUT", type=kind, id=resource_id, document=document, if_match=if_match)


def delete(kind: str, resource_id: str, if_match: int | None = None) -> Operation:
    """Return the operation of a delete (R4, http.html#delete).

    Parameters
    ----------
    kind, resource_id
        Resource type and id in the URL.
    if_match
        The version that must be the current one.

    Raises
    ------
    Problem
        ``unsupported`` for an AuditEvent.
    """
    refuse_audit_change(kind)
    return Operation(method="DELETE", type=kind, id=resource_id, if_match=if_match)


def refuse_audit_change(kind: str) -> None:
    """Refuse a change of the audit log, which this server alone writes.

    Raises
    ------
    Problem
        ``unsupported`` for an AuditEvent.
    """
    if kind == "AuditEvent":
        raise Problem(Category.UNSUPPORTED, "audit events are written by this server alone")


def _check(kind: str, document: Document, validator: Validator) -> None:
    refuse_audit_change(kind)
    if document.type != kind:
        raise Problem(Category.INCORRECT, "the resource's type is not the type in the URL")
    validator.check(document)


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
