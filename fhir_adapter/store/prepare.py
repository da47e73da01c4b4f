"""Prepares changes outside of any transaction (FHIR R4, http.html).

Parsing, validating and assigning ids takes time and can fail; a transaction should do neither. Resources and Bundles
are therefore converted to :class:`~fhir_adapter.store.operations.PreparedChanges` first, and only these are written.
"""

import re
from dataclasses import replace
from typing import Final

from fhir_adapter.store.document import Document
from fhir_adapter.store.operations import Operation, Patch
from fhir_adapter.store.search.parse import is_of_result, parse
from fhir_adapter.store.search.query import Query
from fhir_adapter.store.validate import Validator
from kernel.clock import Ids
from kernel.errors import Category, Problem

RESOURCE_ID: Final = re.compile(r"(?!\.\.?\Z)[A-Za-z0-9\-.]{1,64}")
"""A logical id (R4, datatypes.html#id). ``.`` and ``..`` would be, but no URL can name them (RFC 3986, 5.2.4)."""
_ETAG: Final = re.compile(r'(?:W/)?"([0-9]{1,9})"')


def version_of(etag: str | None) -> int | None:
    """Read ``If-Match``; raises ``incorrect`` when it is not a version of this server."""
    if etag is None:
        return None
    match = _ETAG.fullmatch(etag.strip())
    if match is None:
        raise Problem(Category.INCORRECT, 'If-Match must be one ETag such as W/"3"')
    return int(match[1])


def must_be_new(etag: str | None) -> bool:
    """Read the ``If-None-Match`` of a change; raises ``incorrect`` for anything but ``*``."""
    if etag is None:
        return False
    if etag.strip() != "*":
        raise Problem(Category.INCORRECT, "If-None-Match of a change may be * alone; If-Match names a version")
    return True


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
        ``incorrect`` for a search without a parameter, with one that is not served, or with one of the result, which
        could hide a match.
    """
    parsed = parse(kind, query.removeprefix("?").removeprefix(f"{kind}?"))
    if not parsed.criteria:
        raise Problem(Category.INCORRECT, "a condition needs at least one search parameter")
    pairs = tuple(pair for pair in parsed.pairs if pair[0] != "_pretty")  # says how the answer is written
    if parsed.after is not None or any(is_of_result(name) for name, _ in pairs):
        raise Problem(Category.INCORRECT, "a condition holds no parameter of the result, such as _count or _include")
    return replace(parsed, count=2, pairs=pairs)


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


def put_where(kind: str, query: str, document: Document, validator: Validator, ids: Ids) -> Operation:
    """Return the operation of a conditional update (R4, http.html#cond-update).

    Parameters
    ----------
    kind
        Resource type in the URL.
    query
        The search that names the resource.
    document
        The resource, with or without an id.
    validator
        Validates the resource.
    ids
        Assigns the id that it gets when the search finds nothing and it has none.

    Raises
    ------
    Invalid
        When the resource is not valid R4.
    Problem
        ``incorrect`` for another type than the URL's or a wrong condition; ``unsupported`` for an AuditEvent.
    """
    _check(kind, document, validator)
    own = document.id
    if own is not None and not RESOURCE_ID.fullmatch(own):
        raise Problem(Category.INCORRECT, "no resource may have an id like this")
    return Operation(
        method="PUT",
        type=kind,
        id=own or ids.new(),
        document=document,
        where=condition(kind, query),
        has_own_id=bool(own),
    )


def delete_where(kind: str, query: str) -> Operation:
    """Return the operation of a conditional delete of one resource (R4, http.html#3.1.0.7.1).

    Parameters
    ----------
    kind, query
        Resource type in the URL, and the search that names the resource.

    Raises
    ------
    Problem
        ``incorrect`` for a wrong condition; ``unsupported`` for an AuditEvent.
    """
    refuse_audit_change(kind)
    return Operation(method="DELETE", type=kind, id="", where=condition(kind, query))


def patch(kind: str, resource_id: str, query: str | None, change: Patch) -> Operation:
    """Return the operation of a patch, conditional when there is a query (R4, http.html#patch).

    Parameters
    ----------
    kind, resource_id
        Resource type and id in the URL; the id is empty for a conditional patch.
    query
        The search that names the resource; None when the id does.
    change
        What the patch does.

    Raises
    ------
    Problem
        ``incorrect`` for a wrong condition; ``unsupported`` for an AuditEvent.
    """
    refuse_audit_change(kind)
    where = condition(kind, query) if query is not None else None
    return Operation(method="PATCH", type=kind, id=resource_id, where=where, patch=change)


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
