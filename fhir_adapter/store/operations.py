"""What is to be done in one transaction or batch: its changes and its reads, parsed and validated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from fhir_adapter.store.document import Document, Json
from fhir_adapter.store.search.query import Query
from kernel.errors import Problem

Method: TypeAlias = Literal["POST", "PUT", "PATCH", "DELETE"]

ORDER: Final[Mapping[Method, int]] = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2}
"""R4, http.html#trules: the order in which a transaction is processed, whatever the order of its entries."""

Patch: TypeAlias = Callable[[Json], Json]
"""Returns changed content, with exact numbers; raises a Problem when the patch does not fit the content."""


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
    #: Write only when no resource has the id (``If-None-Match: *``).
    only_new: bool = False
    #: Create only when this search finds nothing.
    if_none_exist: Query | None = None
    #: Change the one resource that this search finds; ``id`` is then that of a resource it would create.
    where: Query | None = None
    #: For a conditional update: whether the id is in the resource, rather than one of this server's.
    has_own_id: bool = False
    #: Makes the new content of a PATCH from the stored one.
    patch: Patch | None = None
    #: The ``fullUrl`` by which other entries of the Bundle refer to it.
    full_url: str = ""
    #: References within the document that only the transaction can resolve, each with what it names: the ``fullUrl``
    #: of an entry, or a conditional reference.
    unresolved: Mapping[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """Relative reference, ``Type/id``."""
        return f"{self.type}/{self.id}"


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """A GET or HEAD entry of a Bundle: a read, a read of one version, or a search."""

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
    #: ``ifNoneMatch`` of a read: an ETag that the client has already.
    if_none_match: str = ""
    #: ``ifModifiedSince`` of a read.
    if_modified_since: str = ""
    #: Only the head of the answer.
    head: bool = False


@dataclass(frozen=True, kw_only=True)
class PreparedChanges:
    """Validated changes of one transaction."""

    operations: tuple[Operation, ...]
    #: Conditional references (``Patient?identifier=…``) and their parsed searches.
    conditions: Mapping[str, Query] = field(default_factory=dict)

    def in_order(self) -> list[tuple[int, Operation]]:
        """Return the operations with their positions, in the order of processing."""
        return sorted(enumerate(self.operations), key=lambda numbered: ORDER[numbered[1].method])


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
