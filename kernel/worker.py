"""Workers: threads that claim due jobs, run their step, and commit work and completion together.

A step reads rows, does pure work and returns a commit: a function of a transaction. The worker runs it in the very
transaction that removes the job, so a step's effect and its completion cannot come apart. A worker that dies leaves
its jobs marked with its name; others take them over at once when its process is gone from this host, and after a
missed heartbeat when it lived elsewhere. A worker that was only slow finds its job taken and saves nothing.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Row, delete, insert, select, update

from kernel.clock import Clock, Ids
from kernel.db import Database, Transaction
from kernel.errors import Category, Problem, as_problem
from kernel.jobs import CHANNEL, Job, Jobs
from kernel.log import get_logger
from kernel.tables import workers

Commit = Callable[[Transaction], None]
Step = Callable[[Job], Commit]

HEARTBEAT: Final = 5.0
"""Seconds between two signs of life; also the longest a job written by another process on SQLite goes unnoticed."""

HEARTBEAT_TIMEOUT: Final = timedelta(seconds=30)
"""After this long without a sign of life a worker on another host is taken for dead."""

_log = get_logger(__name__)


class Worker:
    """A pool of threads that work one queue.

    Parameters
    ----------
    database, jobs, clock, ids
        The application's.
    steps
        What to do for each step name.
    threads
        How many jobs run at a time.
    on_parked
        Told of each job that now waits for a person, in the transaction that parks it.
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
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True) for number in range(threads)
        ]
        self._heart = threading.Thread(target=self._beat, name="worker-heart", daemon=True)

    def register(self) -> None:
        """Join the list of workers and take over what dead ones left; part of :meth:`start`."""
        self._database.write(self._register)

    def beat(self) -> None:
        """Give a sign of life, durably.

        Raises
        ------
        Problem
            ``unavailable`` when it cannot be saved, or when this worker is not on the list.
        """
        if not self._database.write(self._sign_of_life):
            raise Problem(Category.UNAVAILABLE, "no worker is running here")

    def start(self) -> None:
        """Take over what dead workers left, and begin."""
        self.register()
        for thread in (*self._threads, self._heart):
            thread.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Finish the jobs in hand, at most ``timeout`` seconds, and leave; what is unfinished is put back."""
        self._stopping.set()
        self._database.signals.send([CHANNEL])
        until = time.monotonic() + timeout
        for thread in (*self._threads, self._heart):
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))
        self._database.write(self._unregister)

    def run_one(self) -> bool:
        """Claim and run one due job; return whether there was one."""
        job = self._jobs.claim(self._database, self.name)
        if job is None:
            return False
        try:
            commit = self._step(job)(job)

            def finish(tx: Transaction) -> None:
                self._jobs.finish(tx, job)
                commit(tx)

            self._database.write(finish)
        except BaseException as raised:  # noqa: BLE001 - whatever a step raises becomes the job's visible problem
            self._fail(job, as_problem(raised))
        return True

    def _step(self, job: Job) -> Step:
        try:
            return self._steps[job.step]
        except KeyError:
            raise Problem(Category.UNSUPPORTED, f"there is no step {job.step}") from None

    def _fail(self, job: Job, problem: Problem) -> None:
        _log.warning("job_failed", **job.log_context(), category=str(problem.category))

        def note(tx: Transaction) -> None:
            if self._jobs.fail(tx, job, problem) and self._on_parked is not None:
                self._on_parked(tx, job, problem)

        try:
            self._database.write(note)
        except Problem as refused:  # the job stays marked as ours until we or a successor can write again
            _log.error("job_failure_not_saved", **job.log_context(), failure=refused)
            self._stopping.wait(1.0)
            self._release_when_possible(job)

    def _release_when_possible(self, job: Job) -> None:
        while not self._stopping.wait(1.0):
            try:
                self._database.write(lambda tx: self._jobs.fail(tx, job, Problem(Category.UNAVAILABLE, "not saved")))
            except Problem:
                continue
            return

    def _work(self) -> None:
        while not self._stopping.is_set():
            generation = self._database.signals.generation(CHANNEL)
            try:
                if self.run_one():
                    continue
                self._database.signals.wait(CHANNEL, generation, self._until_due())
            except Exception as failure:  # noqa: BLE001 - a worker outlives a database that is away
                _log.error("worker_waits", failure=failure)
                self._stopping.wait(1.0)

    def _until_due(self) -> float:
        with self._database.read() as connection:
            due = self._jobs.next_due(connection)
        if due is None:
            return HEARTBEAT
        # A due job that nobody could claim waits for a lock, and its holder signals when it ends.
        seconds = (due - self._clock.now()).total_seconds()
        return HEARTBEAT if seconds <= 0 else min(seconds, HEARTBEAT)

    def _beat(self) -> None:
        while not self._stopping.wait(HEARTBEAT):
            try:
                self.beat()
            except Problem as failure:
                _log.error("heartbeat_not_saved", failure=failure)

    def _register(self, tx: Transaction) -> None:
        process = {"host": socket.gethostname(), "pid": os.getpid(), "process_start": process_start(os.getpid())}
        tx.execute(insert(workers), {"id": self.name, "heartbeat_at": self._clock.now(), **process})
        self._reclaim_dead_workers(tx)

    def _unregister(self, tx: Transaction) -> None:
        self._jobs.release(tx, self.name)
        tx.execute(delete(workers).where(workers.c.id == self.name))

    def _sign_of_life(self, tx: Transaction) -> bool:
        alive = tx.execute(update(workers).where(workers.c.id == self.name), {"heartbeat_at": self._clock.now()})
        self._reclaim_dead_workers(tx)
        return alive.rowcount == 1

    def _reclaim_dead_workers(self, tx: Transaction) -> None:
        for row in tx.execute(select(workers).where(workers.c.id != self.name)).all():
            if self._is_dead(row):
                released = self._jobs.release(tx, row.id)
                tx.execute(delete(workers).where(workers.c.id == row.id))
                _log.warning("worker_taken_over", worker=row.id, jobs=released)

    def _is_dead(self, row: Row[Any]) -> bool:
        if row.heartbeat_at + HEARTBEAT_TIMEOUT < self._clock.now():
            return True
        return bool(row.host == socket.gethostname() and process_start(row.pid) != row.process_start)


def process_start(pid: int) -> str:
    """Return when a process of this host began, in the kernel's ticks since boot; empty when there is none.

    Together with its number it names a process for good: in a container every server is process 1.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return status.rpartition(")")[2].split()[19]  # field 22 of proc(5), counted after the name in parentheses
