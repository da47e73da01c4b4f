"""A FHIR server on loopback with a database in a file, and a client."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.db import Database

from .harness import Server, running


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy: cheaper than migrating one for each test."""
    path = tmp_path_factory.mktemp("template") / "empty.db"
    database = Database.open(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Server]:
    """A server for tests that do not affect one another."""
    folder = tmp_path_factory.mktemp("lasting")
    shutil.copy(empty_database, folder / "fhir.db")
    with running(folder) as started:
        yield started


@pytest.fixture
def server(tmp_path: Path, empty_database: Path) -> Iterator[Server]:
    shutil.copy(empty_database, tmp_path / "fhir.db")
    with running(tmp_path) as started:
        yield started
