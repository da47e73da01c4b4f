"""Authorization: one decision point for every interaction of a principal.

Every listener, batch entry, search, console page, command and DICOM operation calls :meth:`Authorizer.require` before
it reads or writes anything. Another policy is another implementation; the callers do not change.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from kernel.errors import Category, Problem
from privacy.principal import Principal


class Interaction(StrEnum):
    """The kinds of interaction; those of FHIR have the codes of R4's restful-interaction."""

    READ = "read"
    VREAD = "vread"
    HISTORY = "history-instance"
    HISTORY_OF_TYPE = "history-type"
    HISTORY_OF_SYSTEM = "history-system"
    SEARCH = "search-type"
    CREATE = "create"
    UPDATE = "update"
    PATCH = "patch"
    DELETE = "delete"
    BUNDLE = "transaction"
    CAPABILITIES = "capabilities"
    VALIDATE = "operation"
    """Ask what is wrong with a resource, a stored one or one that is sent (``$validate``)."""
    EXPORT = "export"
    """Start a bulk export, ask for its status, fetch its files, cancel it."""
    MESSAGE = "message"
    """Send an HL7 v2 message."""
    ECHO = "c-echo"
    STORE = "c-store"
    VIEW = "view"
    """Open a page of the console."""
    INFER = "infer"
    """Describe or call a model (Open Inference Protocol)."""
    OPERATE = "operate"
    """Carry out an operation on the server: stop, activate, replay."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One interaction that a principal requests."""

    interaction: Interaction
    #: FHIR resource type, SOP class, message event, page or operation; empty for the server as a whole.
    target: str = ""
    #: Logical id of the resource, or another identifier of the single target.
    target_id: str = ""
    #: Reference of the patient whose compartment contains the target, where that is known.
    compartment: str = ""


class Authorizer(Protocol):
    """The interface of an authorization policy."""

    def require(self, principal: Principal, request: Request) -> None:
        """Return when the request is allowed; decides from its parameters alone and never waits.

        Parameters
        ----------
        principal
            The authenticated or claimed identity of the caller.
        request
            The requested interaction.

        Raises
        ------
        Problem
            ``forbidden``; its detail names neither the patient nor the rule.
        """
        ...


class LoopbackAuthorizer:
    """The policy of ``AUTH=open``: callers on this machine may do everything, all others nothing."""

    def require(self, principal: Principal, request: Request) -> None:  # noqa: ARG002 - the contract's signature
        """Return when the principal is on this machine; parameters and errors as for :meth:`Authorizer.require`."""
        if not principal.is_local:
            raise Problem(Category.FORBIDDEN, "with AUTH=open this server answers its own machine alone")
