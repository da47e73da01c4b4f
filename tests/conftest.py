"""Fixtures for all tests: time, ids, real databases, a private PostgreSQL cluster on loopback."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from kernel.db import Database
from kernel.testing import FakeClock, SequenceIds

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


MUST_NOT_SKIP = tuple(os.environ.get("MUST_NOT_SKIP", "").split())
"""Debian packages that this run has installed: a test that is skipped because one of them is missing has failed."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[object]:
    """Report a skip as a failure when the missing program was installed."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple) and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2]
        if any(package in reason.lower() for package in MUST_NOT_SKIP):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} must not skip here: {reason}"
    return report


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on, or leaks, a setting of the shell it was started from."""
    for name in list(os.environ):
        if name.startswith("AUSCULTA_"):
            monkeypatch.delenv(name)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ids() -> SequenceIds:
    return SequenceIds()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and standards' tables, beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return SHARED


def _postgres_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def _as_server_user(folder: Path, command: list[str]) -> list[str]:
    if os.geteuid() != 0:
        return command
    shutil.chown(folder, "postgres")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]


@pytest.fixture(scope="session")
def postgres_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL prefix of a PostgreSQL server of our own, on loopback, removed with the session."""
    programs = _postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL's server programs are not installed (Debian package: postgresql)")
    folder = Path("/tmp") / f"ausculta-pg-{os.getpid()}"
    folder.mkdir(mode=0o700)
    data = folder / "data"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(*command: str) -> None:
        subprocess.run(_as_server_user(folder, list(command)), check=True, capture_output=True, cwd=folder)

    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c max_connections=200"
    try:
        run(str(programs / "initdb"), "-D", str(data), "-U", "ausculta", "-A", "trust", "-E", "UTF8", "--no-locale")
        run(str(programs / "pg_ctl"), "-D", str(data), "-o", options, "-w", "-l", str(folder / "log"), "start")
        yield f"postgresql+psycopg://ausculta@127.0.0.1:{port}"
        run(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_postgres_url(postgres_cluster: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Make an empty database in the private cluster and give its URL."""
    made: list[str] = []
    engine = create_engine(f"{postgres_cluster}/postgres", isolation_level="AUTOCOMMIT")

    def new() -> str:
        name = f"t{abs(hash(request.node.nodeid))}_{len(made)}"
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            connection.execute(text(f"CREATE DATABASE {name}"))
        made.append(name)
        return f"{postgres_cluster}/{name}"

    yield new
    with engine.connect() as connection:
        for name in made:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A migrated, empty database of each kind: the same contract holds on both."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/ausculta.db"
    else:
        url = request.getfixturevalue("new_postgres_url")()
    opened = Database.open(url)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    """A migrated, empty SQLite database."""
    opened = Database.open(f"sqlite:///{tmp_path}/ausculta.db")
    opened.migrate()
    yield opened
    opened.close()
