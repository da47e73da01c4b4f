"""May they: the one decision, asked in one place for whatever a principal wants to do.

Every listener, batch entry, search, console page, command and DICOM operation asks :meth:`Authorizer.require` before
anything is read or written. Another policy is another class here; nobody who asks has to change.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from kernel.errors import Category, Problem
from privacy.principal import Principal


class Interaction(StrEnum):
    """What somebody wants to do; the FHIR ones have the codes of R4's restful-interaction."""

    READ = "read"
    VREAD = "vread"
    HISTORY = "history-instance"
    SEARCH = "search-type"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    BUNDLE = "transaction"
    CAPABILITIES = "capabilities"
    MESSAGE = "message"
    """Send an HL7 v2 message."""
    ECHO = "c-echo"
    STORE = "c-store"
    VIEW = "view"
    """Open a page of the console."""
    OPERATE = "operate"
    """Carry out an operation on the server: stop, activate, replay."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One thing that a principal wants to do."""

    interaction: Interaction
    #: FHIR resource type, SOP class, message event, page or operation; empty for the server as a whole.
    target: str = ""
    #: Logical id of the resource, or whatever names the one thing that is wanted.
    target_id: str = ""
    #: Reference of the patient in whose compartment the search or the resource lies, where that is known.
    compartment: str = ""


class Authorizer(Protocol):
    """Decides."""

    def require(self, principal: Principal, request: Request) -> None:
        """Return when the principal may do it.

        Parameters
        ----------
        principal
            Who acts.
        request
            What they want to do.

        Raises
        ------
        Problem
            ``forbidden``; its detail names neither the patient nor the rule.
        """
        ...


class LoopbackAuthorizer:
    """The policy of ``AUTH=open``: whoever is on this machine may do everything, nobody else anything."""

    def require(self, principal: Principal, request: Request) -> None:  # noqa: ARG002 - the contract's signature
        """Return when the principal is on this machine; raises as :meth:`Authorizer.require` does."""
        if not principal.is_local:
            raise Problem(Category.FORBIDDEN, "with AUTH=open this server answers its own machine alone")
