"""Latency of a prediction through the runtime, what overload does to it, and the gain of batches for the network.

Run as ``python benchmarks/inference_runtime.py``. Compare the figures of one run only: machines and their load differ.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fhir_adapter.store.upgrade import prepare_database
from inference import registry
from inference.batching import QueueLimits
from inference.contract import Prediction
from inference.folder import bundled_folder, open_folder
from inference.loading import load_model
from inference.model_files import ModelFiles
from inference.models import MODELS
from inference.runtime import Runtime
from inference.testing import ToyRunner, radiograph, toy_folder, vitals
from kernel.db import Database
from kernel.errors import Category, Problem

ROUNDS = 300
AT_ONCE = 16


def percentiles(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return p50 and p95 of one call after another, in milliseconds."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken), statistics.quantiles(taken, n=20)[-1]


def together(work: Callable[[], object], rounds: int) -> float:
    """Return calls per second with ``AT_ONCE`` callers."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        start = time.perf_counter()
        list(pool.map(lambda _: work(), range(rounds)))
        return rounds / (time.perf_counter() - start)


def through_the_runtime(runtime: Runtime) -> None:
    print(f"{'model':<16}{'p50 ms':>10}{'p95 ms':>10}{'per second, ' + str(AT_ONCE) + ' callers':>26}")
    for name, given in (("news2", vitals()), ("cxr-pneumonia", radiograph(1024, 1024))):

        def work(name: str = name, given: object = given) -> None:
            assert isinstance(runtime.predict(name, given), Prediction)  # type: ignore[arg-type]

        work()
        p50, p95 = percentiles(work, ROUNDS)
        print(f"{name:<16}{p50:>10.2f}{p95:>10.2f}{together(work, ROUNDS):>26.0f}")


def under_overload(database: Database) -> dict[str, float]:
    """Ask a device that takes 20 ms for a batch, one by one and then by four times as many callers as may wait.

    Each caller asks again at once when it is answered, and after a second (``Retry-After``) when it is refused.
    """
    folder = toy_folder()
    now = datetime.now(UTC)
    database.write(lambda tx: registry.register(tx, folder, "active", by="benchmark", at=now))

    def think(items: Sequence[float]) -> Sequence[float]:
        time.sleep(0.02)
        return items

    files = ModelFiles(Path("nowhere"))
    runtime = Runtime(database, files, device="cpu", load=lambda *_args, **_device: ToyRunner(think, folder))
    runtime.predict("toy", vitals())
    taken: list[float] = []
    refused: list[int] = []
    lost: list[int] = []

    def ask(until: float) -> None:
        while time.perf_counter() < until:
            start = time.perf_counter()
            try:
                answered = isinstance(runtime.predict("toy", vitals()), Prediction)
            except Problem as problem:
                refused.append(1)
                lost.extend([1] * (problem.category is not Category.BUSY))
                time.sleep(1)
                continue
            taken.append(time.perf_counter() - start)
            lost.extend([1] * (not answered))

    ask(time.perf_counter() + 5)
    alone, taken[:] = statistics.quantiles(taken, n=100)[-1], []
    callers = 4 * QueueLimits().longest_queue
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(ask, [time.perf_counter() + 10] * callers))
    runtime.close()
    p99 = statistics.quantiles(taken, n=100)[-1]
    print(f"\noverload, {callers} callers: {len(taken)} answered, {len(refused)} refused, {len(lost)} lost")
    print(f"p99 of what was answered: {p99 * 1000:.1f} ms, {p99 / alone:.1f} times that of one caller")
    return {"p99_ratio": round(p99 / alone, 2), "answered": len(taken), "refused": len(refused), "lost": len(lost)}


def by_batch() -> None:
    runner = load_model(bundled_folder("cxr-pneumonia"))
    item = runner.decode(radiograph(1024, 1024)).item
    sizes = (1, 8, 32)
    best = dict.fromkeys(sizes, float("inf"))
    for _ in range(30):  # the sizes alternate, so that other load affects each in the same way
        for size in sizes:
            start = time.perf_counter()
            runner.predict(runner.batch([item] * size))
            best[size] = min(best[size], time.perf_counter() - start)
    print("\nthe network with Grad-CAM alone, images prepared, best of 30")
    for size in sizes:
        print(f"batch {size:>3}: {best[size] * 1000:>8.2f} ms {size / best[size]:>8.0f} images per second")


def main() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{folder}/bench.db")
        prepare_database(database)
        model_files = ModelFiles(Path(folder) / "model-files")
        for name in MODELS:
            opened = open_folder(bundled_folder(name))
            model_files.keep(opened)
            now = datetime.now(UTC)
            database.write(lambda tx, it=opened, at=now: registry.register_bundled(tx, it, by="benchmark", at=at))
        runtime = Runtime(database, model_files, device="cpu")
        through_the_runtime(runtime)
        runtime.close()
        figures = under_overload(database)
        database.close()
    by_batch()
    return figures


if __name__ == "__main__":
    main()
