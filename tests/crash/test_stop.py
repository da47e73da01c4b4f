"""After SIGTERM the server completes running requests, returns unfinished jobs to the queue, and exits."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.items import MAKERS, Interface
from benchmarks.processes import ServerProcess
from benchmarks.senders import TRANSPORTS

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server with running work."""
    with ServerProcess(tmp_path) as process:
        process.wait_ready()
        for interface in Interface:
            transport = TRANSPORTS[interface](process.ports)
            for number in range(1, 6):
                transport.send(MAKERS[interface]("S", number).payload)
            transport.close()
        yield process


def test_a_server_that_is_asked_to_stop_ends_by_itself(busy: ServerProcess) -> None:
    assert busy.stop() == 0

    with closing(sqlite3.connect(busy.data / "ausculta.db")) as database:
        assert database.execute("SELECT count(*) FROM jobs WHERE status = 'running'").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM workers").fetchone() == (0,)
    assert busy.command("audit", "verify").returncode == 0
