"""Which of the waiting jobs runs next: by priority, one of each lock in its order, and fairly between locks."""

from datetime import timedelta
from typing import Any

from sqlalchemy import func, select

from kernel.db import Database, Transaction
from kernel.errors import Category, Problem
from kernel.jobs import Due, Job, Jobs, Priority
from kernel.tables import jobs as jobs_table
from kernel.testing import FakeClock, SequenceIds
from kernel.worker import Commit, Worker


def claimed(database: Database, jobs: Jobs) -> Any:
    job = database.write(lambda tx: jobs.claim(tx, "w"))
    return None if job is None else job.payload["n"]


def test_of_several_that_are_due_the_one_with_the_lowest_priority_runs(
    database: Database, jobs: Jobs, clock: FakeClock
) -> None:
    for number, priority in enumerate((Priority.ROUTINE, Priority.DELIVERY, Priority.STAT, Priority.DELIVERY)):
        database.write(lambda tx, n=number, p=priority: jobs.enqueue(tx, "step", {"n": n}, priority=p))
        clock.advance(1)
    later = clock.now() + timedelta(seconds=1)
    database.write(lambda tx: jobs.enqueue(tx, "step", {"n": 4}, priority=Priority.STAT, due=Due(later)))
    assert [claimed(database, jobs) for _ in range(5)] == [2, 1, 3, 0, None]


def test_the_backlog_of_one_sender_lets_the_jobs_of_others_run_between_its_own(
    database: Database, jobs: Jobs, clock: FakeClock, ids: SequenceIds
) -> None:
    done: list[int] = []

    def step(job: Job) -> Commit:
        clock.advance(1)
        done.append(job.payload["n"])
        return lambda _: None

    for number in range(4):
        database.write(lambda tx, n=number: jobs.enqueue(tx, "step", {"n": n}, lock="backlog"))
    clock.advance(1)
    for number in (10, 11):
        database.write(lambda tx, n=number: jobs.enqueue(tx, "step", {"n": n}, lock=f"other {n}"))
    worker = Worker(database, jobs, {"step": step}, clock, ids, threads=1)
    while worker.run_one():
        pass
    assert done == [0, 10, 11, 1, 2, 3]


def test_a_replayed_job_keeps_its_place_before_those_with_the_same_lock(database: Database, jobs: Jobs) -> None:
    """It was parked, and a later one with its lock runs when a person replays it; a third waits."""
    for number in range(3):
        database.write(lambda tx, n=number: jobs.enqueue(tx, "step", {"n": n}, lock="patient"))
    first = database.write(lambda tx: jobs.claim(tx, "w"))
    assert first is not None
    assert database.write(lambda tx: jobs.fail(tx, first, Problem(Category.INCORRECT, "no")))
    second = database.write(lambda tx: jobs.claim(tx, "w"))
    assert second is not None
    assert database.write(lambda tx: jobs.replay(tx, first.id))
    assert claimed(database, jobs) is None
    database.write(lambda tx: jobs.finish(tx, second))
    assert claimed(database, jobs) == 0
    assert claimed(database, jobs) is None


def test_looking_for_a_job_does_not_walk_through_those_that_wait_for_a_lock(sqlite: Database, jobs: Jobs) -> None:
    def backlog(tx: Transaction) -> None:
        for number in range(200):
            jobs.enqueue(tx, "step", {"n": number}, lock="one sender")

    sqlite.write(backlog)
    statements: list[str] = []
    sqlite.write(lambda tx: tx.connection.connection.dbapi_connection.set_trace_callback(statements.append))  # type: ignore[union-attr]
    assert claimed(sqlite, jobs) == 0
    (claim,) = [it for it in statements if it.startswith("\nUPDATE jobs")]
    with sqlite.read() as connection:
        plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {claim}")]
        ready = connection.execute(select(func.count()).where(jobs_table.c.ready == 1)).scalar_one()
    assert ready == 1
    assert all("SCAN" not in step for step in plan), plan
    assert sum("jobs_claimable (priority=? AND scheduled_at<?)" in step for step in plan) == len(Priority) + 1
