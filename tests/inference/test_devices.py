"""Several devices: a request goes to the one with the least load, and one whose queue is full is passed over."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from inference import registry
from inference.batching import QueueLimits
from inference.contract import Outcome, Prediction
from inference.devices import DeviceName, devices_of
from inference.model_files import ModelFiles
from inference.registry import ModelRow
from inference.runtime import Runtime
from inference.testing import NOW, ToyRunner, toy_folder, vitals
from kernel.db import Database
from kernel.errors import Category, Problem

TWO = (DeviceName(kind="cpu"), DeviceName(kind="cpu"))


class Station:
    """Two stand-ins for devices; each replica waits, at each batch, until it is let go on."""

    def __init__(self, database: Database) -> None:
        folder = toy_folder()
        database.write(lambda tx: registry.register(tx, folder, "active", by="ada", at=NOW))
        self.entered: list[threading.Semaphore] = []
        self.go: list[threading.Semaphore] = []
        self.ran: list[int] = []

        def load(_files: ModelFiles, _row: ModelRow, device: str) -> ToyRunner:
            place = len(self.go)
            self.entered.append(threading.Semaphore(0))
            self.go.append(threading.Semaphore(0))

            def think(items: Sequence[float]) -> Sequence[float]:
                self.entered[place].release()
                assert self.go[place].acquire(timeout=30)
                self.ran.append(place)
                return items

            return ToyRunner(think, folder)

        limits = QueueLimits(longest_queue=1, largest_batch=1)
        self.runtime = Runtime(database, ModelFiles(Path("nowhere")), device=TWO, limits=limits, load=load)
        self.runtime.warm_up()
        self.pool = ThreadPoolExecutor(8)

    def ask(self) -> "Future[Outcome]":
        return self.pool.submit(self.runtime.predict, "toy", vitals())

    def close(self) -> None:
        for go in self.go:
            go.release(20)
        self.pool.shutdown()
        self.runtime.close()


@pytest.fixture
def station(sqlite: Database) -> Iterator[Station]:
    made = Station(sqlite)
    yield made
    made.close()


def test_each_device_has_a_replica_and_a_request_goes_to_the_one_with_the_least_load(station: Station) -> None:
    first = station.ask()
    assert station.entered[0].acquire(timeout=20), "of equals the first"
    second = station.ask()
    assert station.entered[1].acquire(timeout=20)
    station.go[1].release()
    assert isinstance(second.result(20), Prediction)
    third = station.ask()
    assert station.entered[1].acquire(timeout=20), "the first device still runs its request"
    station.go[0].release()
    station.go[1].release()
    assert isinstance(first.result(20), Prediction)
    assert isinstance(third.result(20), Prediction)
    assert station.ran[0] == 1


def test_requests_are_refused_only_when_the_queues_of_all_devices_are_full(station: Station) -> None:
    running = [station.ask()]
    assert station.entered[0].acquire(timeout=20)
    running.append(station.ask())
    assert station.entered[1].acquire(timeout=20)
    devices = station.runtime._devices
    for count in (3, 4):
        running.append(station.ask())
        while sum(device.load for device in devices) < count:
            threading.Event().wait(0.001)
    with pytest.raises(Problem) as refused:
        station.runtime.predict("toy", vitals())
    assert refused.value.category is Category.BUSY
    for go in station.go:
        go.release(2)
    assert all(isinstance(one.result(20), Prediction) for one in running)
    assert sorted(station.ran) == [0, 0, 1, 1]
    assert [device.load for device in devices] == [0, 0]


def test_a_machine_without_several_cuda_devices_has_one_device() -> None:
    assert devices_of("cpu") == (DeviceName(kind="cpu"),)


@pytest.mark.parametrize(("count", "expected"), [(1, [None]), (2, [0, 1])])
def test_every_cuda_device_is_used(monkeypatch: pytest.MonkeyPatch, count: int, expected: list[int | None]) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert [name.number for name in devices_of("cuda")] == expected
