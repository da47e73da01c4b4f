"""A version is replaced while requests run: none fails, the old one is unloaded, and a rollback needs no loading."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from inference import registry
from inference.contract import NotAvailable, Prediction
from inference.folder import ModelFolder
from inference.model_files import ModelFiles
from inference.registry import ModelRow
from inference.runtime import Runtime
from inference.testing import NOW, ToyRunner, toy_folder, vitals
from kernel.db import Database


def folder_of(version: str) -> ModelFolder:
    number = "".join(f"{int(part):02}" for part in version.split("."))
    return replace(toy_folder(version=version), digest=number.rjust(64, "0"))


class Versions:
    """A runtime of a model of which new versions are made; each answers with its number."""

    def __init__(self, database: Database, parameters: int = 1) -> None:
        self.database = database
        self.parameters = parameters
        self.loads: list[str] = []
        self.alive: weakref.WeakSet[ToyRunner] = weakref.WeakSet()
        self.entered, self.go = threading.Event(), threading.Event()
        self.go.set()
        self.changes = 0
        self.runtime = Runtime(database, ModelFiles(Path("nowhere")), device="cpu", load=self.load)

    def load(self, _files: ModelFiles, row: ModelRow, device: str) -> ToyRunner:
        self.loads.append(row.version)
        weights = np.ones(self.parameters)
        number = float(row.version.split(".")[1])

        def think(items: Sequence[float]) -> Sequence[float]:
            self.entered.set()
            assert self.go.wait(30)
            return [number * weights[0] for _ in items]

        runner = ToyRunner(think, folder_of(row.version))
        self.alive.add(runner)
        return runner

    def add(self, version: str) -> None:
        self.changes += 1
        at = NOW + timedelta(seconds=self.changes)
        self.database.write(lambda tx: registry.register(tx, folder_of(version), "shadow", by="ada", at=at))

    def activate(self, version: str) -> None:
        self.changes += 1
        at = NOW + timedelta(seconds=self.changes)
        self.database.write(lambda tx: registry.set_status(tx, "toy", version, "active", by="ada", at=at))

    def ask(self) -> float | None:
        outcome = self.runtime.predict("toy", vitals())
        assert isinstance(outcome, Prediction), outcome
        return outcome.outputs[0].value


@pytest.fixture
def versions_of(sqlite: Database) -> Iterator[Callable[..., Versions]]:
    made: list[Versions] = []

    def make(**options: int) -> Versions:
        made.append(Versions(sqlite, **options))
        made[-1].add("1.0.0")
        made[-1].activate("1.0.0")
        return made[-1]

    yield make
    for one in made:
        one.go.set()
        one.runtime.close()


def test_no_request_fails_while_versions_are_swapped(versions_of: Callable[..., Versions]) -> None:
    versions, done = versions_of(), threading.Event()

    def ask_until_done() -> list[float | None]:
        found = [versions.ask()]
        while not done.is_set():
            found.append(versions.ask())
        return found

    with ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(ask_until_done) for _ in range(4)]
        for number in range(1, 11):
            versions.add(f"1.{number}.0")
            versions.activate(f"1.{number}.0")
            versions.ask()
        done.set()
        answers = [caller.result(60) for caller in callers]
    assert all(found == sorted(found) for found in answers), "no caller meets an older version after a newer one"
    assert versions.ask() == 10


def test_a_request_that_runs_during_a_swap_is_answered_by_the_version_that_it_began_with(
    versions_of: Callable[..., Versions],
) -> None:
    versions = versions_of()
    versions.go.clear()
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(versions.ask)
        assert versions.entered.wait(20)
        for version in ("1.1.0", "1.2.0", "1.3.0"):
            versions.add(version)
            versions.activate(version)
            pool.submit(versions.runtime.is_ready, versions.runtime._row("toy", None)).result(20)
        versions.go.set()
        assert running.result(20) == 0
    assert versions.ask() == 3


def test_work_that_began_with_a_version_completes_with_it_when_it_is_replaced_before_the_model_runs(
    versions_of: Callable[..., Versions],
) -> None:
    versions = versions_of()
    versions.add("1.1.0")
    versions.activate("1.1.0")
    begun = versions.runtime.predict("toy", vitals(), version="1.0.0", begun_as="active")
    assert isinstance(begun, Prediction)
    assert (begun.model.version, begun.model.status) == ("1.0.0", "active")
    for new in (
        versions.runtime.predict("toy", vitals(), version="1.0.0"),
        versions.runtime.predict("toy", vitals(), version="1.0.0", begun_as="retired"),
    ):
        assert isinstance(new, NotAvailable)
        assert new.reason == "the model is retired"


def test_a_stop_holds_for_work_that_has_begun(versions_of: Callable[..., Versions]) -> None:
    versions = versions_of()
    versions.database.write(lambda tx: registry.stop(tx, None, "recall", by="ada", at=NOW))
    outcome = versions.runtime.predict("toy", vitals(), version="1.0.0", begun_as="active")
    assert isinstance(outcome, NotAvailable)
    assert outcome.kind == "stopped"


def test_a_rollback_loads_nothing(versions_of: Callable[..., Versions]) -> None:
    versions = versions_of()
    assert versions.ask() == 0
    versions.add("1.1.0")
    versions.activate("1.1.0")
    assert versions.ask() == 1
    versions.activate("1.0.0")
    assert versions.ask() == 0
    versions.activate("1.1.0")
    assert versions.ask() == 1
    assert versions.loads == ["1.0.0", "1.1.0"]


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


def test_fifty_swaps_keep_two_versions_and_no_memory(versions_of: Callable[..., Versions]) -> None:
    """Each version has parameters of 32 MiB, so that one that stayed would be seen."""
    versions = versions_of(parameters=4 * 2**20)
    sizes, threads = [], []
    for number in range(1, 51):
        versions.add(f"1.{number}.0")
        versions.activate(f"1.{number}.0")
        assert versions.ask() == number
        gc.collect()
        assert len(versions.alive) <= 2, "the active version and the one before it"
        sizes.append(resident_bytes())
        threads.append(threading.active_count())
    assert max(sizes[-5:]) < 1.05 * max(sizes[2:7])
    assert max(threads[-5:]) <= max(threads[2:7]) + 2
