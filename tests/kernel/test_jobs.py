"""Jobs: durable, in order per lock, debounced per queueing lock, retried, parked with the reason, taken over."""

import threading
import time
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from kernel.db import Database, Transaction
from kernel.errors import Category, Problem
from kernel.jobs import (
    BACKGROUND,
    DEATHS_BEFORE_PARKING,
    FAULTS_BEFORE_PARKING,
    LOOKS_EVERY,
    Due,
    Job,
    Jobs,
    pause_after,
)
from kernel.lanes import background_of
from kernel.tables import jobs as jobs_table
from kernel.tables import workers
from kernel.testing import FakeClock
from kernel.worker import Commit, Worker

from .queued import how_many, nothing, only


def test_a_job_exists_only_if_its_transaction_commits(database: Database, jobs: Jobs) -> None:
    def spoilt(tx: Transaction) -> None:
        jobs.enqueue(tx, "step", {})
        raise Problem(Category.INCORRECT, "no")

    with pytest.raises(Problem):
        database.write(spoilt)
    assert database.write(lambda tx: jobs.claim(tx, "w")) is None


def test_a_step_s_commit_and_its_completion_are_one(database: Database, jobs: Jobs, worker_for) -> None:
    database.write(lambda tx: jobs.enqueue(tx, "step", {"n": 1}))

    def step(job: Job) -> Commit:
        def commit(tx: Transaction) -> None:
            assert tx.execute(select(func.count()).select_from(jobs_table)).scalar_one() == 0
            jobs.enqueue(tx, "next", {"n": job.payload["n"] + 1})

        return commit

    assert worker_for(step=step).run_one()
    assert only(database, jobs).payload == {"n": 2}


def test_jobs_with_one_lock_run_one_at_a_time_in_order(database: Database, jobs: Jobs) -> None:
    for number in range(2):
        database.write(lambda tx, number=number: jobs.enqueue(tx, "step", {"n": number}, lock="patient"))
    first = database.write(lambda tx: jobs.claim(tx, "w"))
    assert first is not None
    assert first.payload == {"n": 0}
    assert database.write(lambda tx: jobs.claim(tx, "w")) is None
    database.write(lambda tx: jobs.finish(tx, first))
    second = database.write(lambda tx: jobs.claim(tx, "w"))
    assert second is not None
    assert second.payload == {"n": 1}


def test_a_job_in_its_pause_keeps_its_place_before_those_with_the_same_lock(
    database: Database, jobs: Jobs, clock: FakeClock
) -> None:
    for number in range(2):
        database.write(lambda tx, number=number: jobs.enqueue(tx, "step", {"n": number}, lock="patient"))
    first = database.write(lambda tx: jobs.claim(tx, "w"))
    assert first is not None
    database.write(lambda tx: jobs.fail(tx, first, Problem(Category.UNAVAILABLE, "away")))
    assert database.write(lambda tx: jobs.claim(tx, "w")) is None
    clock.advance(1)
    again = database.write(lambda tx: jobs.claim(tx, "w"))
    assert again is not None
    assert again.payload == {"n": 0}


def test_only_one_job_waits_per_queueing_lock_and_another_may_move_it(
    database: Database, jobs: Jobs, clock: FakeClock
) -> None:
    for quiet in (30, 60):
        later = clock.now() + timedelta(seconds=quiet)
        database.write(
            lambda tx, later=later: jobs.enqueue(tx, "study", {}, queueing_lock="study:1", due=Due(later, "move"))
        )
    clock.advance(59)
    assert database.write(lambda tx: jobs.claim(tx, "w")) is None
    clock.advance(1)
    assert database.write(lambda tx: jobs.claim(tx, "w")) is not None
    assert database.write(lambda tx: jobs.claim(tx, "w")) is None


def test_a_lock_is_pending_while_its_job_waits_or_runs(database: Database, jobs: Jobs) -> None:
    def pending(lock: str) -> bool:
        with database.read() as connection:
            return jobs.is_pending(connection, lock)

    database.write(lambda tx: jobs.enqueue(tx, "step", {}, lock="a"))
    assert (pending("a"), pending("b")) == (True, False)
    job = database.write(lambda tx: jobs.claim(tx, "w"))
    assert job is not None
    assert pending("a")
    database.write(lambda tx: jobs.fail(tx, job, Problem(Category.INCORRECT, "parked")))
    assert not pending("a")


