"""Fixtures for all tests: time, ids, real databases, a private PostgreSQL cluster on loopback."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, text

from benchmarks.cluster import cluster, programs
from kernel.db import Database
from kernel.testing import FakeClock, SequenceIds

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


#: Seconds that the clients of the tests wait where they state no time: a busy machine is no silent server. Each client
#: of the product states how long it waits.
for _wait in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _wait, 60.0)


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


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[str]:
    """URL prefix of a PostgreSQL server of our own, on loopback, removed with the session."""
    if programs() is None:
        pytest.skip("PostgreSQL's server programs are not installed (Debian package: postgresql)")
    with cluster() as prefix:
        yield prefix


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
