"""Finds, in the commit, what the conditions of changes name: conditional create, update, patch and delete.

The search and the change are one transaction, and two writers with the same condition wait for each other
(:meth:`~kernel.transaction.Transaction.lock`), so that the second one finds what the first one wrote.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from fhir_adapter.store.links import require_distinct
from fhir_adapter.store.operations import Operation
from fhir_adapter.store.problems import PreconditionFailed, TooCostly
from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.query import Query
from fhir_adapter.store.versions import StoredVersion
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.limited import TookLong, limited

MOST_SECONDS: Final = 0.5
"""What the search of one condition may take, while others wait to write."""

Permit: TypeAlias = Callable[[Operation], None]
"""Returns when the change of a resource that a condition named is permitted."""


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """The operations of a transaction, each with the id of its resource."""

    #: Positions and operations, in the order of processing.
    operations: Sequence[tuple[int, Operation]]
    #: What conditional creates found, by position.
    existing: Mapping[int, StoredVersion]
    #: Positions of the conditional deletes that found nothing.
    nothing: frozenset[int]


def lock_names(operations: Sequence[Operation]) -> list[str]:
    """Return the locks by which writers with the same condition wait for each other, always in the same order."""
    return sorted({_name(query) for query in map(_condition, operations) if query is not None})


def resolve(tx: Transaction, operations: Sequence[tuple[int, Operation]], permit: Permit | None) -> Resolved:
    """Search for what the conditions of operations name.

    Parameters
    ----------
    tx
        The transaction, which holds the locks of :func:`lock_names`.
    operations
        Positions and operations, in the order of processing.
    permit
        Is asked about each resource that a condition names; None when everything is permitted.

    Raises
    ------
    PreconditionFailed
        When several resources meet a condition, or two operations have the same one.
    Problem
        ``incorrect`` when two operations name the same resource or an id is not that of the resource found;
        ``not-found`` for a patch of nothing.
    """
    concrete: list[tuple[int, Operation]] = []
    existing: dict[int, StoredVersion] = {}
    nothing: set[int] = set()
    asked: set[str] = set()
    for position, operation in operations:
        query = _condition(operation)
        if query is None:
            concrete.append((position, operation))
            continue
        if _name(query) in asked:
            raise PreconditionFailed("two entries of the transaction have the same condition")
        asked.add(_name(query))
        match = only_match(tx, query)
        if match is not None and operation.method == "POST":
            existing[position] = match
        elif match is None and operation.method == "DELETE":
            nothing.add(position)
        else:
            operation = _named(operation, match)  # noqa: PLW2901 - the same operation, with its id
        if permit is not None and operation.where is not None and match is not None:
            permit(operation)
        concrete.append((position, operation))
    touched = [it.reference for at, it in concrete if it.method != "POST" and at not in nothing]
    require_distinct([*touched, *(f"{it.type}/{it.id}" for it in existing.values())])
    return Resolved(operations=concrete, existing=existing, nothing=frozenset(nothing))


def confirm(tx: Transaction, operations: Sequence[Operation]) -> None:
    """Refuse a transaction that makes what a condition of it says is there once only.

    Parameters
    ----------
    tx
        The transaction, with everything written.
    operations
        Its operations.

    Raises
    ------
    PreconditionFailed
        When several resources meet a condition now.
    """
    for query in map(_condition, operations):
        if query is not None and sum(it.type == query.type and it.document is not None for it in operations) > 1:
            only_match(tx, query)


def only_match(tx: Transaction, query: Query) -> StoredVersion | None:
    """Return the one resource that meets a condition, if any.

    Parameters
    ----------
    tx
        The transaction to search in.
    query
        The condition.

    Raises
    ------
    PreconditionFailed
        When several resources meet it.
    TooCostly
        When it takes longer than :data:`MOST_SECONDS`: others wait for this commit.
    """
    try:
        with limited(tx.connection, MOST_SECONDS):
            matches = find(tx.connection, query).found
    except TookLong as failure:
        raise TooCostly("the search of the condition takes too long; limit it further") from failure
    if len(matches) > 1:
        raise PreconditionFailed("several resources meet the condition")
    return matches[0] if matches else None


def _condition(operation: Operation) -> Query | None:
    return operation.where or operation.if_none_exist


def _name(query: Query) -> str:
    return f"{query.type}?{query.applied}"


def _named(operation: Operation, match: StoredVersion | None) -> Operation:
    """Return a change with the id of the resource that it is made to."""
    if match is None:
        if operation.method == "PATCH":
            raise Problem(Category.NOT_FOUND, "no resource meets the condition")
        # An id that the client gives must be a new one: the resource that has it does not meet the condition.
        return replace(operation, only_new=True) if operation.method == "PUT" else operation
    if operation.has_own_id and operation.id != match.id:
        raise Problem(Category.INCORRECT, "the resource's id is not that of the resource that meets the condition")
    return replace(operation, id=match.id)
