"""What a request or a Bundle asks to be done, prepared outside any transaction (FHIR R4, http.html#transaction).

Parsing, validating and giving out ids takes time and can fail; a transaction should do neither. So a Bundle first
becomes :class:`Operation` records, and only these travel to the database.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from fhir_adapter.store.document import Document
from fhir_adapter.store.problems import Invalid, Issue
from fhir_adapter.store.search.query import Query, parse
from fhir_adapter.store.validate import Validator
from kernel.clock import Ids
from kernel.errors import Category, Problem

Method: TypeAlias = Literal["POST", "PUT", "DELETE", "GET"]

MOST_ENTRIES: Final = 5000
"""Entries in one Bundle."""
_ORDER: Final[tuple[Method, ...]] = ("DELETE", "POST", "PUT", "GET")
"""R4, http.html#trules: the order in which a transaction is processed, whatever the order of its entries."""
_METHODS: Final[Mapping[Any, Method]] = {method: method for method in _ORDER}
_URL: Final = re.compile(
    r"(?P<type>[A-Z][A-Za-z]{1,63})(/(?P<id>[A-Za-z0-9\-.]{1,64})(/_history/(?P<version>[0-9]{1,9}))?)?(\?(?P<query>.*))?"
)
_ETAG: Final = re.compile(r'(?:W/)?"([0-9]{1,9})"')
_REFERENCE_KEYS: Final = frozenset({"reference", "url", "uri", "valueUri", "valueUrl", "valueUuid"})
"""Where a transaction's own names are replaced by what they became; never in identifiers or text."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One thing to do."""

    method: Method
    type: str
    #: The resource; for a POST the id it will get. Empty for a search.
    id: str
    #: What to store.
    document: Document | None = None
    #: The version a change is meant for.
    if_match: int | None = None
    #: Create only when this finds nothing.
    if_none_exist: Query | None = None
    #: What other entries of the Bundle call it.
    full_url: str = ""
    #: For a GET: the version asked for, and the search.
    version: int | None = None
    query: str = ""
    #: References within the document that only the transaction can resolve.
    unresolved: frozenset[str] = frozenset()

    @property
    def reference(self) -> str:
        """Relative reference, ``Type/id``."""
        return f"{self.type}/{self.id}"


@dataclass(frozen=True, kw_only=True)
class PreparedBundle:
    """A Bundle, ready to be carried out."""

    kind: Literal["transaction", "batch"]
    #: In the Bundle's order; a batch holds a Problem in the place of an entry that cannot be carried out.
    entries: tuple[Operation | Problem, ...]
    #: Conditional references (``Patient?identifier=…``) and the search each one stands for.
    conditions: Mapping[str, Query] = field(default_factory=dict)

    def in_order(self) -> list[tuple[int, Operation]]:
        """Return a transaction's operations with their places, in the order of processing."""
        operations = [(place, entry) for place, entry in enumerate(self.entries) if isinstance(entry, Operation)]
        return sorted(operations, key=lambda placed: _ORDER.index(placed[1].method))


def version_of(etag: str | None) -> int | None:
    """Read ``If-Match``; raises ``incorrect`` when it is no version of ours."""
    if etag is None:
        return None
    match = _ETAG.fullmatch(etag.strip())
    if match is None:
        raise Problem(Category.INCORRECT, 'If-Match must be one ETag such as W/"3"')
    return int(match[1])


def condition(kind: str, query: str) -> Query:
    """Understand the search of a conditional request, which must ask for something."""
    parsed = parse(kind, query.removeprefix("?").removeprefix(f"{kind}?"))
    if not parsed.criteria:
        raise Problem(Category.INCORRECT, "a condition needs at least one search parameter")
    return replace(parsed, count=2)


def prepare(document: Document, validator: Validator, ids: Ids) -> PreparedBundle:
    """Make operations of a transaction or batch Bundle.

    Parameters
    ----------
    document
        The Bundle. What its entries hold is validated here; the Bundle itself is only read.
    validator
        Checks each resource.
    ids
        Names what is created.

    Raises
    ------
    Problem
        ``incorrect`` when it is no such Bundle or, for a transaction, when any entry is wrong.
    """
    bundle = document.plain
    kind = bundle.get("type")
    if document.type != "Bundle" or kind not in {"transaction", "batch"}:
        raise Problem(Category.INCORRECT, "a Bundle of type transaction or batch is expected here")
    entries = bundle.get("entry", [])
    if not isinstance(entries, list) or len(entries) > MOST_ENTRIES:
        raise Problem(Category.INCORRECT, f"a Bundle may hold {MOST_ENTRIES} entries at the most")
    operations: list[Operation | Problem] = []
    for place, entry in enumerate(entries):
        try:
            operations.append(_operation(entry, document.exact["entry"][place], validator, ids))
        except Problem as problem:
            operations.append(_placed(problem, place))
    if kind == "batch":
        return PreparedBundle(kind="batch", entries=tuple(operations))
    return _linked([_or_raise(operation) for operation in operations])


