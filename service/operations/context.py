"""What every operation needs: the database, the audit log, and the authorizer."""

from dataclasses import dataclass, field

from inference.model_files import ModelFiles
from inference.remote.permitted import NO_HOSTS, RemoteHosts
from kernel.clock import Clock
from kernel.db import Database, Transaction
from kernel.inbox import Inbox
from kernel.jobs import Jobs
from kernel.outbox import Outbox
from privacy import balp
from privacy.audit import AuditLog
from privacy.authorize import Authorizer, Interaction, Request
from privacy.principal import Principal
from service.identity_holds import IdentityHolds
from service.results import Results


@dataclass(frozen=True, kw_only=True)
class OperationContext:
    """The components that operations use."""

    clock: Clock
    database: Database
    audit: AuditLog
    jobs: Jobs
    outbox: Outbox
    model_files: ModelFiles
    authorizer: Authorizer
    inbox: Inbox
    holds: IdentityHolds
    results: Results = field(default_factory=Results)
    #: Servers that models may call.
    remote_hosts: RemoteHosts = NO_HOSTS

    def authorize(self, principal: Principal, operation: str, target_id: str = "") -> None:
        """Return when the principal may carry out an operation.

        Parameters
        ----------
        principal
            Who acts.
        operation
            Its name, such as ``model-stop``.
        target_id
            The model, job or delivery; empty for all.

        Raises
        ------
        Problem
            ``forbidden``.
        """
        self.authorizer.require(
            principal, Request(interaction=Interaction.OPERATE, target=operation, target_id=target_id)
        )

    def record(self, tx: Transaction, principal: Principal, command: str, entity: str, reason: str = "") -> None:
        """Record an operation in the transaction that carries it out.

        Parameters
        ----------
        tx
            The transaction that carries out the operation.
        principal
            The person or program that gave the command.
        command
            A constant code, such as ``model-stopped``.
        entity
            What it concerned: a reference, or a URN such as ``urn:ausculta:model:news2:1.0.0``.
        reason
            The reason that the principal gave; no PHI.
        """
        at = self.clock.now()
        self.audit.record(tx, balp.administered(principal, command=command, entity=entity, reason=reason, at=at))


def performer(principal: Principal) -> str:
    """Return how a changed row names the principal: the person, where the principal names one, and the client."""
    return f"{principal.user} ({principal.client})" if principal.user else principal.client