def test_a_job_may_wait_while_another_with_its_queueing_lock_runs(database: Database, jobs: Jobs) -> None:
    database.write(lambda tx: jobs.enqueue(tx, "step", {}, lock="l", queueing_lock="q"))
    running = database.write(lambda tx: jobs.claim(tx, "w"))
    assert running is not None
    database.write(lambda tx: jobs.enqueue(tx, "step", {}, lock="l", queueing_lock="q"))
    assert how_many(database) == 2
    database.write(lambda tx: jobs.finish(tx, running))
    assert database.write(lambda tx: jobs.claim(tx, "w")) is not None


@pytest.mark.parametrize("category", [Category.UNAVAILABLE, Category.BUSY, Category.INTERRUPTED])
def test_a_temporary_problem_is_retried_without_limit_after_growing_pauses(
    category: Category, database: Database, jobs: Jobs, clock: FakeClock, worker_for
) -> None:
    def step(job: Job) -> Commit:
        raise Problem(category, "later")

    database.write(lambda tx: jobs.enqueue(tx, "step", {}))
    worker = worker_for(step=step)
    for attempt in range(1, 12):
        assert worker.run_one()
        job = only(database, jobs)
        assert (job.status, job.attempts) == ("waiting", attempt)
        assert job.scheduled_at - clock.now() == pause_after(attempt)
        assert not worker.run_one()
        clock.advance(60)
    assert pause_after(1) == timedelta(seconds=1)
    assert pause_after(12) == timedelta(seconds=60)


@pytest.mark.parametrize(
    "category",
    [Category.INCORRECT, Category.NOT_FOUND, Category.CONFLICT, Category.FORBIDDEN, Category.UNSUPPORTED],
)
def test_a_permanent_problem_is_parked_immediately_with_the_reason(
    category: Category, database: Database, jobs: Jobs, worker_for
) -> None:
    def step(job: Job) -> Commit:
        raise Problem(category, "PID-3 is empty", diagnostics="secret")

    database.write(lambda tx: jobs.enqueue(tx, "step", {}))
    worker_for(step=step).run_one()
    job = only(database, jobs)
    assert job.status == "parked"
    assert job.problem is not None
    assert (job.problem.category, job.problem.detail, job.problem.diagnostics) == (category, "PID-3 is empty", "")


def test_a_broken_step_is_tried_again_and_then_parked_and_a_person_can_replay_it(
    database: Database, jobs: Jobs, clock: FakeClock, worker_for
) -> None:
    broken = True

    def step(job: Job) -> Commit:
        if broken:
            raise ZeroDivisionError
        return nothing

    database.write(lambda tx: jobs.enqueue(tx, "step", {}))
    worker = worker_for(step=step)
    for _ in range(FAULTS_BEFORE_PARKING):
        worker.run_one()
        clock.advance(60)
    parked = only(database, jobs)
    assert parked.status == "parked"
    broken = False
    assert database.write(lambda tx: jobs.replay(tx, parked.id))
    assert worker.run_one()
    assert how_many(database) == 0


def test_an_unknown_step_is_parked(database: Database, jobs: Jobs, worker_for) -> None:
    database.write(lambda tx: jobs.enqueue(tx, "nonsense", {}))
    worker_for().run_one()
    assert only(database, jobs).status == "parked"


def test_a_failing_job_passes_its_pause_to_the_waiting_job(database: Database, jobs: Jobs, clock: FakeClock) -> None:
    database.write(lambda tx: jobs.enqueue(tx, "deliver", {}, lock="d", queueing_lock="d"))
    running = database.write(lambda tx: jobs.claim(tx, "w"))
    assert running is not None
    database.write(lambda tx: jobs.enqueue(tx, "deliver", {}, lock="d", queueing_lock="d"))
    database.write(lambda tx: jobs.fail(tx, running, Problem(Category.UNAVAILABLE, "away")))
    assert only(database, jobs).attempts == 1
    assert database.write(lambda tx: jobs.claim(tx, "w")) is None
    clock.advance(1)
    assert database.write(lambda tx: jobs.claim(tx, "w")) is not None


def test_a_job_whose_worker_dies_repeatedly_is_parked(database: Database, jobs: Jobs) -> None:
    database.write(lambda tx: jobs.enqueue(tx, "step", {}))
    for death in range(DEATHS_BEFORE_PARKING):
        assert database.write(lambda tx, death=death: jobs.claim(tx, f"worker-{death}")) is not None
        database.write(lambda tx, death=death: jobs.release(tx, f"worker-{death}"))
    parked = only(database, jobs)
    assert parked.status == "parked"
    assert parked.problem is not None
    assert "died" in parked.problem.detail


