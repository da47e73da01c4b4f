"""The jobs of a worker that died or fell silent are taken over by another, once."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import closing

import pytest
from sqlalchemy import delete, insert, select, text

from kernel.db import Database, Transaction
from kernel.errors import Category, Problem
from kernel.jobs import Job, Jobs
from kernel.tables import workers
from kernel.testing import FakeClock, SequenceIds
from kernel.worker import Commit, Worker, running

from .queued import how_many, nothing, only


def test_a_dead_worker_s_jobs_are_taken_over_at_once_on_the_same_host(
    database: Database, jobs: Jobs, clock: FakeClock, worker_for
) -> None:
    import socket

    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    row = {"id": "dead", "host": socket.gethostname(), "pid": child, "process_start": "1", "heartbeat_at": clock.now()}
    database.write(lambda tx: tx.execute(insert(workers), row))
    database.write(lambda tx: jobs.enqueue(tx, "step", {}))
    assert database.write(lambda tx: jobs.claim(tx, "dead")) is not None
    worker = worker_for(step=lambda job: nothing)
    worker.register()
    assert worker.run_one()
    assert how_many(database) == 0


@pytest.mark.postgres
def test_two_workers_that_take_over_a_dead_one_at_the_same_time_lose_none_of_its_jobs(
    new_postgres_url: Callable[[], str], jobs: Jobs, clock: FakeClock, ids: SequenceIds
) -> None:
    url = new_postgres_url()
    with closing(Database.open(url)) as first, closing(Database.open(url)) as second:
        first.migrate()
        for study in ("a", "b", "c"):
            first.write(lambda tx, study=study: jobs.enqueue(tx, "step", {}, lock=study, queueing_lock=study))
        dead = {"id": "dead", "host": "elsewhere", "pid": 1, "process_start": "", "heartbeat_at": clock.now()}
        first.write(lambda tx: tx.execute(insert(workers), dead))
        assert len(first.write(lambda tx: jobs.claim_many(tx, "dead", 3))) == 3
        clock.advance(60)
        begun, go = threading.Event(), threading.Event()

        def take_over_and_wait(tx: Transaction) -> None:
            Worker(first, jobs, {}, clock, ids)._register(tx)
            begun.set()
            go.wait(20)

        taking = threading.Thread(target=first.write, args=(take_over_and_wait,))
        taking.start()
        assert begun.wait(10)
        late = threading.Thread(target=Worker(second, jobs, {}, clock, ids).register)
        late.start()
        until_one_waits_for_a_lock(first)
        go.set()
        taking.join()
        late.join()
        with first.read() as connection:
            assert [job.status for job in jobs.listing(connection)] == ["waiting"] * 3


def until_one_waits_for_a_lock(database: Database) -> None:
    waits = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with database.read() as connection:
            if connection.execute(waits).scalar_one():
                return
        time.sleep(0.01)
    raise AssertionError("nobody waits for a lock")


def test_another_process_with_the_dead_one_s_number_is_not_taken_for_it(
    database: Database, jobs: Jobs, clock: FakeClock, worker_for
) -> None:
    """In a container the server is process 1, before its kill and after."""
    import socket

    row = {
        "id": "dead",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_start": "1",
        "heartbeat_at": clock.now(),
    }
    database.write(lambda tx: tx.execute(insert(workers), row))
    database.write(lambda tx: jobs.enqueue(tx, "step", {}))
    assert database.write(lambda tx: jobs.claim(tx, "dead")) is not None
    worker = worker_for(step=lambda job: nothing)
    worker.register()
    assert worker.run_one()


def test_a_silent_worker_on_another_host_is_taken_over_after_its_missed_heartbeat(
    database: Database, jobs: Jobs, clock: FakeClock, worker_for
) -> None:
    row = {"id": "far", "host": "another-host", "pid": 1, "process_start": "", "heartbeat_at": clock.now()}
    database.write(lambda tx: tx.execute(insert(workers), row))
    database.write(lambda tx: jobs.enqueue(tx, "step", {}))
    slow = database.write(lambda tx: jobs.claim(tx, "far"))
    assert slow is not None
    worker = worker_for(step=lambda job: nothing)
    worker.register()
    assert not worker.run_one()
    clock.advance(31)
    worker.heartbeat()
    assert worker.run_one()
    with pytest.raises(Problem, match="taken over"):  # and the slow one can no longer save what it did
        database.write(lambda tx: jobs.finish(tx, slow))


def registered(database: Database) -> list[str]:
    with database.read() as connection:
        return sorted(row.id for row in connection.execute(select(workers)))


def test_a_worker_that_was_taken_for_dead_registers_again(database: Database, worker_for) -> None:
    """Its host was suspended, and another host took its jobs over: from its next heartbeat on it counts again."""
    worker = worker_for()
    worker.register()
    database.write(lambda tx: tx.execute(delete(workers)))
    worker.heartbeat()
    assert registered(database) == [worker.name]


def test_a_worker_that_has_stopped_does_not_register_again(database: Database, worker_for) -> None:
    worker = worker_for()
    worker.register()
    worker.stop()
    with pytest.raises(Problem, match="no worker"):
        worker.heartbeat()
    assert registered(database) == []


def test_what_a_worker_without_a_row_has_claimed_is_taken_over(database: Database, jobs: Jobs, worker_for) -> None:
    """It was taken for dead, claimed one more job, and died before it had registered again."""
    database.write(lambda tx: jobs.enqueue(tx, "step", {}, lock="study", queueing_lock="study"))
    assert database.write(lambda tx: jobs.claim(tx, "unknown")) is not None
    worker = worker_for(step=lambda _: nothing)
    worker.register()
    assert worker.run_one()
    assert how_many(database) == 0


def test_a_worker_whose_process_runs_on_this_host_is_not_taken_over_however_old_its_heartbeat(
    database: Database, clock: FakeClock, worker_for
) -> None:
    """The host was suspended: all heartbeats are old, and nobody is dead."""
    first, second = worker_for(), worker_for()
    first.register()
    second.register()
    clock.advance(3600)
    second.heartbeat()
    assert registered(database) == sorted([first.name, second.name])
    with database.read() as connection:
        assert [row.id for row in running(connection, clock.now())] == [second.name]


def test_a_job_that_was_taken_over_is_not_parked_by_the_worker_that_lost_it(
    database: Database, jobs: Jobs, clock: FakeClock, ids: SequenceIds
) -> None:
    parked: list[str] = []

    def step(job: Job) -> Commit:
        database.write(lambda tx: jobs.release(tx, job.worker or ""))
        return nothing

    worker = Worker(
        database, jobs, {"step": step}, clock, ids, threads=1, on_parked=lambda tx, job, problem: parked.append(job.id)
    )
    worker.register()
    database.write(lambda tx: jobs.enqueue(tx, "step", {}))
    assert worker.run_one()
    assert parked == []
    assert only(database, jobs).status == "waiting"


def test_a_job_whose_claim_was_committed_without_the_worker_knowing_is_run_all_the_same(
    database: Database, jobs: Jobs, worker_for, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection was lost between the COMMIT and its reply: the row names the worker, and no thread runs it."""
    worker = worker_for(step=lambda _: nothing)
    worker.register()
    database.write(lambda tx: jobs.enqueue(tx, "step", {}))
    write = database.write

    def without_reply(work: Callable[[Transaction], object]) -> None:
        write(work)
        raise Problem(Category.UNAVAILABLE, "the connection was lost")

    with monkeypatch.context() as lost:
        lost.setattr(database, "write", without_reply)
        with pytest.raises(Problem):
            worker.run_one()
    assert only(database, jobs).status == "running"
    worker.heartbeat()
    assert only(database, jobs).status == "waiting"
    assert worker.run_one()
    assert how_many(database) == 0


