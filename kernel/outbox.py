"""Deliveries: per destination, in order, at least once, with an idempotency key.

A delivery is a row of the same commit as the result it carries. One waiting ``deliver`` job per destination (written
here, in that commit) sends its rows in order. While a destination cannot be reached its rows wait. A row that it
refuses permanently is parked where a person sees it, and the next rows are sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from kernel.blobs import Blobs, Cipher
from kernel.clock import Clock, Ids
from kernel.db import Transaction
from kernel.errors import Problem
from kernel.jobs import Jobs
from kernel.tables import outbox

STEP: Final = "deliver"
"""The job step that drains a destination (``service.delivery``)."""

LARGEST_IN_ROW: Final = 256 * 1024
"""In bytes; a larger payload is stored as a blob, so that rows stay small."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One payload for one destination."""

    destination: str
    idempotency_key: str
    subject: str
    """What it is about: a result's id, or ``kind:id`` of anything else."""
    patient: str | None
    """Reference of the patient whose data it discloses, for the audit."""
    payload: bytes
    payload_blob: str | None = None
    """Blob address of the payload, in its place (:meth:`Outbox.prepare`)."""


@dataclass(frozen=True, kw_only=True)
class QueuedDelivery:
    """A row of the outbox."""

    seq: int
    id: str
    destination: str
    idempotency_key: str
    subject: str
    patient: str | None
    status: str
    attempts: int
    receipt: str | None
    problem: str | None
    changed_at: datetime


_WITH_KEY: Final = select(outbox.c.id).where(
    outbox.c.destination == bindparam("for_destination"), outbox.c.idempotency_key == bindparam("key")
)
_INSERT: Final = insert(outbox)