def test_a_stopping_worker_finishes_what_it_holds(database: Database, jobs: Jobs, clock, ids) -> None:
    begun, go = threading.Event(), threading.Event()

    def step(job: Job) -> Commit:
        begun.set()
        go.wait(10)
        return nothing

    worker = Worker(database, jobs, {"step": step}, clock, ids, threads=2)
    worker.start()
    database.write(lambda tx: jobs.enqueue(tx, "step", {}))
    assert begun.wait(10)
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    go.set()
    stopper.join(10)
    assert how_many(database) == 0
    with database.read() as connection:
        assert connection.execute(select(workers)).all() == []


def test_a_worker_is_woken_by_the_commit_that_enqueues(database: Database, jobs: Jobs, clock, ids) -> None:
    """No polling: without a signal the worker would sleep until its next heartbeat."""
    done = threading.Event()

    def step(job: Job) -> Commit:
        return lambda tx: done.set()

    worker = Worker(database, jobs, {"step": step}, clock, ids, threads=1)
    worker.start()
    try:
        database.write(lambda tx: jobs.enqueue(tx, "step", {}))
        assert done.wait(3)
    finally:
        worker.stop()


def test_a_commit_wakes_one_thread_and_the_others_look_for_nothing(
    database: Database, jobs: Jobs, clock, ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[bool] = []
    claim = jobs.claim

    def counting(tx: Transaction, worker: str, *, background: bool = False) -> Job | None:
        looked.append(background)
        return claim(tx, worker, background=background)

    monkeypatch.setattr(jobs, "claim", counting)
    done = threading.Event()
    worker = Worker(database, jobs, {"step": lambda _: lambda _: done.set()}, clock, ids, threads=4)
    worker.start()
    database.write(lambda tx: jobs.enqueue(tx, "step", {}))
    assert done.wait(10)
    worker.stop()
    assert looked == [False, False, False]  # twice when woken, and once in the transaction that finished the job


def test_as_many_jobs_as_there_are_idle_threads_are_claimed_in_one_transaction(
    database: Database, jobs: Jobs, clock, ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims: list[int] = []
    claim_many = jobs.claim_many

    def counting(tx: Transaction, worker: str, most: int, *, background: bool = False) -> list[Job]:
        found = claim_many(tx, worker, most, background=background)
        claims.append(len(found))
        return found

    monkeypatch.setattr(jobs, "claim_many", counting)
    together = threading.Barrier(5)

    def step(job: Job) -> Commit:
        together.wait(10)
        return nothing

    worker = Worker(database, jobs, {"step": step}, clock, ids, threads=4)
    worker.start()
    until = time.monotonic() + 10
    while worker.idle < 4 and time.monotonic() < until:
        time.sleep(0.001)

    def four(tx: Transaction) -> None:
        for _ in range(4):
            jobs.enqueue(tx, "step", {})

    database.write(four)
    together.wait(10)
    worker.stop()
    assert claims[0] == 4
    assert how_many(database) == 0


def test_a_job_that_is_due_later_than_the_next_look_wakes_nobody(database: Database, jobs: Jobs, clock) -> None:
    def signals(due: Due) -> set[str]:
        def enqueue(tx: Transaction) -> set[str]:
            jobs.enqueue(tx, "step", {}, due=due)
            return set(tx.channels)

        return database.write(enqueue)

    assert signals(Due(clock.now() + LOOKS_EVERY + timedelta(seconds=1))) == set()
    assert signals(Due(clock.now() + timedelta(seconds=1))) == {"jobs"}


@pytest.mark.parametrize(("others_wait", "expected"), [(False, 8), (True, 12)])
def test_the_transaction_that_finishes_a_job_claims_the_next_unless_others_wait_for_the_writer(
    database: Database, jobs: Jobs, worker_for, monkeypatch: pytest.MonkeyPatch, others_wait: bool, expected: int
) -> None:
    for number in range(5):
        database.write(lambda tx, n=number: jobs.enqueue(tx, "step", {"n": n}, lock="one"))
    done: list[int] = []
    all_done = threading.Event()

    def step(job: Job) -> Commit:
        def commit(tx: Transaction) -> None:
            done.append(job.payload["n"])
            if len(done) == 5:
                all_done.set()

        return commit

    worker = worker_for(step=step)
    writes: list[object] = []
    write = database.write
    monkeypatch.setattr(database, "write", lambda work: (writes.append(work), write(work))[1])
    monkeypatch.setattr(database, "others_wait", lambda: others_wait)
    worker.start()
    assert all_done.wait(10)
    worker.stop()
    assert done == [0, 1, 2, 3, 4]
    assert len(writes) == expected  # register, claim the first or each, finish five, unregister


def test_a_next_job_is_not_claimed_by_a_commit_that_fails(database: Database, jobs: Jobs, clock, ids) -> None:
    for number in range(2):
        database.write(lambda tx, n=number: jobs.enqueue(tx, "step", {"n": n}))
    done = threading.Event()

    def step(job: Job) -> Commit:
        def commit(_: Transaction) -> None:
            if job.payload["n"] == 0:
                raise Problem(Category.INCORRECT, "no")
            done.set()

        return commit

    worker = Worker(database, jobs, {"step": step}, clock, ids, threads=1)
    worker.start()
    assert done.wait(10)
    worker.stop()
    parked = only(database, jobs)
    assert (parked.payload["n"], parked.status, parked.attempts) == (0, "parked", 1)


def test_a_worker_without_threads_runs_nothing(database: Database, jobs: Jobs, clock, ids) -> None:
    worker = Worker(database, jobs, {"step": lambda _: nothing}, clock, ids, threads=0)
    worker.start()
    database.write(lambda tx: jobs.enqueue(tx, "step", {}, lock=BACKGROUND))
    database.write(lambda tx: jobs.enqueue(tx, "step", {}))
    worker.stop()
    assert how_many(database) == 2
    assert worker.run_one()  # the caller's thread still can


def test_a_job_of_the_background_that_waits_to_be_tried_again_holds_up_its_own_lock_alone(
    database: Database, jobs: Jobs, clock, ids
) -> None:
    done: list[str] = []

    def step(job: Job) -> Commit:
        if job.payload["of"] == "far":
            raise Problem(Category.UNAVAILABLE, "not there")
        done.append(job.payload["of"])
        return nothing

    for of, lock in (("far", background_of("far")), ("far", background_of("far")), ("near", BACKGROUND)):
        database.write(lambda tx, of=of, lock=lock: jobs.enqueue(tx, "step", {"of": of}, lock=lock))  # type: ignore[misc]
    worker = Worker(database, jobs, {"step": step}, clock, ids, threads=0)
    while worker.run_one():
        pass
    assert done == ["near"]
    assert how_many(database) == 2
    with database.read() as connection:
        assert jobs.next_due(connection) is None
        assert jobs.next_due(connection, background=True) is not None


def test_many_workers_do_each_job_exactly_once(database: Database, jobs: Jobs, clock, ids) -> None:
    done: list[int] = []
    all_done = threading.Event()

    def step(job: Job) -> Commit:
        done.append(job.payload["n"])
        if len(done) == 60:
            all_done.set()
        return nothing

    pool = [Worker(database, jobs, {"step": step}, clock, ids, threads=3) for _ in range(2)]
    for worker in pool:
        worker.start()
    for number in range(60):
        database.write(lambda tx, n=number: jobs.enqueue(tx, "step", {"n": n}, lock=f"lock-{n % 5}"))
    assert all_done.wait(30)
    for worker in pool:
        worker.stop()
    assert sorted(done) == list(range(60))
    for lock in range(5):
        assert [n for n in done if n % 5 == lock] == list(range(lock, 60, 5))


def test_when_the_clock_is_set_back_a_job_waits_no_longer_than_its_pause(
    database: Database, jobs: Jobs, clock: FakeClock, worker_for
) -> None:
    def fail(_job: Job) -> Commit:
        raise Problem(Category.UNAVAILABLE, "not now")

    worker: Worker = worker_for(step=fail)
    worker.register()
    database.write(lambda tx: jobs.enqueue(tx, "step", {}))
    database.write(lambda tx: jobs.enqueue(tx, "step", {}, due=Due(clock.now() + timedelta(hours=2))))
    assert worker.run_one()
    clock.advance(-3600)
    assert database.write(lambda tx: jobs.claim(tx, "w")) is None
    worker.heartbeat()
    clock.advance(pause_after(1).total_seconds())
    assert database.write(lambda tx: jobs.claim(tx, "w")) is not None
    assert database.write(lambda tx: jobs.claim(tx, "w")) is None
    clock.advance(2 * 3600)
    assert database.write(lambda tx: jobs.claim(tx, "w")) is not None
