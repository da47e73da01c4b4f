"""Workers: threads that claim due jobs, run their step, and commit work and completion together.

A step reads rows, computes and returns a commit: a function of a transaction. The worker runs it in the same
transaction that removes the job, so that a step's effect and its completion are saved together or not at all. The jobs
of a worker that died stay marked with its id; other workers take them over at once when its process no longer exists on
this host, and after a missed heartbeat when it ran on another host. Jobs of the background have one thread to
themselves, so that they never take one that others wait for. A worker that was only slow finds that its job was
taken over and saves nothing.
"""

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, insert, select, update

from kernel.clock import Clock, Ids
from kernel.db import Database, Transaction
from kernel.errors import Category, Problem, as_problem
from kernel.jobs import CHANNELS, LOOKS_EVERY, Job, Jobs
from kernel.log import get_logger
from kernel.process import process_start
from kernel.set_back import realign
from kernel.tables import jobs as jobs_table
from kernel.tables import workers

Commit = Callable[[Transaction], None]
Step = Callable[[Job], Commit]

HEARTBEAT: Final = LOOKS_EVERY.total_seconds()
"""Seconds between two heartbeats, and between two looks for due jobs."""

HEARTBEAT_TIMEOUT: Final = timedelta(seconds=30)
"""A worker on another host is considered dead after this time without a heartbeat."""

_WITHOUT_WORKER: Final = (
    select(jobs_table.c.worker)
    .where(jobs_table.c.status == "running", jobs_table.c.worker.not_in(select(workers.c.id)))
    .distinct()
)

_log = get_logger(__name__)


