"""Durable jobs: rows that are written in the same commit as the change that causes them.

Three columns control when a job runs. ``lock``: jobs with the same lock run one at a time and in the order they were
written, also across workers and retries. ``queueing_lock``: at most one job with the same value waits; a second one is
dropped, or moves the first (``when_waiting``). ``scheduled_at``: the job does not run before this time.

Jobs with the lock ``BACKGROUND`` have no urgency: they run one at a time, in all processes together, and take no place
from other jobs (:class:`kernel.worker.Worker`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from kernel.blobs import Cipher
from kernel.clock import Clock, Ids
from kernel.db import Transaction
from kernel.errors import JOB_DECISION, Category, Decision, Problem
from kernel.statements import Statement
from kernel.tables import Instant, jobs

WhenWaiting: TypeAlias = Literal["keep", "move", "earlier"]

BACKGROUND: Final = "background"
"""The lock of jobs that nobody waits for."""

CHANNELS: Final = {False: "jobs", True: "jobs-background"}
"""Whether in the background -> the channel that is signalled when such a job may have become due."""

LONGEST_PAUSE: Final = timedelta(seconds=60)
"""The longest pause between two attempts."""

FAULTS_BEFORE_PARKING: Final = 4
"""After this many attempts a job that fails with a ``fault`` is parked."""


DEATHS_BEFORE_PARKING: Final = 10
"""After this many attempts a job whose worker died is parked: it may be the cause of the crash."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One waiting, running or parked step of a flow."""

    seq: int
    id: str
    step: str
    payload: Mapping[str, Any]
    """References only: never PHI."""
    lock: str | None
    queueing_lock: str | None
    scheduled_at: datetime
    status: str
    attempts: int
    worker: str | None
    problem: Problem | None
    """Why the last attempt failed, without its diagnostics."""
    created_at: datetime
    changed_at: datetime

    def log_context(self) -> dict[str, str | int]:
        """Return the fields that identify this job in a log line."""
        return {"job": self.id, "step": self.step, "attempts": self.attempts}


