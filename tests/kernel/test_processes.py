"""Processes that share a SQLite file: they take turns to write, and a commit of one wakes the others."""

import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from sqlalchemy import text

from kernel.clock import RandomIds, SystemClock
from kernel.db import Database
from kernel.jobs import Job, Jobs
from kernel.testing import PlainCipher
from kernel.worker import Commit, Worker

SECONDS = 1.5


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ausculta.db'}"


@pytest.fixture
def opened(url: str) -> Iterator[Database]:
    database = Database.open(url)
    database.migrate()
    database.write(lambda tx: tx.execute(text("CREATE TABLE turns (n INTEGER PRIMARY KEY)")))
    yield database
    database.close()


@pytest.fixture
def other(url: str) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start a second process on the database."""
    started: list[subprocess.Popen[str]] = []

    def start(what: str, *words: str) -> "subprocess.Popen[str]":
        arguments = [sys.executable, str(Path(__file__).with_name("two_processes.py")), what, url, *words]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        output(process).close()


def output(process: "subprocess.Popen[str]") -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def test_two_processes_that_write_without_a_pause_both_get_their_turns(opened: Database, other) -> None:
    """SQLite's own waiting keeps one of them out for 0.7 to 1 s, and gives one of them nearly all commits."""
    writers = [other("write", str(SECONDS)) for _ in range(2)]
    ended = [output(writer).read().split() for writer in writers]
    commits, waits = [int(one[1]) for one in ended], [float(one[2]) for one in ended]
    assert min(commits) > 0.5 * max(commits), commits
    assert max(waits) < 0.3, waits


def test_a_process_that_is_killed_while_it_writes_lets_the_others_write(opened: Database, other) -> None:
    holder = other("hold")
    assert output(holder).readline() == "holding\n"
    done = threading.Event()

    def write() -> None:
        opened.write(lambda tx: tx.execute(text("INSERT INTO turns DEFAULT VALUES")))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert not done.wait(0.2)
    holder.kill()
    assert done.wait(10)
    writer.join()


def test_a_commit_of_one_process_wakes_the_worker_of_another(opened: Database, other) -> None:
    """The worker would look by itself after five seconds only."""
    done = threading.Event()

    def step(_job: Job) -> Commit:
        return lambda _tx: done.set()

    worker = Worker(opened, Jobs(SystemClock(), RandomIds(), PlainCipher()), {"step": step}, SystemClock(), RandomIds())
    worker.start()
    try:
        assert other("enqueue").wait(30) == 0
        assert done.wait(2)
    finally:
        worker.stop()


def test_the_socket_of_a_process_that_died_is_removed(opened: Database, tmp_path: Path, url: str) -> None:
    sockets = tmp_path / "ausculta.db-signals"
    waiting = (
        "import os; from kernel.db import Database; "
        f"Database.open({url!r}).signals.generation('jobs'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", waiting], check=False)
    assert len(list(sockets.iterdir())) == 1
    opened.signals.send(["jobs"])
    assert list(sockets.iterdir()) == []


def test_a_folder_with_a_long_path_has_sockets_too(tmp_path: Path) -> None:
    folder = tmp_path / ("hospital-" * 12)
    first, second = (Database.open(f"sqlite:///{folder / 'ausculta.db'}") for _ in range(2))
    generation = first.signals.generation("jobs")
    second.signals.send(["jobs"])
    first.signals.wait("jobs", generation, 10)
    assert first.signals.generation("jobs") == generation + 1
    first.close()
    second.close()


def test_a_closed_database_holds_no_file_open(tmp_path: Path) -> None:
    def opened() -> int:
        gc.collect()  # the connections of this thread end with the object
        return len(list(Path("/proc/self/fd").iterdir()))

    def use() -> None:
        database = Database.open(f"sqlite:///{tmp_path / ('long-' * 20) / 'ausculta.db'}")
        database.signals.generation("jobs")
        database.write(lambda tx: tx.execute(text("SELECT 1")))
        with database.read() as connection:
            connection.execute(text("SELECT 1"))
        database.close()

    use()
    before = opened()
    for _ in range(5):
        use()
    assert opened() == before
