"""Jobs with one lock that are done together: in their order, in one commit, and never one that is unlike the others."""

from datetime import timedelta
from typing import Any

import pytest

from kernel.db import Database
from kernel.errors import Category, Problem
from kernel.job_runs import finish_following, following
from kernel.jobs import Due, Job, Jobs, Priority
from kernel.testing import FakeClock, PlainCipher, SequenceIds


@pytest.fixture
def jobs(clock: FakeClock, ids: SequenceIds) -> Jobs:
    return Jobs(clock, ids, PlainCipher())


def enqueue(database: Database, jobs: Jobs, *numbers: int, step: str = "convert", **more: Any) -> None:
    for number in numbers:
        database.write(lambda tx, n=number: jobs.enqueue(tx, step, {"n": n}, **({"lock": "sender"} | more)))


def claim(database: Database, jobs: Jobs) -> Job | None:
    return database.write(lambda tx: jobs.claim(tx, "w"))


def numbers(found: list[Job]) -> list[int]:
    return [job.payload["n"] for job in found]


def behind(database: Database, job: Job | None, clock: FakeClock, most: int = 8) -> list[Job]:
    assert job is not None
    with database.read() as connection:
        return following(connection, job, most, clock.now())


def test_the_jobs_behind_one_are_done_in_its_commit_and_the_next_one_follows(
    database: Database, jobs: Jobs, clock: FakeClock
) -> None:
    enqueue(database, jobs, *range(6))
    enqueue(database, jobs, 10, lock="another")
    first = claim(database, jobs)
    assert first is not None
    others = behind(database, first, clock, most=3)
    assert numbers(others) == [1, 2, 3]

    def work(tx: Any) -> None:
        jobs.finish(tx, first)
        finish_following(tx, first, others[:2], clock.now())

    database.write(work)
    done = claim(database, jobs), claim(database, jobs), claim(database, jobs)
    assert sorted(numbers([job for job in done if job])) == [3, 10]
    with database.read() as connection:
        assert sorted(numbers(jobs.listing(connection))) == [3, 4, 5, 10]


@pytest.mark.parametrize(
    "unlike",
    [
        {"step": "assess"},
        {"priority": Priority.STAT},
        {"queueing_lock": "one"},
        {"due": Due(FakeClock().now() + timedelta(seconds=1))},
    ],
    ids=lambda it: next(iter(it)),
)
def test_nothing_behind_a_job_of_another_kind_is_done_before_it(
    database: Database, jobs: Jobs, clock: FakeClock, unlike: dict[str, Any]
) -> None:
    enqueue(database, jobs, 0, 1)
    enqueue(database, jobs, 2, **unlike)
    enqueue(database, jobs, 3)
    assert numbers(behind(database, claim(database, jobs), clock)) == [1]


def test_after_a_failure_a_job_is_done_alone_and_never_with_one_before_it(
    database: Database, jobs: Jobs, clock: FakeClock
) -> None:
    enqueue(database, jobs, 0, 1, 2)
    first = claim(database, jobs)
    assert first is not None
    database.write(lambda tx: jobs.fail(tx, first, Problem(Category.BUSY, "later")))
    clock.advance(60)
    again = claim(database, jobs)
    assert again is not None
    assert again.payload == {"n": 0}
    assert behind(database, again, clock) == []


def test_jobs_without_a_lock_and_of_the_background_have_none_behind_them(
    database: Database, jobs: Jobs, clock: FakeClock
) -> None:
    enqueue(database, jobs, 0, 1, lock=None)
    enqueue(database, jobs, 2, 3, lock="background")
    assert behind(database, claim(database, jobs), clock) == []
    background = database.write(lambda tx: jobs.claim(tx, "w", background=True))
    assert behind(database, background, clock) == []


def test_nothing_is_removed_when_a_person_replays_one_that_comes_before(
    database: Database, jobs: Jobs, clock: FakeClock
) -> None:
    enqueue(database, jobs, 0, 1, 2, 3)
    refused = claim(database, jobs)
    assert refused is not None
    database.write(lambda tx: jobs.fail(tx, refused, Problem(Category.INCORRECT, "no")))
    first = claim(database, jobs)
    assert first is not None
    others = behind(database, first, clock)
    assert numbers(others) == [2, 3]
    database.write(lambda tx: jobs.replay(tx, refused.id))

    def work(tx: Any) -> None:
        jobs.finish(tx, first)
        finish_following(tx, first, others, clock.now())

    with pytest.raises(Problem) as raised:
        database.write(work)
    assert raised.value.category is Category.BUSY
    with database.read() as connection:
        assert numbers(jobs.listing(connection)) == [0, 1, 2, 3]
    database.write(lambda tx: jobs.finish(tx, first))
    assert [job and job.payload["n"] for job in (claim(database, jobs), claim(database, jobs))] == [0, None]


def test_one_that_another_worker_has_ended_is_not_ended_twice(database: Database, jobs: Jobs, clock: FakeClock) -> None:
    enqueue(database, jobs, 0, 1, 2)
    first = claim(database, jobs)
    assert first is not None
    others = behind(database, first, clock)
    database.write(lambda tx: jobs.finish(tx, first))
    assert claim(database, jobs) is not None  # the first of the others
    with pytest.raises(Problem):
        database.write(lambda tx: finish_following(tx, first, others, clock.now()))