def test_a_heartbeat_leaves_the_jobs_that_run_alone(database: Database, jobs: Jobs, worker_for) -> None:
    def step(_job: Job) -> Commit:
        worker.heartbeat()
        assert only(database, jobs).status == "running"
        return nothing

    worker = worker_for(step=step)
    worker.register()
    database.write(lambda tx: jobs.enqueue(tx, "step", {}))
    assert worker.run_one()
    assert how_many(database) == 0


def test_a_job_that_gets_the_row_number_of_the_one_that_has_just_ended_stays_held(
    database: Database, jobs: Jobs, worker_for
) -> None:
    """SQLite uses the number of a deleted row again: a worker must not know its jobs by their numbers."""
    seen: list[tuple[str, int, str]] = []
    ended = threading.Event()

    def first(job: Job) -> Commit:
        seen.append((job.step, job.attempts, job.status))
        return lambda tx: jobs.enqueue(tx, "second", {})  # claimed in the transaction that deletes the first

    def second(job: Job) -> Commit:
        try:
            worker.heartbeat()
            seen.append((job.step, job.attempts, only(database, jobs).status))
        finally:
            ended.set()
        return nothing

    worker = worker_for(first=first, second=second)
    database.write(lambda tx: jobs.enqueue(tx, "first", {}))
    worker.start()
    assert ended.wait(20)
    worker.stop()
    assert seen == [("first", 1, "running"), ("second", 1, "running")]
    assert how_many(database) == 0
