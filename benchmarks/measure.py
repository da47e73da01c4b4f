"""How figures are measured: alternating rounds, medians of rounds, ratios of medians.

Machines are noisy and shared. Variants that are compared run in alternation, so that other load affects each in the
same way, and the ratio is reported first.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence


def in_turns(variants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run each variant once per round, in alternating order; return the figures of each."""
    figures: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds):
        names = list(variants)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            figures[name].append(variants[name]())
    return figures


def ratio(figures: Mapping[str, Sequence[float]], of: str, to: str) -> float:
    """Return the median over the rounds of one variant's figure divided by another's in the same round."""
    return statistics.median(mine / theirs for mine, theirs in zip(figures[of], figures[to], strict=True))


def percentiles(waits: Sequence[float]) -> dict[str, float]:
    """Return p50 and p95 of durations, in milliseconds."""
    return {
        "p50_ms": round(statistics.median(waits) * 1000, 2),
        "p95_ms": round(statistics.quantiles(waits, n=20)[-1] * 1000, 2),
    }


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns; the first row has the headings."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
