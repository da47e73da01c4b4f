"""Durable jobs: rows that are written in the same commit as the change that causes them.

Four columns control when a job runs. ``lock``: jobs with the same lock run one at a time and in the order they were
written, also across workers and retries. ``queueing_lock``: at most one job with the same value waits; a second one is
dropped, or moves the first (:class:`Due`). ``scheduled_at``: the job does not run before this time. Of the jobs that
may run the one with the lowest ``priority`` does.

Jobs with the lock ``BACKGROUND`` have no urgency: they run one at a time, in all processes together, and take no place
from other jobs (:class:`kernel.worker.Worker`). Of the locks of :func:`~kernel.lanes.background_of` each waits alone.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from kernel.blobs import Cipher
from kernel.clock import Clock, Ids
from kernel.db import Transaction
from kernel.errors import JOB_DECISION, Category, Decision, Problem
from kernel.job_statements import (
    CLAIM_POSTGRESQL,
    CLAIM_SQLITE,
    DEMOTE,
    FINISH,
    IN_BACKGROUND,
    INSERT,
    LOCKED,
    NEXT,
    PROMOTE,
    RESCHEDULE,
    WAITING_WITH,
    Priority,
)
from kernel.lanes import BACKGROUND, CHANNELS, is_background
from kernel.tables import jobs

__all__ = ["AT_ONCE", "BACKGROUND", "CHANNELS", "Due", "Job", "Jobs", "Priority", "job_of", "must_park", "pause_after"]

LOOKS_EVERY: Final = timedelta(seconds=5)
"""How often a worker looks for due jobs without a signal; a job that is due later than this needs none."""

LONGEST_PAUSE: Final = timedelta(seconds=60)
"""The longest pause between two attempts."""

FAULTS_BEFORE_PARKING: Final = 4
"""After this many attempts a job that fails with a ``fault`` is parked."""


DEATHS_BEFORE_PARKING: Final = 10
"""After this many attempts a job whose worker died is parked: it may be the cause of the crash."""


@dataclass(frozen=True, slots=True)
class Due:
    """When a job may run.

    Parameters
    ----------
    at
        Not before this time; None is at once.
    when_waiting
        What becomes of a job that waits already with the same ``queueing_lock``: ``keep`` its time, ``move`` it to
        ``at``, or move it only to an ``earlier`` time.
    """

    at: datetime | None = None
    when_waiting: Literal["keep", "move", "earlier"] = "keep"


AT_ONCE: Final = Due()


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
    priority: int
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


def job_of(row: Row[Any]) -> Job:
    """Return the job of a row."""
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
        priority=row.priority,
        scheduled_at=row.scheduled_at,
        status=row.status,
        attempts=row.attempts,
        worker=row.worker,
        problem=problem,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


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

    def enqueue(  # noqa: PLR0913 - the columns are the feature
        self,
        tx: Transaction,
        step: str,
        payload: Mapping[str, Any],
        *,
        lock: str | None = None,
        queueing_lock: str | None = None,
        due: Due = AT_ONCE,
        priority: Priority = Priority.ROUTINE,
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
        lock, queueing_lock
            See the module docstring.
        due
            When it may run.
        priority
            When several are due. Whatever a job of priority ``STAT`` enqueues when it ends is ``STAT`` too.
        """
        now = self._clock.now()
        at = due.at or now
        if tx.urgent:
            priority = Priority.STAT
        if at - now <= LOOKS_EVERY:
            tx.wake(_channel(lock))
        if queueing_lock is not None:
            tx.lock(f"queueing:{queueing_lock}")
            waiting = tx.execute(WAITING_WITH, {"with_lock": queueing_lock}).first()
            if waiting is not None:
                if due.when_waiting == "move" or (due.when_waiting == "earlier" and at < waiting.scheduled_at):
                    tx.send(RESCHEDULE, {"which": waiting.seq, "scheduled_at": at, "changed_at": now})
                return
        is_free = True
        if lock is not None:
            tx.lock(_lock_name(lock))
            is_free = tx.execute(LOCKED, {"with_lock": lock}).first() is None
        tx.send(
            INSERT,
            {
                "id": self._ids.new(),
                "step": step,
                "payload": json.dumps(payload),
                "lock": lock,
                "queueing_lock": queueing_lock,
                "scheduled_at": at,
                "priority": IN_BACKGROUND if is_background(lock) else int(priority),
                "ready": int(is_free),
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
        statement = (CLAIM_SQLITE if is_sqlite else CLAIM_POSTGRESQL)[background]
        try:
            with tx.savepoint():
                row = tx.execute(statement, {"worker": worker, "now": self._clock.now()}).first()
        except IntegrityError:  # another worker has just taken a job with the same lock
            return None
        return None if row is None else job_of(row)

    def claim_many(self, tx: Transaction, worker: str, most: int, *, background: bool = False) -> list[Job]:
        """Claim the jobs that are due, in their order.

        Parameters
        ----------
        tx, worker, background
            As for :meth:`claim`.
        most
            How many at most.
        """
        claimed: list[Job] = []
        while len(claimed) < most and (job := self.claim(tx, worker, background=background)) is not None:
            claimed.append(job)
        return claimed

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
        deleted = tx.execute(FINISH, {"this": job.seq, "id_is": job.id, "of": job.worker, "attempt": job.attempts})
        if deleted.rowcount != 1:
            raise Problem(Category.CONFLICT, "the job was taken over by another worker")
        if job.priority == Priority.STAT:
            tx.urgent.add(job.id)
        self._promote(tx, job.lock)

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
            Whether the job was parked; a job that another worker has taken over is left to it.
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
        mine = jobs.c.id == job.id, jobs.c.worker == job.worker, jobs.c.attempts == job.attempts
        successor = None if parked else self._successor(tx, job)
        if successor is not None:  # it does the same work; it takes over the pause, so that retries stay spaced out
            if tx.execute(delete(jobs).where(*mine)).rowcount != 1:
                return False
            tx.execute(update(jobs).where(jobs.c.seq == successor), state)
        elif tx.execute(update(jobs).where(*mine), state).rowcount != 1:
            return False
        self._promote(tx, job.lock, again=not parked)
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
        self._put_back(tx, job_of(row), attempts=0)
        return True

    def release(
        self,
        tx: Transaction,
        worker: str,
        *,
        on_parked: Callable[[Transaction, Job, Problem], None] | None = None,
        besides: Collection[tuple[str, int]] = (),
    ) -> int:
        """Return the jobs of a dead or stopping worker to the queue, or those that it does not know of.

        A job that was claimed ``DEATHS_BEFORE_PARKING`` times is parked instead.

        Parameters
        ----------
        tx
            Any transaction.
        worker
            Id of the worker that held them.
        on_parked
            Called for each job that is parked.
        besides
            Id and attempts of the jobs that it keeps: a number is used again.

        Returns
        -------
        int
            How many jobs were returned or parked.
        """
        running = tx.execute(select(jobs).where(jobs.c.worker == worker, jobs.c.status == "running")).all()
        running = [row for row in running if (row.id, row.attempts) not in besides]
        for row in running:
            job = job_of(row)
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
        found: datetime | None = NEXT[background].run(connection).scalar()
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
        return [job_of(row) for row in connection.execute(query)]

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
        self._promote(tx, job.lock)

    def _put_back(self, tx: Transaction, job: Job, *, attempts: int) -> None:
        now = self._clock.now()
        as_read = jobs.c.id == job.id, jobs.c.status == job.status, jobs.c.attempts == job.attempts
        if self._successor(tx, job) is not None:  # the waiting job will read the same rows
            tx.execute(delete(jobs).where(*as_read))
            self._promote(tx, job.lock)
            return
        state = {"status": "waiting", "worker": None, "attempts": attempts, "scheduled_at": now, "changed_at": now}
        tx.execute(update(jobs).where(*as_read), state)
        self._promote(tx, job.lock, again=True)

    def _promote(self, tx: Transaction, lock: str | None, *, again: bool = False) -> None:
        """Have the oldest waiting job with a lock be the next one; wake who may run it.

        Parameters
        ----------
        tx
            The transaction in which the job before it ended, or went back to those that wait.
        lock
            The lock; None for a job without one, which is always the next.
        again
            Whether another waiting job may be the next one so far.
        """
        tx.wake(_channel(lock))
        if lock is not None:
            tx.lock(_lock_name(lock))
            if again:
                tx.send(DEMOTE, {"with_lock": lock})
            tx.send(PROMOTE, {"with_lock": lock, "now": self._clock.now()})

    @staticmethod
    def _successor(tx: Transaction, job: Job) -> int | None:
        if job.queueing_lock is None:
            return None
        found: int | None = tx.execute(WAITING_WITH, {"with_lock": job.queueing_lock}).scalar()
        return found


def _lock_name(lock: str) -> str:
    return f"job:{lock}"


def _channel(lock: str | None) -> str:
    return CHANNELS[is_background(lock)]


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
