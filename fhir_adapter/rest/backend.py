"""What all interactions share: the store, the decision on each request, the audit log, and the wait for a commit."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from fhir_adapter.bulk.exports import Exports
from fhir_adapter.rest.steps import Call, Event, Pending, Refused, Reply, Step
from fhir_adapter.store.store import Store
from fhir_adapter.store.write import AuditSink, StoreWriter
from kernel.clock import Clock
from kernel.db import Database, Transaction
from kernel.errors import Problem
from privacy import balp
from privacy.authorize import Authorizer, Request
from privacy.principal import Principal

T = TypeVar("T")


class Backend:
    """The parts of one FHIR API.

    Only :meth:`require` authorizes. Changes go through :class:`~fhir_adapter.store.write.StoreWriter`; an interaction
    that only reads commits its audit event before the answer is given.

    Parameters
    ----------
    database
        The database of the store.
    store
        Reads resources.
    writer
        Writes resources.
    audit
        Records every access.
    authorizer
        Permits or refuses each request.
    clock
        Source of the time of audit events.
    exports
        Bulk exports; without them none is offered.
    """

    def __init__(  # noqa: PLR0913 - wiring hands each component what it needs
        self,
        database: Database,
        store: Store,
        writer: StoreWriter,
        audit: AuditSink,
        authorizer: Authorizer,
        clock: Clock,
        *,
        exports: Exports | None = None,
    ) -> None:
        self.database = database
        self.store = store
        self.writer = writer
        self.clock = clock
        self.exports = exports
        self.types = writer.types
        self._audit = audit
        self._authorizer = authorizer

    def require(self, principal: Principal, request: Request) -> None:
        """Return when the request is permitted; never waits.

        Parameters
        ----------
        principal
            Who makes the request.
        request
            The requested interaction.

        Raises
        ------
        Refused
            With the event that must be recorded.
        """
        try:
            self._authorizer.require(principal, request)
        except Problem as problem:
            raise Refused(problem, balp.refused(principal, request, problem, at=self.clock.now())) from problem

    def complete(self, step: Step) -> Reply:
        """Commit what an interaction returned and return its reply; for threads.

        Parameters
        ----------
        step
            What one of the interactions returned.
        """
        while isinstance(step, Pending):
            step = step.then(self.database.write(step.work))
        return step

    async def complete_async(self, step: Step) -> Reply:
        """Do as :meth:`complete` does, awaited on an event loop.

        Parameters
        ----------
        step
            What one of the interactions returned.
        """
        while isinstance(step, Pending):
            step = step.then(await self.database.write_async(step.work))
        return step

    async def record_async(self, event: Event) -> None:
        """Record an event in the audit log, durably, awaited on an event loop."""
        await self.database.write_async(lambda tx: self._audit.record_all(tx, [event]))

    @property
    def reads_at_once(self) -> bool:
        """Whether a read waits for no other machine: the database is a file."""
        return self.database.is_sqlite

    def briefly(self) -> AbstractContextManager[None]:
        """Limit what an interaction on an event loop reads; as :meth:`kernel.db.Database.briefly`."""
        return self.database.briefly()

    def allow(self, call: Call, request: Request) -> None:
        """Return when a call may make a request: it was permitted before the body was read, or is now.

        Parameters
        ----------
        call
            Who makes the request.
        request
            The requested interaction.

        Raises
        ------
        Refused
            As :meth:`require` does.
        """
        if request != call.permitted:
            self.require(call.principal, request)

    def recorded(self, events: Sequence[Event], reply: Reply) -> Pending:
        """Return the reply of a disclosure, which waits for its audit events.

        Parameters
        ----------
        events
            What the reply discloses.
        reply
            The reply.
        """
        return Pending(work=lambda tx: self._audit.record_all(tx, events), then=lambda _: reply)

    def changing(self, work: Callable[[Transaction], T], event: Event, then: Callable[[T], Reply]) -> Pending:
        """Return the reply to a change that is no resource; its audit event is in the same commit.

        Parameters
        ----------
        work
            Makes the change.
        event
            Records it.
        then
            Makes the reply of what ``work`` returned.
        """

        def recorded(tx: Transaction) -> T:
            made = work(tx)
            self._audit.record_all(tx, [event])
            return made

        return Pending(work=recorded, then=then)

    def record(self, events: Sequence[Event]) -> None:
        """Record events in the audit log, durably."""
        self.database.write(lambda tx: self._audit.record_all(tx, events))
