"""Loading runs every size of batch once, and finds the largest that the memory suffices for."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from inference import registry
from inference.batching import QueueLimits
from inference.contract import Prediction
from inference.model_files import ModelFiles
from inference.runtime import Runtime
from inference.testing import NOW, ToyRunner, toy_folder, vitals
from inference.warm_up import largest_batch, sizes
from kernel.db import Database

GOLDEN = {
    "input": {
        "subject": {"reference": "Patient/1"},
        "at": NOW.isoformat(),
        "facts": [{"code": "8867-4", "value": "70", "unit": "/min"}],
    }
}
DECLINED = {"input": GOLDEN["input"] | {"facts": []}}


@pytest.mark.parametrize(("largest", "expected"), [(1, [1]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])])
def test_sizes_double_up_to_the_largest(largest: int, expected: list[int]) -> None:
    assert list(sizes(largest)) == expected


class Seen:
    """Records the sizes of batches; more than ``room`` items do not fit into memory."""

    def __init__(self, room: int = 1000) -> None:
        self.sizes: list[int] = []
        self.room = room

    def __call__(self, items: Sequence[float]) -> Sequence[float]:
        self.sizes.append(len(items))
        if len(items) > self.room:
            raise MemoryError
        return items


def runtime_of(database: Database, seen: Seen, root: Path) -> Runtime:
    folder = toy_folder()
    golden = ModelFiles(root).path(folder.digest) / "golden"
    golden.mkdir(parents=True)
    for name, case in (("answered", GOLDEN), ("declined", DECLINED)):
        (golden / f"{name}.json").write_text(json.dumps(case), encoding="utf-8")
    database.write(lambda tx: registry.register(tx, folder, "active", by="ada", at=NOW))
    limits = QueueLimits(largest_batch=8)
    return Runtime(
        database, ModelFiles(root), device="cpu", limits=limits, load=lambda *_, device: ToyRunner(seen, folder)
    )


def test_every_size_runs_once_before_the_first_patient(sqlite: Database, tmp_path: Path) -> None:
    seen = Seen()
    runtime = runtime_of(sqlite, seen, tmp_path)
    runtime.warm_up()
    assert seen.sizes == [1, 2, 4, 8]
    assert isinstance(runtime.predict("toy", vitals()), Prediction)
    assert seen.sizes == [1, 2, 4, 8, 1]
    runtime.close()


def test_a_size_that_does_not_fit_into_memory_bounds_the_batches(sqlite: Database, tmp_path: Path) -> None:
    seen = Seen(room=5)
    runtime = runtime_of(sqlite, seen, tmp_path)
    runtime.warm_up()
    assert seen.sizes == [1, 2, 4, 8]
    runtime.predict("toy", vitals())
    (loaded,) = [future.result() for future in runtime._loaded.values()]
    (queue,) = loaded._replicas[0].queues.values()
    assert queue._limits.largest_batch == 4
    runtime.close()


def test_a_model_that_breaks_on_several_items_is_not_loaded() -> None:
    def one_only(items: Sequence[float]) -> Sequence[float]:
        if len(items) > 1:
            raise ValueError("batch of one expected")
        return items

    with pytest.raises(ValueError, match="batch of one"):
        largest_batch(ToyRunner(one_only), 1.0, 4)