class _Lane:
    """The idle threads of one kind of job."""

    def __init__(self) -> None:
        #: Held by the idle thread that looks for jobs, for all of them.
        self.turn = threading.Lock()
        self.claimed: deque[Job] = deque()
        self._idle = 0
        self._counting = threading.Lock()

    @property
    def idle(self) -> int:
        """How many threads wait."""
        return self._idle

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the calling thread as idle."""
        with self._counting:
            self._idle += 1
        try:
            with self.turn:
                yield
        finally:
            with self._counting:
                self._idle -= 1


class Worker:
    """A pool of threads that run the jobs of one queue.

    Parameters
    ----------
    database, jobs, clock, ids
        Shared with the rest of the application.
    steps
        The function that runs each step, by step name.
    threads
        How many jobs run at the same time, besides one of the background; with 0 none runs at all.
    on_parked
        Called for each job that is parked, in the transaction that parks it.
    """

    def __init__(  # noqa: PLR0913 - wiring hands each component what it needs
        self,
        database: Database,
        jobs: Jobs,
        steps: Mapping[str, Step],
        clock: Clock,
        ids: Ids,
        *,
        threads: int = 4,
        on_parked: Callable[[Transaction, Job, Problem], None] | None = None,
    ) -> None:
        self.name = ids.new()
        self._database = database
        self._jobs = jobs
        self._steps = steps
        self._clock = clock
        self._on_parked = on_parked
        self._stopping = threading.Event()
        self._is_registered = False
        #: Id and attempts of the jobs that a thread of this process runs or is about to run.
        self._held: set[tuple[str, int]] = set()
        self._lanes = {background: _Lane() for background in CHANNELS}
        self._threads = [
            threading.Thread(target=self._work, args=(False,), name=f"worker-{number}", daemon=True)
            for number in range(threads)
        ]
        if threads:
            background = threading.Thread(target=self._work, args=(True,), name="worker-background", daemon=True)
            self._threads.append(background)
        self._heart = threading.Thread(target=self._send_heartbeats, name="worker-heartbeat", daemon=True)

    def register(self) -> None:
        """Register as a worker and take over the jobs of dead workers; part of :meth:`start`."""
        self._database.write(self._register)
        self._is_registered = True

    def heartbeat(self) -> None:
        """Save a heartbeat, durably; if the clock was set back, nothing waits longer for that.

        Raises
        ------
        Problem
            ``unavailable`` when it cannot be saved, or when this worker is not registered.
        """
        if not self._database.write(self._heartbeat):
            raise Problem(Category.UNAVAILABLE, "no worker is running here")

    def start(self) -> None:
        """Register, take over the jobs of dead workers, and start the threads."""
        self.register()
        for thread in (*self._threads, self._heart):
            thread.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Wait up to ``timeout`` seconds for running jobs, return unfinished ones to the queue, and unregister."""
        self._stopping.set()
        self._database.signals.send(CHANNELS.values())
        until = time.monotonic() + timeout
        for thread in (*self._threads, self._heart):
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))
        self._database.write(self._unregister)

    @property
    def idle(self) -> int:
        """How many threads wait for a job, but for that of the background."""
        return self._lanes[False].idle

    def run_one(self) -> bool:
        """Claim and run one due job, of the background only when there is no other; return whether there was one."""
        for background in CHANNELS:
            if claimed := self._claim_many(1, background=background):
                self._run(claimed[0])
                return True
        return False

    def _claim_many(self, most: int, *, background: bool) -> list[Job]:
        return self._claim(lambda tx: self._jobs.claim_many(tx, self.name, most, background=background))

    def _claim(self, claim: Callable[[Transaction], list[Job]]) -> list[Job]:
        """Commit a claim; what was claimed counts as held before the commit, so that no heartbeat returns it."""
        tried: list[Job] = []
        claimed: list[Job] = []

        def work(tx: Transaction) -> list[Job]:
            found = claim(tx)
            tried.extend(found)
            self._held.update((job.id, job.attempts) for job in found)
            return found

        try:
            claimed = self._database.write(work)
            return claimed
        finally:  # without a reply the commit may have been made: a heartbeat returns those jobs
            self._held.difference_update((job.id, job.attempts) for job in tried if job not in claimed)

    def _run(self, job: Job, claim_next: Callable[[Transaction], list[Job]] = lambda _: []) -> Job | None:
        """Run a job; return the next one, if it was claimed in the transaction that finished this one."""
        try:
            commit = self._step(job)(job)

            def finish(tx: Transaction) -> list[Job]:
                self._jobs.finish(tx, job)
                commit(tx)
                return claim_next(tx)

            claimed = self._claim(finish)
        except BaseException as raised:  # noqa: BLE001 - whatever a step raises becomes the job's visible problem
            self._fail(job, raised)
            return None
        finally:
            self._held.discard((job.id, job.attempts))
        return claimed[0] if claimed else None

    def _step(self, job: Job) -> Step:
        try:
            return self._steps[job.step]
        except KeyError:
            raise Problem(Category.UNSUPPORTED, f"there is no step {job.step}") from None

    def _fail(self, job: Job, raised: BaseException) -> None:
        problem = as_problem(raised)
        _log.warning("job_failed", **job.log_context(), category=str(problem.category), failure=raised)

        def note(tx: Transaction) -> None:
            if self._jobs.fail(tx, job, problem) and self._on_parked is not None:
                self._on_parked(tx, job, problem)

        try:
            self._database.write(note)
        except Problem as not_saved:  # the job stays marked as ours until we or a successor can write again
            _log.error("job_failure_not_saved", **job.log_context(), failure=not_saved)
            self._stopping.wait(1.0)
            self._release_when_possible(job)

    def _release_when_possible(self, job: Job) -> None:
        while not self._stopping.wait(1.0):
            try:
                self._database.write(lambda tx: self._jobs.fail(tx, job, Problem(Category.UNAVAILABLE, "not saved")))
            except Problem:
                continue
            return

    def _work(self, background: bool) -> None:  # noqa: FBT001 - the only argument of a thread's function
        def claim_next(tx: Transaction) -> list[Job]:
            # With requests waiting, a backlog of jobs would take every turn of the writer from the listeners.
            if self._stopping.is_set() or self._database.others_wait():
                return []
            return self._jobs.claim_many(tx, self.name, 1, background=background)

        job: Job | None = None
        while job is not None or not self._stopping.is_set():
            try:
                job = self._wait_for_job(background=background) if job is None else self._run(job, claim_next)
            except Exception as failure:  # noqa: BLE001 - a worker keeps running while the database is unavailable
                _log.error("worker_waits", failure=failure)
                job = None  # nobody holds it any more, so a heartbeat returns it to the queue
                self._stopping.wait(1.0)

    def _wait_for_job(self, *, background: bool) -> Job | None:
        """Return a claimed job as soon as one is due; None when the worker stops.

        One idle thread waits for signals, looks by a read, and claims a job for each idle thread in one transaction;
        the others wait for that thread. So a commit wakes one thread, and an idle worker writes nothing.
        """
        lane = self._lanes[background]
        with lane.waiting():
            if lane.claimed:
                return lane.claimed.popleft()
            while not self._stopping.is_set():
                generation = self._database.signals.generation(CHANNELS[background])
                seconds = self._until_due(background=background)
                if seconds <= 0:
                    lane.claimed.extend(self._claim_many(lane.idle, background=background))
                    if lane.claimed:
                        return lane.claimed.popleft()
                    seconds = HEARTBEAT  # another worker took it, and signals when it ends
                self._database.signals.wait(CHANNELS[background], generation, seconds)
        return None

    def _until_due(self, *, background: bool) -> float:
        with self._database.read() as connection:
            due = self._jobs.next_due(connection, background=background)
        return HEARTBEAT if due is None else min((due - self._clock.now()).total_seconds(), HEARTBEAT)

    def _send_heartbeats(self) -> None:
        while not self._stopping.wait(HEARTBEAT):
            try:
                self.heartbeat()
            except Problem as failure:
                _log.error("heartbeat_not_saved", failure=failure)

    def _register(self, tx: Transaction) -> None:
        self._insert(tx)
        self._reclaim_dead_workers(tx)

    def _insert(self, tx: Transaction) -> None:
        process = {"host": socket.gethostname(), "pid": os.getpid(), "process_start": process_start(os.getpid())}
        row = {"id": self.name, "heartbeat_at": self._clock.now(), "threads": len(self._threads)}
        tx.execute(insert(workers), row | process)

    def _unregister(self, tx: Transaction) -> None:
        self._release_jobs_of(tx, self.name)

    def _heartbeat(self, tx: Transaction) -> bool:
        updated = tx.execute(update(workers).where(workers.c.id == self.name), {"heartbeat_at": self._clock.now()})
        if updated.rowcount != 1:
            if not self._is_registered or self._stopping.is_set():
                return False
            self._insert(tx)  # it was silent for long, and another worker took its jobs over
            _log.warning("worker_registered_again", worker=self.name)
        held = frozenset(self._held)
        if returned := self._jobs.release(tx, self.name, on_parked=self._on_parked, besides=held):
            _log.warning("jobs_returned", jobs=returned)
        self._reclaim_dead_workers(tx)
        if moved := realign(tx, self._clock.now()):
            for channel in CHANNELS.values():
                tx.wake(channel)
            _log.warning("clock_set_back", waiting=moved)
        return True

    def _reclaim_dead_workers(self, tx: Transaction) -> None:
        """Return the jobs of dead workers to the queue, and those that a worker claimed after it was taken for dead."""
        for row in tx.execute(select(workers).where(workers.c.id != self.name)).all():
            if _is_dead(row, self._clock.now()) and (released := self._release_jobs_of(tx, row.id)) is not None:
                _log.warning("worker_taken_over", worker=row.id, jobs=released)
        for row in tx.execute(_WITHOUT_WORKER).all():
            released = self._jobs.release(tx, row.worker, on_parked=self._on_parked)
            _log.warning("worker_taken_over", worker=row.worker, jobs=released)

    def _release_jobs_of(self, tx: Transaction, worker: str) -> int | None:
        """Remove a worker and return its jobs to the queue; None when another process does so at the same time."""
        if tx.execute(delete(workers).where(workers.c.id == worker)).rowcount != 1:
            return None
        return self._jobs.release(tx, worker, on_parked=self._on_parked)


