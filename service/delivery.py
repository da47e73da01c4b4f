"""Delivery: sends the rows of the outbox, per destination and in order.

While a destination cannot be reached its deliveries wait, and each retry comes after a longer pause. A delivery that it
refuses permanently is parked, visibly, and the next one is sent. Each delivery that was accepted is recorded as a
disclosure in the same commit as its receipt.
"""

from collections.abc import Mapping
from typing import Final

from kernel.db import Transaction
from kernel.errors import JOB_DECISION, Category, Decision, Problem, as_problem
from kernel.jobs import FAULTS_BEFORE_PARKING, Job
from kernel.log import get_logger
from kernel.outbox import QueuedDelivery
from kernel.worker import Commit
from privacy import balp
from privacy.principal import Principal
from service.core import CoreServices
from service.destinations import Destination

AT_A_TIME: Final = 16
"""Deliveries of one job: a server that stops waits for its running jobs, not for all pending deliveries."""

_log = get_logger(__name__)


class DeliveryFlow:
    """Sends what the outbox holds.

    Parameters
    ----------
    core
        The components that every flow uses.
    destinations
        The destinations by name.
    """

    def __init__(self, core: CoreServices, destinations: Mapping[str, Destination]) -> None:
        self._core = core
        self._destinations = destinations

    def deliver(self, job: Job) -> Commit:
        """Send the oldest deliveries for one destination, in order; the commit enqueues the next job.

        Raises
        ------
        Problem
            When the destination cannot be reached or is not configured: the job is tried again.
        """
        name = str(job.payload["destination"])
        destination = self._destinations.get(name)
        if destination is None:
            raise Problem(Category.UNAVAILABLE, f"destination {name} is not configured")
        with self._core.database.read() as connection:
            waiting = self._core.outbox.pending(connection, name, limit=AT_A_TIME)
        for delivery in waiting:
            self._send(destination, delivery)

        def enqueue_next(tx: Transaction) -> None:
            if self._core.outbox.pending(tx.connection, name, limit=1):
                self._core.outbox.drain(tx, name)

        return enqueue_next

    def _send(self, destination: Destination, delivery: QueuedDelivery) -> None:
        with self._core.database.read() as connection:
            payload = self._core.outbox.payload(connection, delivery.id)
        try:
            receipt = destination.send(payload, delivery.idempotency_key)
        except Exception as raised:  # noqa: BLE001 - whatever a peer or its library does is this delivery's visible problem
            self._failed(delivery, as_problem(raised))
            return

        def note(tx: Transaction) -> None:
            self._core.outbox.delivered(tx, delivery, receipt)
            self._core.audit.record(tx, self._disclosed(destination, delivery))

        self._core.database.write(note)
        _log.info("delivered", destination=delivery.destination, result=delivery.subject)

    def _failed(self, delivery: QueuedDelivery, problem: Problem) -> None:
        decision = JOB_DECISION[problem.category]
        broken = decision is Decision.RETRY_THEN_PARK and delivery.attempts + 1 >= FAULTS_BEFORE_PARKING
        park = decision is Decision.PARK or broken
        _log.warning(
            "delivery_failed", destination=delivery.destination, result=delivery.subject, failure=problem, parked=park
        )
        self._core.database.write(lambda tx: self._core.outbox.failed(tx, delivery, problem, park=park))
        if not park:
            raise problem

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
