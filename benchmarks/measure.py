"""How figures are taken: rounds that take turns, medians of rounds, ratios of medians.

Machines are noisy and shared. What is compared runs in turns, so that other load falls on each alike, and what is
reported first is the ratio.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence


def in_turns(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Let each contestant run once a round, first forwards, then backwards, and so on; return their figures."""
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        names = list(contestants)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            figures[name].append(contestants[name]())
    return figures


def ratio(figures: Mapping[str, Sequence[float]], of: str, to: str) -> float:
    """Return the median over the rounds of one contestant's figure divided by another's of the same round."""
    return statistics.median(mine / theirs for mine, theirs in zip(figures[of], figures[to], strict=True))


def percentiles(waits: Sequence[float]) -> dict[str, float]:
    """Return p50 and p95 of durations, in milliseconds."""
    return {
        "p50_ms": round(statistics.median(waits) * 1000, 2),
        "p95_ms": round(statistics.quantiles(waits, n=20)[-1] * 1000, 2),
    }


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out in columns, the first row being their headings."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
