"""The gain of group commit: durable writes per second with and without groups.

Run as ``python -m benchmarks.group_commit``.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text

import kernel.group_commit
from benchmarks.measure import in_turns, ratio, table
from kernel.db import Database, Transaction

ROUNDS: Final = 7
WRITES: Final = {1: 300, 16: 1500}
"""Threads -> writes per round."""

_INSERT: Final = text("INSERT INTO written (what) VALUES (:what)")


def main() -> dict[str, Any]:
    usual = kernel.group_commit.LARGEST_GROUP
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{Path(folder) / 'bench.db'}")
        database.write(lambda tx: tx.execute(text("CREATE TABLE written (what TEXT)")))

        def contestant(largest: int, threads: int) -> Callable[[], float]:
            def run() -> float:
                kernel.group_commit.LARGEST_GROUP = largest  # type: ignore[misc]
                return _writes(database, threads)

            return run

        found: dict[str, Any] = {}
        for threads in WRITES:
            figures = in_turns({"grouped": contestant(usual, threads), "alone": contestant(1, threads)}, ROUNDS)
            found[str(threads)] = {
                "per_second": {name: round(statistics.median(rates)) for name, rates in figures.items()},
                "gain": round(ratio(figures, "grouped", "alone"), 2),
            }
        database.close()
    rows = [["threads", "grouped/s", "one by one/s", "gain"]]
    rows += [
        [threads, str(it["per_second"]["grouped"]), str(it["per_second"]["alone"]), f"{it['gain']:.2f}"]
        for threads, it in found.items()
    ]
    print(table(rows))
    return found


def _writes(database: Database, threads: int) -> float:
    def work(tx: Transaction) -> None:
        tx.execute(_INSERT, {"what": "x" * 500})

    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        list(pool.map(lambda _: database.write(work), range(WRITES[threads])))
        return WRITES[threads] / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
