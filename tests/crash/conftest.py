"""A real server process whose disk can be made to fail."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faults import FaultyDisk, compile_library
from benchmarks.processes import ServerProcess

SOURCE = Path(__file__).parent / "faults.c"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def disk(folder: Path) -> FaultyDisk:
    return FaultyDisk(folder / "switches", folder / "data")


@pytest.fixture(scope="module")
def server(disk: FaultyDisk, folder: Path) -> Iterator[ServerProcess]:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the fault injection with (Debian packages: gcc, libc6-dev)")
    library = compile_library(compiler, SOURCE, folder)
    with ServerProcess(folder, environment=disk.environment(library)) as process:
        process.wait_ready()
        yield process
