"""Delivery: sends the rows of the outbox, in order for each patient and destination.

While a destination cannot be reached it is paused and its deliveries wait. A delivery that fails holds the deliveries
of its own patient to that destination, is tried again after longer and longer pauses and is parked in the end, visibly;
then the next one is sent (:mod:`service.delivery_rules`). Each delivery that was accepted is recorded as a disclosure
in the same commit as its receipt.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection

from fhir_adapter.facts import subject as subject_of
from inference.contract import Subject
from kernel import backlog, destination_states, refusals
from kernel.backlog import QueuedDelivery
from kernel.db import Transaction
from kernel.errors import Category, PeerProblem, Problem, as_problem
from kernel.jobs import Job
from kernel.log import get_logger
from kernel.parallel import for_each
from kernel.worker import Commit
from privacy import balp
from privacy.principal import Principal
from service.core import CoreServices
from service.delivery_rules import Attempt, Verdict, judge
from service.destinations import Destination

AT_A_TIME: Final = 16
"""Deliveries of one job, one after the other; a server that stops waits for its running jobs, not for all of them."""

_log = get_logger(__name__)


class DeliveryFlow:
    """Sends what the outbox holds.

    Parameters
    ----------
    core
        The components that every flow uses.
    destinations
        The destinations by name.
    refusals_in_a_row
        For so many patients a destination may say the same before it is taken for its configuration; 0: for any number.
    """

    def __init__(
        self, core: CoreServices, destinations: Mapping[str, Destination], *, refusals_in_a_row: int = 0
    ) -> None:
        self._core = core
        self._destinations = destinations
        self._refusals_in_a_row = refusals_in_a_row

    def deliver(self, job: Job) -> Commit:
        """Send the due deliveries of one destination; the commit enqueues the job for those that are due later.

        Raises
        ------
        Problem
            ``unavailable`` when this server has no destination of that name: the job is tried again.
        """
        name = str(job.payload["destination"])
        destination = self._destinations.get(name)
        if destination is None:
            raise Problem(Category.UNAVAILABLE, f"destination {name} is not configured")
        left = AT_A_TIME * destination.parallel
        while left > 0 and (waiting := self._due(name, left)):
            if not self._send_all(destination, waiting):
                break
            left -= len(waiting)

        def enqueue_next(tx: Transaction) -> None:
            at = backlog.next_attempt(tx.connection, name)
            if at is not None:
                self._core.outbox.drain(tx, name, at)

        return enqueue_next

    def _due(self, name: str, limit: int) -> list[QueuedDelivery]:
        """Return the oldest delivery of each patient; of a destination that has failed since, one to try it with."""
        with self._core.database.read() as connection:
            if self._paused(connection, name):
                return []
            most = 1 if destination_states.pauses(connection, name) else limit
            return backlog.due(connection, name, self._core.clock.now(), most)

    def _send_all(self, destination: Destination, waiting: Sequence[QueuedDelivery]) -> bool:
        """Send deliveries of different patients, as many at a time as it takes; False when it is paused since."""
        stopped = threading.Event()

        def send(delivery: QueuedDelivery) -> None:
            if not stopped.is_set():
                self._send(destination, delivery)
                if self._is_paused(destination.name):
                    stopped.set()

        threads = min(destination.parallel, len(waiting))
        for_each(waiting, send, threads=threads, name=f"deliver-{destination.name}")
        return not stopped.is_set()

    def _is_paused(self, name: str) -> bool:
        with self._core.database.read() as connection:
            return self._paused(connection, name)

    def _paused(self, connection: Connection, name: str) -> bool:
        until = backlog.paused_until(connection, name)
        return until is not None and until > self._core.clock.now()

    def _send(self, destination: Destination, delivery: QueuedDelivery) -> None:
        try:
            payload = self._payload(delivery)
            if payload is None:
                return
            payload = destination.completed(payload, lambda: self._subject(delivery))
            receipt = destination.send(payload, delivery.idempotency_key)
        except Exception as raised:  # noqa: BLE001 - whatever a peer or its library does is this delivery's visible problem
            self._failed(delivery, as_problem(raised))
            return

        def note(tx: Transaction) -> None:
            self._core.outbox.delivered(tx, delivery, receipt)
            self._core.audit.record(tx, self._disclosed(destination, delivery))

        self._core.database.write(note)
        _log.info("delivered", destination=delivery.destination, result=delivery.subject)

    def _payload(self, delivery: QueuedDelivery) -> bytes | None:
        """Return what to send; None when a person or a newer result has decided meanwhile that it is not sent."""
        with self._core.database.read() as connection:
            present = backlog.one(connection, delivery.id)
            if present is None or present.status != "pending":
                return None
            # Only a row that was held or parked can have been overtaken by a newer one.
            overtaken = delivery.next_at is not None and self._core.results.has_newer(
                connection, delivery.subject, delivery.destination, "delivered"
            )
            payload = b"" if overtaken else self._core.outbox.payload(connection, delivery.id)
        if not overtaken and not payload:
            raise Problem(Category.UNSUPPORTED, "there is nothing to send: the result could not be written")
        if not overtaken:
            return payload
        self._core.database.write(lambda tx: self._core.outbox.supersede(tx, delivery.id))
        _log.info("delivery_superseded", destination=delivery.destination, result=delivery.subject)
        return None

    def _subject(self, delivery: QueuedDelivery) -> Subject | None:
        """Return the delivery's patient as stored now."""
        if delivery.patient is None:
            return None
        with self._core.database.read() as connection:
            return subject_of(connection, self._core.store, delivery.patient, self._core.identifier_order)

    def _failed(self, delivery: QueuedDelivery, problem: Problem) -> None:
        verdict = self._core.database.write(lambda tx: self._decide(tx, delivery, problem))
        _log.warning(
            "delivery_failed",
            destination=delivery.destination,
            result=delivery.subject,
            category=str(problem.category),
            detail=problem.detail,
            parked=verdict.park,
            paused=verdict.pause is not None,
        )

    def _decide(self, tx: Transaction, delivery: QueuedDelivery, problem: Problem) -> Verdict:
        """Write what follows from a failure, and return it."""
        outbox, now = self._core.outbox, self._core.clock.now()
        name, patient = delivery.destination, delivery.patient
        was_paused = self._paused(tx.connection, name)  # by another delivery that was on its way at the same time
        attempt = Attempt(
            problem=problem,
            now=now,
            refusals=delivery.refusals,
            failing_patients=backlog.failing_patients(tx.connection, name, besides=patient) + 1,
            pauses=destination_states.pauses(tx.connection, name) - was_paused,
            refused_patients=refusals.refused_patients(tx.connection, name, problem.detail, besides=patient),
            refusals_in_a_row=self._refusals_in_a_row,
        )
        verdict = judge(attempt)
        outbox.failed(tx, delivery, problem, park=verdict.park, pause=verdict.hold, counts=verdict.counts)
        shown = problem
        if verdict.refuses_everybody:
            refusals.wait_again(tx, name, problem.detail, at=now, until=now + verdict.hold)
            shown = Problem(problem.category, f"{problem.detail}, for {self._refusals_in_a_row} patients in a row")
        if isinstance(problem, PeerProblem) and not verdict.park and verdict.pause is None:
            self._make_way(tx, delivery)
        asks = isinstance(problem, PeerProblem) and bool(problem.retry_after)
        if verdict.pause is not None and (asks or not was_paused):
            outbox.pause(tx, name, verdict.pause, shown)
        return verdict

    def _make_way(self, tx: Transaction, delivery: QueuedDelivery) -> None:
        """Give up a result that the destination does not take when a newer one of the same model waits behind it."""
        if self._core.results.has_newer(tx.connection, delivery.subject, delivery.destination, "pending"):
            self._core.outbox.supersede(tx, delivery.id)
            _log.info("delivery_superseded", destination=delivery.destination, result=delivery.subject)

    def _disclosed(self, destination: Destination, delivery: QueuedDelivery) -> balp.Event:
        principal = Principal(client="Ausculta", client_address="", request_id=delivery.id)
        return balp.disclosed(
            principal,
            destination=destination.name,
            destination_address=destination.address,
            entity=_urn(delivery.subject),
            patient=delivery.patient,
            at=self._core.clock.now(),
        )


def _urn(subject: str) -> str:
    """Return the URN of a delivery's subject for audit events; an id without a kind is a result's."""
    return f"urn:ausculta:{subject}" if ":" in subject else f"urn:ausculta:result:{subject}"