def _linked(operations: list[Operation]) -> PreparedBundle:
    """Check a transaction as a whole and find what its entries call each other."""
    changed = [operation.reference for operation in operations if operation.method in {"PUT", "DELETE"}]
    if len(set(changed)) != len(changed):
        raise Problem(Category.INCORRECT, "a transaction may not change the same resource twice")
    names = [operation.full_url for operation in operations if operation.full_url]
    known = frozenset(names)
    if len(known) != len(names):
        raise Problem(Category.INCORRECT, "a transaction may not use the same fullUrl twice")
    conditions: dict[str, Query] = {}
    linked = []
    for operation in operations:
        found = frozenset(_unresolved(operation.document.plain, known)) if operation.document else frozenset()
        for reference in found - known:
            kind, _, query = reference.partition("?")
            if not query:
                raise Problem(Category.INCORRECT, "a reference names no entry of the transaction")
            conditions[reference] = condition(kind, query)
        linked.append(replace(operation, unresolved=found))
    return PreparedBundle(kind="transaction", entries=tuple(linked), conditions=conditions)


def resolved(value: Any, names: Mapping[str, str]) -> Any:
    """Return exact JSON with every reference in ``names`` replaced; what holds none is shared, not copied."""
    if type(value) is dict:
        return {
            key: names.get(item, item) if type(item) is str and key in _REFERENCE_KEYS else resolved(item, names)
            for key, item in value.items()
        }
    if type(value) is list:
        return [resolved(item, names) for item in value]
    return value


def _unresolved(value: Any, known: frozenset[str]) -> Iterator[str]:
    if type(value) is dict:
        for key, item in value.items():
            if type(item) is str:
                if key in _REFERENCE_KEYS and (item in known or (key == "reference" and _is_open(item))):
                    yield item
            else:
                yield from _unresolved(item, known)
    elif type(value) is list:
        for item in value:
            yield from _unresolved(item, known)


def _is_open(reference: str) -> bool:
    return reference.startswith("urn:uuid:") or ("?" in reference and ":" not in reference.split("?", 1)[0])


def _operation(entry: Any, exact: Any, validator: Validator, ids: Ids) -> Operation:
    request = entry.get("request") if isinstance(entry, dict) else None
    method, url = (request.get("method"), request.get("url")) if isinstance(request, dict) else (None, None)
    match = _URL.fullmatch(url) if isinstance(url, str) else None
    if match is None or method not in _METHODS:
        raise Problem(Category.INCORRECT, "an entry needs request.method (GET, POST, PUT, DELETE) and request.url")
    if match["type"] not in validator.types:
        raise Problem(Category.UNSUPPORTED, "the resource type is not supported")
    operation = Operation(
        method=_METHODS[method],
        type=match["type"],
        id=match["id"] or "",
        full_url=_text(entry, "fullUrl"),
        query=match["query"] or "",
    )
    if method == "GET":
        return replace(operation, version=int(match["version"]) if match["version"] else None)
    if match["version"] or operation.query or bool(match["id"]) != (method != "POST"):
        raise Problem(Category.INCORRECT, "request.url does not fit request.method; conditions belong in ifNoneExist")
    refuse_audit_change(operation.type)
    operation = replace(operation, if_match=version_of(_text(request, "ifMatch") or None))
    if method == "DELETE":
        return operation
    resource = entry.get("resource")
    if not isinstance(resource, dict):
        raise Problem(Category.INCORRECT, "the entry has no resource")
    document = Document(exact=exact["resource"], plain=resource)
    if method == "PUT":
        return put(operation.type, operation.id, document, validator, base=operation)
    unless = _text(request, "ifNoneExist")
    return replace(post(operation.type, document, validator, ids, unless or None), full_url=operation.full_url)


def post(kind: str, document: Document, validator: Validator, ids: Ids, if_none_exist: str | None) -> Operation:
    """Make the operation of a create; raises :class:`Invalid` or ``incorrect``."""
    _check(kind, document, validator)
    unless = condition(kind, if_none_exist) if if_none_exist is not None else None
    return Operation(method="POST", type=kind, id=ids.new(), document=document, if_none_exist=unless)


def put(
    kind: str, resource_id: str, document: Document, validator: Validator, *, base: Operation | None = None
) -> Operation:
    """Make the operation of an update; raises :class:`Invalid` or ``incorrect``."""
    _check(kind, document, validator)
    if document.id != resource_id:
        raise Problem(Category.INCORRECT, "the resource's id is not the id in the URL")
    base = base or Operation(method="PUT", type=kind, id=resource_id)
    return replace(base, document=document)


def refuse_audit_change(kind: str) -> None:
    """Raise for a change of the audit log, which nobody may make."""
    if kind == "AuditEvent":
        raise Problem(Category.UNSUPPORTED, "audit events are written by this server alone")


def _check(kind: str, document: Document, validator: Validator) -> None:
    if document.type != kind:
        raise Problem(Category.INCORRECT, "the resource's type is not the type in the URL")
    validator.check(document)


def _text(holder: Any, key: str) -> str:
    value = holder.get(key, "")
    if not isinstance(value, str):
        raise Problem(Category.INCORRECT, f"{key} is not a string")
    return value


def _or_raise(entry: Operation | Problem) -> Operation:
    if isinstance(entry, Problem):
        raise entry
    return entry


def _placed(problem: Problem, place: int) -> Problem:
    """Say which entry a problem belongs to."""
    where = f"Bundle.entry[{place}]"
    if isinstance(problem, Invalid):
        return Invalid(
            [Issue(code=it.code, text=it.text, expression=f"{where}.resource.{it.expression}") for it in problem.issues]
        )
    return Problem(problem.category, f"{where}: {problem.detail}", diagnostics=problem.diagnostics)