def _from_row(row: Row[Any]) -> Job:
    problem = None
    if row.problem_category:
        problem = Problem(Category(row.problem_category), row.problem_detail or "")
    return Job(
        seq=row.seq,
        id=row.id,
        step=row.step,
        payload=json.loads(row.payload),
        lock=row.lock,
        queueing_lock=row.queueing_lock,
        scheduled_at=row.scheduled_at,
        status=row.status,
        attempts=row.attempts,
        worker=row.worker,
        problem=problem,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


_INSERT: Final = Statement(insert(jobs))
_WAITING_WITH: Final = Statement(
    select(jobs.c.seq, jobs.c.scheduled_at).where(
        jobs.c.queueing_lock == bindparam("with_lock"), jobs.c.status == "waiting"
    )
)
_FINISH: Final = Statement(
    delete(jobs).where(
        jobs.c.seq == bindparam("this"),
        jobs.c.status == "running",
        jobs.c.worker == bindparam("of"),
        jobs.c.attempts == bindparam("attempt"),
    )
)
_RESCHEDULE: Final = Statement(update(jobs).where(jobs.c.seq == bindparam("which")))

_CLAIM: Final = """
UPDATE jobs SET status = 'running', worker = :worker, attempts = attempts + 1, changed_at = :now
WHERE seq = (
  SELECT due.seq FROM jobs AS due
  WHERE due.status = 'waiting' AND due.scheduled_at <= :now AND {lane} AND {lock_is_free}
  ORDER BY due.scheduled_at, due.seq LIMIT 1 {skip_locked})
RETURNING *
"""
"""Claim, in one statement, the job that has been due longest among those whose lock is free."""


_NEXT_DUE: Final = """
SELECT due.scheduled_at FROM jobs AS due
WHERE due.status = 'waiting' AND {lane} AND {lock_is_free}
ORDER BY due.scheduled_at, due.seq LIMIT 1
"""

_LANES: Final = {
    False: f"(due.lock IS NULL OR due.lock <> '{BACKGROUND}')",
    True: f"due.lock = '{BACKGROUND}'",
}
"""Whether in the background -> the condition for the jobs of that lane."""

_LOCK_IS_FREE: Final = """(due.lock IS NULL OR NOT EXISTS (
    SELECT 1 FROM jobs AS other WHERE other.lock = due.lock
    AND (other.status = 'running' OR (other.status = 'waiting' AND other.seq < due.seq))))"""


def _claim_statements(*, skip_locked: str) -> Mapping[bool, Statement]:
    return {
        background: Statement(
            text(_CLAIM.format(skip_locked=skip_locked, lane=lane, lock_is_free=_LOCK_IS_FREE))
            .bindparams(bindparam("now", type_=Instant))
            .columns(*jobs.c)
        )
        for background, lane in _LANES.items()
    }


_NEXT: Final = {
    background: Statement(text(_NEXT_DUE.format(lane=lane, lock_is_free=_LOCK_IS_FREE)).columns(jobs.c.scheduled_at))
    for background, lane in _LANES.items()
}
_CLAIM_SQLITE: Final = _claim_statements(skip_locked="")
_CLAIM_POSTGRESQL: Final = _claim_statements(skip_locked="FOR UPDATE SKIP LOCKED")


class Jobs:
    """The job queue.

    Parameters
    ----------
    clock, ids
        Sources of time and of identifiers.
    cipher
        Encrypts the diagnostics of a problem, which may contain PHI.
    """

    def __init__(self, clock: Clock, ids: Ids, cipher: Cipher) -> None:
        self._clock = clock
        self._ids = ids
        self._cipher = cipher

    def enqueue(  # noqa: PLR0913 - the three columns are the feature
        self,
        tx: Transaction,
        step: str,
        payload: Mapping[str, Any],
        *,
        lock: str | None = None,
        queueing_lock: str | None = None,
        scheduled_at: datetime | None = None,
        when_waiting: WhenWaiting = "keep",
    ) -> None:
        """Add a job to the transaction that causes it.

        Parameters
        ----------
        tx
            The transaction; the job exists if and only if it commits.
        step
            Name of the flow step (see ``service.application.build``).
        payload
            References to the rows that the step reads; JSON, never PHI.
        lock, queueing_lock, scheduled_at
            See the module docstring; the job is due at once when no time is given.
        when_waiting
            What becomes of a job that waits already with this ``queueing_lock``: ``keep`` its time, ``move`` it to
            ``scheduled_at``, or move it only to an ``earlier`` time.
        """
        now = self._clock.now()
        due = scheduled_at or now
        tx.wake(_channel(lock))
        if queueing_lock is not None:
            tx.lock(f"queueing:{queueing_lock}")
            waiting = tx.execute(_WAITING_WITH, {"with_lock": queueing_lock}).first()
            if waiting is not None:
                if when_waiting == "move" or (when_waiting == "earlier" and due < waiting.scheduled_at):
                    tx.execute(_RESCHEDULE, {"which": waiting.seq, "scheduled_at": due, "changed_at": now})
                return
        tx.execute(
            _INSERT,
            {
                "id": self._ids.new(),
                "step": step,
                "payload": json.dumps(payload),
                "lock": lock,
                "queueing_lock": queueing_lock,
                "scheduled_at": due,
                "status": "waiting",
                "attempts": 0,
                "created_at": now,
                "changed_at": now,
            },
        )

    def claim(self, tx: Transaction, worker: str, *, background: bool = False) -> Job | None:
        """Claim the next due job, or return None.

        Parameters
        ----------
        tx
            Any transaction; a job that it has just finished no longer holds its lock.
        worker
            Id of the worker that will run it.
        background
            Claim a job with the lock ``BACKGROUND``, instead of one of the others.
        """
        is_sqlite = tx.connection.dialect.name == "sqlite"
        statement = (_CLAIM_SQLITE if is_sqlite else _CLAIM_POSTGRESQL)[background]
        try:
            with tx.savepoint():
                row = tx.execute(statement, {"worker": worker, "now": self._clock.now()}).first()
        except IntegrityError:  # another worker has just taken a job with the same lock
            return None
        return None if row is None else _from_row(row)

    def finish(self, tx: Transaction, job: Job) -> None:
        """Remove a finished job.

        Parameters
        ----------
        tx
            The transaction that also holds the result of the job.
        job
            As :meth:`claim` returned it.

        Raises
        ------
        Problem
            ``conflict`` when another worker took the job over: the result of this worker must not be saved then.
        """
        deleted = tx.execute(_FINISH, {"this": job.seq, "of": job.worker, "attempt": job.attempts})
        if deleted.rowcount != 1:
            raise Problem(Category.CONFLICT, "the job was taken over by another worker")
        if job.lock is not None:
            tx.wake(_channel(job.lock))

    def fail(self, tx: Transaction, job: Job, problem: Problem) -> bool:
        """Reschedule or park a failed job, depending on its problem.

        Parameters
        ----------
        tx
            Any transaction.
        job
            As :meth:`claim` returned it.
        problem
            Why it failed; decides by :func:`must_park`.

        Returns
        -------
        bool
            Whether the job was parked.
        """
        parked = must_park(job, problem)
        now = self._clock.now()
        state = {
            "status": "parked" if parked else "waiting",
            "scheduled_at": now + pause_after(job.attempts),
            "attempts": job.attempts,
            "worker": None,
            "problem_category": str(problem.category),
            "problem_detail": problem.detail,
            "problem_diagnostics": self._cipher.seal(problem.diagnostics.encode(), job.id.encode()),
            "changed_at": now,
        }
        tx.wake(_channel(job.lock))
        mine = jobs.c.seq == job.seq, jobs.c.worker == job.worker, jobs.c.attempts == job.attempts
        successor = None if parked else self._successor(tx, job)
        if successor is not None:  # it does the same work; it takes over the pause, so that retries stay spaced out
            tx.execute(delete(jobs).where(*mine))
            tx.execute(update(jobs).where(jobs.c.seq == successor), state)
        else:
            tx.execute(update(jobs).where(*mine), state)
        return parked

    def replay(self, tx: Transaction, job_id: str) -> bool:
        """Make a parked job due again, with no attempts counted.

        Parameters
        ----------
        tx
            Any transaction.
        job_id
            Id of the job.

        Returns
        -------
        bool
            Whether there was a parked job with this id.
        """
        row = tx.execute(select(jobs).where(jobs.c.id == job_id, jobs.c.status == "parked")).first()
        if row is None:
            return False
        self._put_back(tx, _from_row(row), attempts=0)
        return True

    def release(
        self, tx: Transaction, worker: str, *, on_parked: Callable[[Transaction, Job, Problem], None] | None = None
    ) -> int:
        """Return the jobs of a dead or stopping worker to the queue.

        A job that was claimed ``DEATHS_BEFORE_PARKING`` times is parked instead.

        Parameters
        ----------
        tx
            Any transaction.
        worker
            Id of the worker that held them.
        on_parked
            Called for each job that is parked.

        Returns
        -------
        int
            How many jobs the worker held.
        """
        running = tx.execute(select(jobs).where(jobs.c.worker == worker, jobs.c.status == "running")).all()
        for row in running:
            job = _from_row(row)
            if job.attempts >= DEATHS_BEFORE_PARKING:
                problem = Problem(Category.FAULT, "the worker died each time it did this")
                self._park(tx, job, problem)
                if on_parked is not None:
                    on_parked(tx, job, problem)
            else:
                self._put_back(tx, job, attempts=job.attempts)
        return len(running)

    def is_pending(self, connection: Connection, lock: str) -> bool:
        """Return whether a job with a lock waits or runs.

        Parameters
        ----------
        connection
            A connection that can read; that of a transaction sees the jobs that it has enqueued.
        lock
            The job's ``lock``.
        """
        pending = select(jobs.c.seq).where(jobs.c.lock == lock, jobs.c.status.in_(("waiting", "running")))
        return connection.execute(pending.limit(1)).first() is not None

    def next_due(self, connection: Connection, *, background: bool = False) -> datetime | None:
        """Return when a waiting job whose lock is free becomes, or became, due.

        Parameters
        ----------
        connection
            A connection that can read.
        background
            Among those with the lock ``BACKGROUND``, instead of the others.
        """
        found: datetime | None = _NEXT[background].run(connection).scalar()
        return found

    def listing(self, connection: Connection, status: str | None = None, limit: int = 200) -> list[Job]:
        """Return jobs for display, oldest first.

        Parameters
        ----------
        connection
            A connection that can read.
        status
            ``waiting``, ``running`` or ``parked``; all of them when None.
        limit
            The largest number of jobs to return.
        """
        query = select(jobs).order_by(jobs.c.seq).limit(limit)
        if status is not None:
            query = query.where(jobs.c.status == status)
        return [_from_row(row) for row in connection.execute(query)]

    def counts(self, connection: Connection) -> dict[str, int]:
        """Return how many jobs there are in each status."""
        grouped = select(jobs.c.status, func.count()).group_by(jobs.c.status)
        return {row[0]: row[1] for row in connection.execute(grouped)}

    def _park(self, tx: Transaction, job: Job, problem: Problem) -> None:
        state = {
            "status": "parked",
            "worker": None,
            "problem_category": str(problem.category),
            "problem_detail": problem.detail,
            "changed_at": self._clock.now(),
        }
        tx.execute(update(jobs).where(jobs.c.seq == job.seq), state)
        tx.wake(_channel(job.lock))

    def _put_back(self, tx: Transaction, job: Job, *, attempts: int) -> None:
        now = self._clock.now()
        tx.wake(_channel(job.lock))
        if self._successor(tx, job) is not None:  # the waiting job will read the same rows
            tx.execute(delete(jobs).where(jobs.c.seq == job.seq))
            return
        state = {"status": "waiting", "worker": None, "attempts": attempts, "scheduled_at": now, "changed_at": now}
        tx.execute(update(jobs).where(jobs.c.seq == job.seq), state)

    @staticmethod
    def _successor(tx: Transaction, job: Job) -> int | None:
        if job.queueing_lock is None:
            return None
        found: int | None = tx.execute(_WAITING_WITH, {"with_lock": job.queueing_lock}).scalar()
        return found


def _channel(lock: str | None) -> str:
    return CHANNELS[lock == BACKGROUND]


def must_park(job: Job, problem: Problem) -> bool:
    """Decide by ``kernel.errors.JOB_DECISION`` whether a failed job is parked instead of retried.

    Parameters
    ----------
    job
        The job, with the attempts so far.
    problem
        Why it failed.
    """
    decision = JOB_DECISION[problem.category]
    if decision is Decision.RETRY_THEN_PARK:
        return job.attempts >= FAULTS_BEFORE_PARKING
    return decision is Decision.PARK


def pause_after(attempts: int) -> timedelta:
    """Return the pause after the ``attempts``-th failure: 1, 2, 4, … seconds, at most ``LONGEST_PAUSE``."""
    return min(timedelta(seconds=2 ** min(attempts - 1, 10)), LONGEST_PAUSE)
