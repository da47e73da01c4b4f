"""Finds, in the commit, what the conditions of changes name: conditional create, update, patch and delete.

The search and the change are one transaction, and two writers with the same condition wait for each other
(:meth:`~kernel.transaction.Transaction.lock`), so that the second one finds what the first one wrote.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from fhir_adapter.store.links import require_distinct
from fhir_adapter.store.operations import Operation, PreparedChanges
from fhir_adapter.store.problems import PreconditionFailed, TooCostly
from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.query import Query
from fhir_adapter.store.versions import StoredVersion
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.limited import TookLong, limited

MOST_SECONDS: Final = 0.5
"""What the searches of all conditions of one transaction may take together, while others wait to write."""
_LEAST_SECONDS: Final = 0.001
"""The databases' limit is in milliseconds."""
CLOCKS: Final[Mapping[str, Callable[[], float]]] = {
    "sqlite": time.thread_time,
    "postgresql": lambda: time.monotonic() / 4,
}
"""Dialect -> what the time of searches is measured by: what they compute, not how long a busy machine lets them wait.

PostgreSQL computes elsewhere, so a part of the time that passes counts there.
"""

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


def resolve(searches: "Searches", operations: Sequence[tuple[int, Operation]], permit: Permit | None) -> Resolved:
    """Search for what the conditions of operations name.

    Parameters
    ----------
    searches
        Of the transaction, which holds the locks of :func:`lock_names`.
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
        match = searches.only_match(query)
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


def confirm(searches: "Searches", operations: Sequence[Operation]) -> None:
    """Refuse a transaction that makes what a condition of it says is there once only.

    Parameters
    ----------
    searches
        Of the transaction, with everything written.
    operations
        Its operations.

    Raises
    ------
    PreconditionFailed
        When several resources meet a condition now.
    """
    for query in map(_condition, operations):
        if query is not None and sum(it.type == query.type and it.document is not None for it in operations) > 1:
            searches.only_match(query)


class Searches:
    """Searches for what the conditions of one transaction name, within :data:`MOST_SECONDS` together.

    Parameters
    ----------
    tx
        The transaction to search in.
    """

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._left = MOST_SECONDS

    def only_match(self, query: Query) -> StoredVersion | None:
        """Return the one resource that meets a condition, if any.

        Raises
        ------
        PreconditionFailed
            When several resources meet it.
        TooCostly
            When the conditions take too long: others wait for this commit.
        """
        if self._left < _LEAST_SECONDS:
            raise _too_long()
        connection = self._tx.connection
        clock = CLOCKS[connection.dialect.name]
        began = clock()
        try:
            with limited(connection, self._left):
                matches = find(connection, query).found
        except TookLong as failure:
            raise _too_long() from failure
        self._left -= clock() - began
        if len(matches) > 1:
            raise PreconditionFailed("several resources meet the condition")
        return matches[0] if matches else None

    def names(self, conditions: Mapping[str, Query]) -> dict[str, str]:
        """Return what conditional references name now.

        Raises
        ------
        PreconditionFailed
            When not exactly one resource meets one of them.
        TooCostly
            As :meth:`only_match`.
        """
        names: dict[str, str] = {}
        for text, query in conditions.items():
            match = self.only_match(query)
            if match is None:
                raise PreconditionFailed("a conditional reference must be met by exactly one resource")
            names[text] = _reference(match)
        return names


def ready(waiting: Iterable[tuple[int, Operation]], conditions: Mapping[str, Query]) -> list[tuple[int, Operation]]:
    """Return the operations whose conditional references name no type that another one waits to write.

    Parameters
    ----------
    waiting
        Positions and operations that are not carried out yet.
    conditions
        The conditional references and their searches.
    """
    every = list(waiting)
    types = {it.type for _, it in every}
    free = [(at, it) for at, it in every if not types & {conditions[name].type for name in conditional(it, conditions)}]
    return free or every  # those that wait for one another are carried out together, and confirmed afterwards


def conditional(operation: Operation, conditions: Mapping[str, Query]) -> set[str]:
    """Return the conditional references of an operation.

    Parameters
    ----------
    operation
        The operation.
    conditions
        Those of the transaction.
    """
    return {name for name in operation.unresolved.values() if name in conditions}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The operations of one change, with what was looked up for them."""

    prepared: PreparedChanges
    resolved: Resolved
    #: What stands for a reference in the resources, to the reference; conditional ones once they have been found.
    names: dict[str, str]
    searches: Searches

    def unconditional(self) -> list[tuple[int, Operation]]:
        """Return the operations without conditional references, and those that write no document."""
        conditions, done = self.prepared.conditions, self.resolved.existing
        return [it for it in self.resolved.operations if it[0] in done or not conditional(it[1], conditions)]

    def find_names(self, operations: Iterable[tuple[int, Operation]]) -> None:
        """Find what the conditional references of operations name now."""
        conditions = self.prepared.conditions
        asked = {text for _, operation in operations for text in conditional(operation, conditions)}
        self.names.update(self.searches.names({text: it for text, it in conditions.items() if text in asked}))

    def confirm(self) -> None:
        """Refuse changes that make a condition of theirs name something else.

        Raises
        ------
        PreconditionFailed
            When one does, or when several resources meet it now.
        """
        if len(self.prepared.operations) > 1:
            confirm(self.searches, self.prepared.operations)
        types = {it.type for _, it in self.resolved.operations if conditional(it, self.prepared.conditions)}
        for text, query in self.prepared.conditions.items():
            if text in self.names and (query.type in types or any(_looks_further(name) for name, _ in query.pairs)):
                match = self.searches.only_match(query)
                if match is None or _reference(match) != self.names[text]:
                    raise PreconditionFailed("a conditional reference names another resource after the changes")

    @property
    def touched(self) -> list[tuple[str, str]]:
        """The resources that may exist and are changed."""
        return [
            (operation.type, operation.id)
            for position, operation in self.resolved.operations
            if operation.method != "POST" and position not in self.resolved.nothing
        ]


def planned(tx: Transaction, prepared: PreparedChanges, permit: Permit | None) -> Plan:
    """Search for what the conditions of operations name; parameters and exceptions as for :func:`resolve`.

    Parameters
    ----------
    tx
        The transaction, which holds the locks of :func:`lock_names`.
    prepared
        The operations.
    permit
        As for :func:`resolve`.
    """
    searches = Searches(tx)
    resolved = resolve(searches, prepared.in_order(), permit)
    names = {it.full_url: it.reference for _, it in resolved.operations if it.full_url and it.id}
    names |= {prepared.operations[it].full_url: _reference(found) for it, found in resolved.existing.items()}
    return Plan(prepared=prepared, resolved=resolved, names=names, searches=searches)


def _looks_further(name: str) -> bool:
    """Return whether a parameter is about other resources than those that are searched: a chain or ``_has``."""
    return "." in name or name.startswith("_has:")


def _reference(version: StoredVersion) -> str:
    return f"{version.type}/{version.id}"


def _too_long() -> TooCostly:
    return TooCostly("the searches of the conditions take too long; limit them further, or send fewer at once")


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
