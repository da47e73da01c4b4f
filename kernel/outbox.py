"""Deliveries: in order per patient and destination, at least once, with an idempotency key.

A delivery is a row of the same commit as the result it carries. One waiting ``deliver`` job per destination (written
here, in that commit) sends its rows; :mod:`kernel.backlog` reads which of them are due. While a destination cannot be
reached it is paused and its rows wait. A row that fails holds its own patient's rows until its next attempt. A row
that the destination refuses permanently is parked where a person sees it, with what belongs to it
(:mod:`kernel.together`), and the next rows are sent.

    pending     it waits, or is held until its next attempt
    delivered   the destination accepted it
    parked      a person must decide: replay or dismiss it
    dismissed   a person decided that it is not sent
    superseded  not sent, because a newer result was delivered there before it
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, insert, select, update

from kernel import backlog, destination_states, together
from kernel.backlog import DeliveryFilter, QueuedDelivery
from kernel.blobs import Blobs, Cipher
from kernel.clock import Clock, Ids
from kernel.db import Transaction
from kernel.errors import Problem
from kernel.jobs import Due, Jobs, Priority
from kernel.statements import Statement
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
    failure: Problem | None = None
    """Why there is nothing to send: the row is parked from the beginning, for a person to see."""


_NO_PAUSE: Final = timedelta()
_WITH_KEY: Final = select(outbox.c.id).where(
    outbox.c.destination == bindparam("for_destination"), outbox.c.idempotency_key == bindparam("key")
)
_INSERT: Final = Statement(insert(outbox))


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
            }
            | self._parked(identifier, delivery.failure),
        )
        if delivery.failure is None:
            self.drain(tx, delivery.destination)

    def _parked(self, identifier: str, failure: Problem | None) -> dict[str, Any]:
        """Return the columns of a delivery that cannot be written."""
        if failure is None:
            return {}
        return {
            "status": "parked",
            "problem_category": str(failure.category),
            "problem_detail": failure.detail,
            "problem_diagnostics": self._cipher.seal(failure.diagnostics.encode(), _answer_of(identifier)),
        }

    def drain(self, tx: Transaction, destination: str, at: datetime | None = None) -> None:
        """Enqueue the job that sends what waits for ``destination``; one that waits already is moved forward.

        Parameters
        ----------
        tx
            The transaction to write in.
        destination
            Name of the destination, as in :attr:`Delivery.destination`.
        at
            When; as soon as the destination is not paused when None.
        """
        key = f"{STEP}:{destination}"
        due = Due(at or backlog.paused_until(tx.connection, destination) or self._clock.now(), "earlier")
        payload = {"destination": destination}
        self._jobs.enqueue(
            tx,
            STEP,
            payload,
            lock=key,
            queueing_lock=key,
            due=due,
            priority=Priority.DELIVERY,
        )

    def pending(self, connection: Connection, destination: str, limit: int = 64) -> list[QueuedDelivery]:
        """Return the deliveries that wait for ``destination``, in the order in which they were queued.

        Parameters
        ----------
        connection
            A connection to read from.
        destination
            Name of the destination.
        limit
            Largest number of rows to return.
        """
        return backlog.listing(connection, DeliveryFilter(destination=destination, status="pending"), limit)

    def of_subject(self, connection: Connection, subject: str) -> list[QueuedDelivery]:
        """Return the deliveries of a subject; as :func:`kernel.backlog.of_subject`."""
        return backlog.of_subject(connection, subject)

    def parked(self, connection: Connection) -> list[QueuedDelivery]:
        """Return what waits for a person, the oldest first; 200 at most."""
        return backlog.listing(connection, DeliveryFilter(status="parked"))

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

    def answer(self, connection: Connection, identifier: str) -> str:
        """Return the peer's own words at the last failure, unsealed; empty when it said none.

        Parameters
        ----------
        connection
            A connection to read from.
        identifier
            ``id`` of a queued delivery; it must exist.
        """
        found = select(outbox.c.problem_diagnostics).where(outbox.c.id == identifier)
        sealed = connection.execute(found).scalar_one()
        return "" if sealed is None else self._cipher.open(sealed, _answer_of(identifier)).decode()

    def delivered(self, tx: Transaction, delivery: QueuedDelivery, receipt: str) -> None:
        """Record that the destination has accepted the delivery, whatever was decided about it meanwhile.

        Parameters
        ----------
        tx
            The transaction to write in.
        delivery
            The row that was sent.
        receipt
            What the destination answered, stored with the row.
        """
        now = self._clock.now()
        none = {"problem_category": None, "problem_detail": None, "problem_diagnostics": None}
        values = {"status": "delivered", "receipt": receipt, "attempts": outbox.c.attempts + 1, "changed_at": now}
        tx.execute(update(outbox).where(outbox.c.seq == delivery.seq).values(**values, **none))
        destination_states.accepted(tx, delivery.destination, at=now)

    def failed(
        self,
        tx: Transaction,
        delivery: QueuedDelivery,
        problem: Problem,
        *,
        park: bool,
        pause: timedelta = _NO_PAUSE,
        counts: bool = True,
    ) -> None:
        """Record that an attempt failed; a row that is no longer pending is left as it is.

        Parameters
        ----------
        tx
            The transaction to write in.
        delivery
            The row that was tried.
        problem
            Why it failed; stored with the row, its diagnostics sealed.
        park
            Whether to take the row out of the queue until a person replays it; otherwise it stays pending.
        pause
            How long it is held before the next attempt.
        counts
            Whether the attempt counts towards parking.
        """
        now = self._clock.now()
        values = {
            "status": "parked" if park else "pending",
            "attempts": outbox.c.attempts + 1,
            "refusals": outbox.c.refusals + int(counts),
            "next_at": now + pause,
            "problem_category": str(problem.category),
            "problem_detail": problem.detail,
            "problem_diagnostics": self._cipher.seal(problem.diagnostics.encode(), _answer_of(delivery.id)),
            "changed_at": now,
        }
        mine = outbox.c.seq == delivery.seq, outbox.c.status == "pending"
        if tx.execute(update(outbox).where(*mine).values(**values)).rowcount and park:
            together.park_rest(tx, delivery.id, str(problem.category), at=now)

    def pause(self, tx: Transaction, destination: str, length: timedelta, problem: Problem) -> None:
        """Send nothing to a destination for a while.

        Parameters
        ----------
        tx
            The transaction to write in.
        destination
            Its name.
        length
            How long.
        problem
            Why.
        """
        now = self._clock.now()
        destination_states.pause(tx, destination, now + length, problem, at=now)

    def park(self, tx: Transaction, identifier: str) -> bool:
        """Take a pending delivery out of the queue, so that those behind it go on; return whether there was one.

        What belongs to it (:mod:`kernel.together`) is parked too.

        Parameters
        ----------
        tx
            The transaction to write in.
        identifier
            ``id`` of the delivery.
        """
        if found := self._move(tx, identifier, {"pending"}, status="parked", next_at=outbox.c.created_at):
            together.park_rest(tx, identifier, None, at=self._clock.now())
        return found

    def dismiss(self, tx: Transaction, identifier: str) -> bool:
        """Decide that a pending or parked delivery is not sent; return whether there was one.

        Parameters
        ----------
        tx
            The transaction to write in.
        identifier
            ``id`` of the delivery.
        """
        return self._end(tx, identifier, {"pending", "parked"}, "dismissed")

    def supersede(self, tx: Transaction, identifier: str) -> bool:
        """Record that a pending delivery is not sent, because a newer result was delivered before it.

        Parameters
        ----------
        tx
            The transaction to write in.
        identifier
            ``id`` of the delivery.
        """
        return self._end(tx, identifier, {"pending"}, "superseded")

    def replay(self, tx: Transaction, identifier: str) -> bool:
        """Queue a parked delivery again, or try one that is held at once; return whether there was one.

        The attempts count from zero, and a pause of its destination ends. What it belongs to, and what belongs to it,
        is queued with it.

        Parameters
        ----------
        tx
            The transaction to write in.
        identifier
            ``id`` of the delivery; one that is neither parked nor pending is left as it is.
        """
        at = self._clock.now()
        destination = tx.execute(select(outbox.c.destination).where(outbox.c.id == identifier)).scalar()
        if destination is not None:
            destination_states.resume(tx, destination, at=at)
        due = {"refusals": 0, "next_at": outbox.c.created_at}
        if found := self._move(tx, identifier, {"parked", "pending"}, status="pending", **due):
            together.replay_rest(tx, identifier, at=at)
        return found

    def counts(self, connection: Connection) -> dict[tuple[str, str], int]:
        """Return how many deliveries there are per destination and status."""
        grouped = select(outbox.c.destination, outbox.c.status, func.count()).group_by(
            outbox.c.destination, outbox.c.status
        )
        return {(row[0], row[1]): row[2] for row in connection.execute(grouped)}

    def _end(self, tx: Transaction, identifier: str, status_before: Collection[str], status: str) -> bool:
        """Give a delivery that is not sent, and what belongs to it, a final status."""
        if found := self._move(tx, identifier, status_before, status=status):
            together.end_rest(tx, identifier, status, at=self._clock.now())
        return found

    def _move(self, tx: Transaction, identifier: str, status_before: Collection[str], **values: Any) -> bool:
        mine = outbox.c.id == identifier, outbox.c.status.in_(status_before)
        destination = tx.execute(select(outbox.c.destination).where(*mine)).scalar()
        if destination is None:
            return False
        tx.execute(update(outbox).where(*mine).values(**values, changed_at=self._clock.now()))
        self.drain(tx, destination)
        return True


def _answer_of(identifier: str) -> bytes:
    """Return the context under which the answer of a peer is sealed."""
    return f"{identifier}:answer".encode()
