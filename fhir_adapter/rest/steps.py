"""What an interaction is given and what it returns: a call, and a reply that may have to wait for a commit."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from kernel.db import Transaction
from kernel.errors import Problem
from privacy.authorize import Request
from privacy.principal import Principal

Event: TypeAlias = Mapping[str, Any]
"""An AuditEvent."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """The principal of a request, and the base URL of this API for them."""

    principal: Principal
    #: Base URL without a final slash; references and links are made with it.
    base: str
    #: What the principal was permitted before the body of the request was read; it is not decided on again.
    permitted: Request | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer with the fields that HTTP needs."""

    status: int
    #: JSON; empty when there is no content.
    body: bytes = b""
    etag: str | None = None
    last_modified: datetime | None = None
    location: str | None = None
    #: Answers a change, so that ``Prefer`` says what it returns.
    changed: bool = False
    #: Further header fields.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Of the body; FHIR's JSON when empty.
    media_type: str = ""
    #: The body in parts, instead of ``body``: each is made when it is sent.
    content: Iterator[bytes] | None = None
    #: Bytes of ``content``.
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A reply that must wait for a commit."""

    work: Callable[[Transaction], Any]
    #: Makes the reply of what ``work`` returned, or another commit that it must wait for.
    then: Callable[[Any], "Step"]


Step: TypeAlias = Reply | Pending


class Refused(Problem):
    """A request that is not permitted; whoever catches it records ``event`` before the answer is given.

    Parameters
    ----------
    problem
        Why it is not permitted.
    event
        The audit event of the refusal.
    """

    def __init__(self, problem: Problem, event: Event) -> None:
        super().__init__(problem.category, problem.detail, diagnostics=problem.diagnostics)
        self.event = event