def running(connection: Connection, now: datetime) -> list[Row[Any]]:
    """Return the rows of the processes that run jobs, without those that have died or fallen silent.

    Parameters
    ----------
    connection
        A connection that can read.
    now
        The current time.
    """
    working = select(workers).where(workers.c.threads > 0).order_by(workers.c.host, workers.c.pid)
    found = connection.execute(working).all()
    return [row for row in found if not _is_dead(row, now) and not _is_silent(row, now)]


def processes(connection: Connection, now: datetime) -> list[Row[Any]]:
    """Return the rows of all processes that use the database, also under the schema of an earlier release.

    Parameters
    ----------
    connection, now
        As for :func:`running`.
    """
    known = select(workers.c.host, workers.c.pid, workers.c.process_start, workers.c.heartbeat_at)
    found: Sequence[Any] = connection.execute(known).all()
    return [row for row in found if not _is_dead(row, now) and not _is_silent(row, now)]


def _is_dead(row: Row[Any], now: datetime) -> bool:
    """Return whether a process has ended, as far as this host can know."""
    if row.host == socket.gethostname():
        return process_start(row.pid) != str(row.process_start)
    return _is_silent(row, now)


def _is_silent(row: Row[Any], now: datetime) -> bool:
    return bool(row.heartbeat_at + HEARTBEAT_TIMEOUT < now)