class Outbox:
    """The table of deliveries.

    Parameters
    ----------
    clock, ids
        Sources of time and of identifiers.
    cipher
        Encrypts the payloads.
    jobs
        The job queue that gets the sending job.
    blobs
        Where payloads above :data:`LARGEST_IN_ROW` are kept.
    """

    def __init__(self, clock: Clock, ids: Ids, cipher: Cipher, jobs: Jobs, blobs: Blobs) -> None:
        self._clock = clock
        self._ids = ids
        self._cipher = cipher
        self._jobs = jobs
        self._blobs = blobs

    def prepare(self, delivery: Delivery) -> Delivery:
        """Move a large payload to a blob, durably; called before the transaction, so that the writer waits for no file.

        Raises
        ------
        Problem
            ``unavailable`` when the file system reports an error.
        """
        if len(delivery.payload) <= LARGEST_IN_ROW:
            return delivery
        return replace(delivery, payload=b"", payload_blob=self._blobs.put(delivery.payload))

    def add(self, tx: Transaction, delivery: Delivery) -> None:
        """Queue a delivery in the transaction; one whose idempotency key is already queued for the destination is left.

        Parameters
        ----------
        tx
            The transaction to write in.
        delivery
            What to send, as returned by :meth:`prepare` when it may be large; its ``idempotency_key`` is unique per
            destination.
        """
        parameters = {"for_destination": delivery.destination, "key": delivery.idempotency_key}
        if tx.execute(_WITH_KEY, parameters).first() is not None:
            return
        identifier, now = self._ids.new(), self._clock.now()
        tx.execute(
            _INSERT,
            {
                "id": identifier,
                "destination": delivery.destination,
                "idempotency_key": delivery.idempotency_key,
                "subject": delivery.subject,
                "patient": delivery.patient,
                "payload": self._cipher.seal(delivery.payload, identifier.encode()),
                "payload_blob": delivery.payload_blob,
                "status": "pending",
                "attempts": 0,
                "created_at": now,
                "changed_at": now,
            },
        )
        self.drain(tx, delivery.destination)

    def drain(self, tx: Transaction, destination: str) -> None:
        """Enqueue the job that sends what waits for ``destination``, unless it waits already.

        Parameters
        ----------
        tx
            The transaction to write in.
        destination
            Name of the destination, as in :attr:`Delivery.destination`.
        """
        key = f"{STEP}:{destination}"
        self._jobs.enqueue(tx, STEP, {"destination": destination}, lock=key, queueing_lock=key)

    def pending(self, connection: Connection, destination: str, limit: int = 64) -> list[QueuedDelivery]:
        """Return the deliveries that wait for ``destination``, in the order in which they must arrive.

        Parameters
        ----------
        connection
            A connection to read from.
        destination
            Name of the destination.
        limit
            Largest number of rows to return.
        """
        condition = outbox.c.destination == destination, outbox.c.status == "pending"
        return self._rows(connection, condition, limit)

    def of_subject(self, connection: Connection, subject: str) -> list[QueuedDelivery]:
        """Return the deliveries about ``subject``, in the order in which they were queued; 100 at most.

        Parameters
        ----------
        connection
            A connection to read from.
        subject
            A result's id, or ``kind:id`` of anything else, as in :attr:`Delivery.subject`.
        """
        return self._rows(connection, (outbox.c.subject == subject,), 100)

    def parked(self, connection: Connection) -> list[QueuedDelivery]:
        """Return the deliveries that destinations refused permanently."""
        return self._rows(connection, (outbox.c.status == "parked",), 200)

    def payload(self, connection: Connection, identifier: str) -> bytes:
        """Return the bytes that a delivery sends, decrypted.

        Parameters
        ----------
        connection
            A connection to read from.
        identifier
            ``id`` of a queued delivery; it must exist.
        """
        columns = select(outbox.c.payload, outbox.c.payload_blob).where(outbox.c.id == identifier)
        row = connection.execute(columns).one()
        if row.payload_blob is not None:
            return self._blobs.get(row.payload_blob)
        return self._cipher.open(row.payload, identifier.encode())

    def delivered(self, tx: Transaction, delivery: QueuedDelivery, receipt: str) -> None:
        """Record that the destination has accepted the delivery.

        Parameters
        ----------
        tx
            The transaction to write in.
        delivery
            The row that was sent.
        receipt
            What the destination answered, stored with the row.
        """
        self._change(tx, delivery, status="delivered", receipt=receipt, problem_category=None, problem_detail=None)

    def failed(self, tx: Transaction, delivery: QueuedDelivery, problem: Problem, *, park: bool) -> None:
        """Record that an attempt failed.

        Parameters
        ----------
        tx
            The transaction to write in.
        delivery
            The row that was tried.
        problem
            Why it failed; its category and detail are stored with the row.
        park
            Whether to take the row out of the queue until a person replays it; otherwise it stays pending.
        """
        self._change(
            tx,
            delivery,
            status="parked" if park else "pending",
            problem_category=str(problem.category),
            problem_detail=problem.detail,
        )

    def replay(self, tx: Transaction, identifier: str) -> bool:
        """Queue a parked delivery again; return whether there was one.

        Parameters
        ----------
        tx
            The transaction to write in.
        identifier
            ``id`` of the delivery; one that is not parked is left as it is.
        """
        row = tx.execute(select(outbox).where(outbox.c.id == identifier, outbox.c.status == "parked")).first()
        if row is None:
            return False
        now = self._clock.now()
        tx.execute(update(outbox).where(outbox.c.seq == row.seq), {"status": "pending", "changed_at": now})
        self.drain(tx, row.destination)
        return True

    def counts(self, connection: Connection) -> dict[tuple[str, str], int]:
        """Return how many deliveries there are per destination and status."""
        grouped = select(outbox.c.destination, outbox.c.status, func.count()).group_by(
            outbox.c.destination, outbox.c.status
        )
        return {(row[0], row[1]): row[2] for row in connection.execute(grouped)}

    def _change(self, tx: Transaction, delivery: QueuedDelivery, **values: Any) -> None:
        values |= {"attempts": outbox.c.attempts + 1, "changed_at": self._clock.now()}
        tx.execute(update(outbox).where(outbox.c.seq == delivery.seq).values(**values))

    @staticmethod
    def _rows(connection: Connection, condition: Sequence[Any], limit: int) -> list[QueuedDelivery]:
        rows = connection.execute(select(outbox).where(*condition).order_by(outbox.c.seq).limit(limit))
        return [_queued(row) for row in rows]


def _queued(row: Row[Any]) -> QueuedDelivery:
    return QueuedDelivery(
        seq=row.seq,
        id=row.id,
        destination=row.destination,
        idempotency_key=row.idempotency_key,
        subject=row.subject,
        patient=row.patient,
        status=row.status,
        attempts=row.attempts,
        receipt=row.receipt,
        problem=row.problem_detail,
        changed_at=row.changed_at,
    )
