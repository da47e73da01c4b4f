"""Fixtures for the tests of the kernel: the queue, and a worker that runs one job at a time."""

from collections.abc import Callable

import pytest

from kernel.db import Database
from kernel.jobs import Jobs
from kernel.testing import FakeClock, PlainCipher, SequenceIds
from kernel.worker import Worker


@pytest.fixture
def jobs(clock: FakeClock, ids: SequenceIds) -> Jobs:
    return Jobs(clock, ids, PlainCipher())


@pytest.fixture
def worker_for(database: Database, jobs: Jobs, clock: FakeClock, ids: SequenceIds) -> Callable[..., Worker]:
    return lambda **steps: Worker(database, jobs, steps, clock, ids, threads=1)
