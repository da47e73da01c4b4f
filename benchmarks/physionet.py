"""Whether a model loses anything on the way from its training program into the server: PhysioNet/CinC Challenge 2012.

Run as ``python -m benchmarks.physionet DATA [--records N]``; DATA has ``set-a`` and ``Outcomes-a.txt``. Boosted trees
of XGBoost are trained on the table that ``ausculta models table`` makes. Their folder then answers for the records of
the test split twice: from FHIR resources and from an ORU feed, on a server of its own each. It exits with 1 when a row
or a probability is not that of the training program.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from benchmarks.physionet_model import NAME, Numbers, last_values, table, train
from benchmarks.physionet_records import Calendar, declared, read_records, row_of
from benchmarks.physionet_serving import FEEDS, serve

SMALLEST: Final = 1e-6
"""By so much the features of the language may differ from those of NumPy: the language rounds to six decimals."""


@dataclass
class Clock:
    """Seconds by step."""

    taken: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a step and print it."""
        begun = time.perf_counter()
        yield
        self.taken[name] = round(time.perf_counter() - begun, 1)
        print(f"{name}: {self.taken[name]} s", flush=True)


def farthest(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return the largest difference of two sets of numbers by record; infinite where one has a value and one has not.

    Parameters
    ----------
    one, other
        Record -> number or numbers.
    """
    assert one.keys() == other.keys()
    largest = 0.0
    for name, numbers in one.items():
        here, there = np.atleast_1d(numbers), np.atleast_1d(other[name])
        if not (np.isnan(here) == np.isnan(there)).all():
            return np.inf
        known = ~np.isnan(here)
        largest = max(
            largest, float(np.max(np.abs(here[known] - there[known]) / (1 + np.abs(there[known])), initial=0))
        )
    return largest


def auroc(died: Numbers, scores: Numbers) -> float:
    """Return the area under the receiver operating characteristic.

    Parameters
    ----------
    died
        1 or 0.
    scores
        Of the same records.
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(died, scores))


def interval(died: Numbers, scores: Numbers, less: Numbers | None = None) -> tuple[float, float]:
    """Return the 95 % interval of an AUROC, or of its gain over that of other scores, by 2,000 bootstrap samples.

    Parameters
    ----------
    died
        1 or 0.
    scores
        Of the same records.
    less
        The other scores.
    """
    draw = np.random.default_rng(1)
    found = []
    for _ in range(2000):
        chosen = draw.integers(0, len(died), len(died))
        if 0 < died[chosen].sum() < len(died):
            gain = auroc(died[chosen], scores[chosen])
            found.append(gain - (0 if less is None else auroc(died[chosen], less[chosen])))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def main(data: Path, most: int | None = None) -> dict[str, Any]:
    """Train, serve, compare, print and return the figures.

    Parameters
    ----------
    data
        Folder of the data set.
    most
        How many records; all when None.
    """
    clock, calendar = Clock(), Calendar.recent()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / NAME
        folder.mkdir()
        (folder / "features.yaml").write_text(yaml.safe_dump(declared(), sort_keys=False))
        with clock.step("reading the records, and their features in NumPy"):
            records = read_records(data, most)
            plain = {it.id: np.array(row_of(it)) for it in records}
        with clock.step("ausculta models table"):
            rows = table(records, calendar, folder)
        with clock.step("training"):
            trained = train(records, rows, folder)
        said = np.array(list(trained.probabilities.values()))
        figures: dict[str, Any] = {
            "records": len(records),
            "test": len(said),
            "features": len(declared()["features"]),
            "table_to_numpy": farthest(rows, plain),
            "auroc": {"training": auroc(trained.died, said)},
            "interval": interval(trained.died, said),
        }
        before = last_values(records, rows)
        figures["last_values"] = auroc(trained.died, before)
        figures["gain"] = interval(trained.died, said, before)
        for feed, send in FEEDS.items():
            (place := Path(name) / feed.split()[0]).mkdir()
            with clock.step(feed):
                said_there = serve(trained, calendar, send, place)
            scores = np.array([said_there.stated[it.id] for it in trained.records])
            figures["auroc"][feed] = auroc(trained.died, scores)
            figures[feed] = {
                "rows": farthest(said_there.rows, trained.rows),
                "probabilities": farthest(said_there.probabilities, trained.probabilities),
                "stated": farthest(said_there.stated, trained.probabilities),
            }
    figures["seconds"] = clock.taken
    return figures


def wrong(figures: Mapping[str, Any]) -> list[str]:
    """Return what is not as the training program has it."""
    found = [] if figures["table_to_numpy"] < SMALLEST else ["the table is not what NumPy computes"]
    for feed in FEEDS:
        if figures[feed]["rows"] != 0:
            found.append(f"{feed}: the rows are not those of the table")
        if figures[feed]["probabilities"] != 0:
            found.append(f"{feed}: the probabilities are not those of the training program")
        if round(figures["auroc"][feed], 3) != round(figures["auroc"]["training"], 3):
            found.append(f"{feed}: another AUROC")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--records", type=int, default=None, help="how many; all by default")
    given = parser.parse_args()
    measured = main(given.data, given.records)
    print(json.dumps(measured, indent=2))
    if reasons := wrong(measured):
        sys.exit("; ".join(reasons))
