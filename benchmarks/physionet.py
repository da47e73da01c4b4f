"""Whether a model loses anything on the way from its training program into the server: PhysioNet/CinC Challenge 2012.

Run as ``python -m benchmarks.physionet DATA [--records N]``; DATA has ``set-a`` and ``Outcomes-a.txt``. Boosted trees
of XGBoost are trained on the table that ``ausculta models table`` makes. Their folder then answers for the records of
the test split twice: from FHIR resources and from an ORU feed, on a server of its own each. It exits with 1 when a row
or a probability is not that of the training program.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import orjson
import yaml
from numpy.typing import NDArray

from benchmarks.physionet_records import (
    DONE,
    Calendar,
    Record,
    declared,
    golden,
    messages,
    read_records,
    resources,
    row_of,
    transaction,
)
from benchmarks.processes import Read, ServerProcess
from fhir_adapter.hl7v2.client import MllpClient

Numbers = NDArray[np.float64]

NAME: Final = "icu-mortality"
TEST_EVERY: Final = 5
"""Each fifth record, in the order of their numbers, is of the test split."""
SMALLEST: Final = 1e-6
"""By so much the features of the language may differ from those of NumPy: the language rounds to six decimals."""
_ROUNDS: Final = 500
_SETTINGS: Final[Mapping[str, Any]] = {
    "objective": "binary:logistic",
    "max_depth": 4,
    "eta": 0.03,
    "subsample": 0.7,
    "colsample_bytree": 0.3,
    "seed": 7,
    "nthread": 1,
}
_STALLED_S: Final = 240
_AUSCULTA: Final = Path(sys.executable).parent / "ausculta"
_MODEL: Final[Mapping[str, Any]] = {
    "name": NAME,
    "version": "1.0.0",
    "title": "Death in hospital after 48 hours of intensive care",
    "intended_use": "A benchmark: nothing is decided by it.",
    "owner": "Ausculta",
    "demonstration": True,
    "users": ["engineers"],
    "trigger": {"kind": "codes", "codes": [DONE]},
    "inputs": [{"name": "facts", "kind": "facts"}],
    "runner": "xgboost",
    "outputs": [
        {
            "name": "death",
            "system": "http://snomed.info/sct",
            "code": "419099009",
            "display": "Death in hospital",
            "kind": "probability",
            "future": True,
            "bands": [{"name": "low", "at_least": 0}, {"name": "high", "at_least": 0.3}],
        }
    ],
    "limits": {"max_without_value": 10_000},
    "change_plan": {"acceptance": ["the rows and answers of the training program"]},
}


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


@dataclass(frozen=True, kw_only=True)
class Served:
    """What the server read and said, by record."""

    rows: Mapping[str, Sequence[float]]
    #: Of the table of results.
    probabilities: Mapping[str, float]
    #: Of the RiskAssessments.
    stated: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The training program's model and what it says of the test split."""

    records: Sequence[Record]
    rows: Mapping[str, Numbers]
    probabilities: Mapping[str, float]
    died: Numbers
    folder: Path


def is_test(place: int) -> bool:
    """Return whether the record of a place, counted from 0, is of the test split."""
    return place % TEST_EVERY == TEST_EVERY - 1


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


def table(records: Sequence[Record], calendar: Calendar, folder: Path) -> dict[str, Numbers]:
    """Return the rows of ``ausculta models table`` by record.

    Parameters
    ----------
    records
        The records.
    calendar
        When they were.
    folder
        With ``features.yaml``.
    """
    from pyarrow import parquet

    data, moments, out = (folder.parent / name for name in ("records.ndjson", "moments.csv", "table.parquet"))
    with data.open("wb") as lines:
        for record in records:
            lines.writelines(orjson.dumps(it) + b"\n" for it in resources(record, calendar))
    moment = calendar.moment.isoformat()
    moments.write_text("\n".join(["patient,time", *(f"p{it.id},{moment}" for it in records)]))
    command = ["models", "table", str(data), "--model", str(folder), "--moments", str(moments), "--known", "issued"]
    _ausculta(*command, "--out", str(out))
    made = parquet.read_table(out).to_pydict()
    names = [one["name"] for one in declared()["features"]]
    columns = np.array([made[name] for name in names], dtype=np.float64).T
    return {patient.removeprefix("Patient/p"): row for patient, row in zip(made["patient"], columns, strict=True)}


def train(
    records: Sequence[Record], rows: Mapping[str, Numbers], folder: Path, *, rounds: int = _ROUNDS, leaf: float = 5.0
) -> Trained:
    """Train on four fifths, write and seal the folder, and return what the model says of the others.

    Parameters
    ----------
    records
        All records.
    rows
        Their features.
    folder
        With ``features.yaml``.
    rounds
        How many trees.
    leaf
        The least weight of a leaf.
    """
    import xgboost

    names = [one["name"] for one in declared()["features"]]
    fit = [it for place, it in enumerate(records) if not is_test(place)]
    tested = [it for place, it in enumerate(records) if is_test(place)]

    def matrix(some: Sequence[Record]) -> Any:
        died = [float(it.died) for it in some]
        return xgboost.DMatrix(np.stack([rows[it.id] for it in some]), died, feature_names=names)

    booster = xgboost.train({**_SETTINGS, "min_child_weight": leaf}, matrix(fit), num_boost_round=rounds)
    booster.save_model(folder / "weights.ubj")
    (folder / "model.yaml").write_text(yaml.safe_dump(dict(_MODEL), sort_keys=False))
    (folder / "golden").mkdir()
    (folder / "golden" / "stay.json").write_text(json.dumps(golden(fit[0])))
    _ausculta("models", "verify", str(folder), "--record")
    said = booster.predict(matrix(tested)).astype(np.float64)
    return Trained(
        records=tested,
        rows={it.id: rows[it.id] for it in tested},
        probabilities={it.id: float(one) for it, one in zip(tested, said, strict=True)},
        died=np.array([float(it.died) for it in tested]),
        folder=folder,
    )


def last_values(records: Sequence[Record], rows: Mapping[str, Numbers]) -> Numbers:
    """Return what a logistic regression of the last values says of the test split: all that the first format could say.

    Parameters
    ----------
    records
        All records.
    rows
        Their features.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names = [one["name"] for one in declared()["features"]]
    chosen = [place for place, name in enumerate(names) if name in {"age", "sex"} or name.endswith("_last")]
    given = np.stack([rows[it.id] for it in records])[:, chosen]
    tested = np.array([is_test(place) for place in range(len(records))])
    died = np.array([it.died for it in records])
    model = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler(), LogisticRegression(max_iter=2000)
    )
    said: Numbers = model.fit(given[~tested], died[~tested]).predict_proba(given[tested])[:, 1]
    return said


# Serving


def send_fhir(server: ServerProcess, records: Sequence[Record], calendar: Calendar) -> None:
    """Post each stay as one transaction.

    Parameters
    ----------
    server
        The server.
    records
        The stays.
    calendar
        When they were.
    """
    with httpx.Client(timeout=120, trust_env=False, headers={"Content-Type": "application/fhir+json"}) as client:
        for record in records:
            body = orjson.dumps(transaction(record, calendar))
            client.post(f"{server.url}/fhir", content=body).raise_for_status()


def send_hl7(server: ServerProcess, records: Sequence[Record], calendar: Calendar) -> None:
    """Send each stay as messages of one connection.

    Parameters
    ----------
    server
        The server.
    records
        The stays.
    calendar
        When they were.
    """
    client = MllpClient("127.0.0.1", server.ports.mllp)
    try:
        for record in records:
            for message in messages(record, calendar):
                client.send(message)
    finally:
        client.close()


Send = Callable[[ServerProcess, Sequence[Record], Calendar], None]
FEEDS: Final[Mapping[str, Send]] = {"FHIR resources": send_fhir, "ORU feed": send_hl7}


def serve(trained: Trained, calendar: Calendar, send: Send, folder: Path) -> Served:
    """Send the stays of the test split to a server and return what it says.

    Parameters
    ----------
    trained
        The model.
    calendar
        When the stays were.
    send
        Sends them.
    folder
        Of the server, empty.
    """
    with ServerProcess(folder) as server:
        server.wait_ready()
        for command in (
            ("retire", "news2"),
            ("retire", "cxr-pneumonia"),
            ("add", str(trained.folder)),
            ("activate", NAME),
        ):
            done = server.command("models", *command)
            assert done.returncode == 0, done.stderr
        send(server, trained.records, calendar)
        _wait(server, len(trained.records))
        return _served(server)


def _wait(server: ServerProcess, wanted: int) -> None:
    """Wait until there are as many results; end where none comes for long."""
    seen, since = -1, time.monotonic()
    while seen < wanted:
        with server.snapshot() as read:
            ((found,),) = read(f"select count(*) from results where model = '{NAME}'")
        if found > seen:
            seen, since = found, time.monotonic()
        assert time.monotonic() - since < _STALLED_S, f"{seen} of {wanted} results"
        time.sleep(0.2)


def _served(server: ServerProcess) -> Served:
    names = _pages(server, "Patient", lambda it: (f"Patient/{it['id']}", it["identifier"][0]["value"]))
    stated = _pages(
        server,
        "RiskAssessment",
        lambda it: (it["subject"]["reference"], it["prediction"][0]["probabilityDecimal"] / 100),
    )
    with server.snapshot() as read:
        return served(read, names, stated)


def served(read: Read, names: Mapping[str, str], stated: Mapping[str, float]) -> Served:
    """Return what is stored of the results.

    Parameters
    ----------
    read
        Of the database.
    names
        Reference of a patient -> record.
    stated
        Reference of a patient -> probability that the RiskAssessment states.
    """
    rows: dict[str, list[float]] = {}
    probabilities: dict[str, float] = {}
    for subject, kind, features, outputs, reason in read(
        f"select subject, kind, features, outputs, reason from results where model = '{NAME}'"
    ):
        assert kind == "prediction", reason
        assert names[subject] not in rows, "one result for each stay"
        values: dict[str, float] = {}
        for one in json.loads(features):  # what is left out of a window stands there too, without a value
            if one["value"] is not None or one["name"] not in values:
                values[one["name"]] = np.nan if one["value"] is None else float(one["value"])
        rows[names[subject]] = list(values.values())
        probabilities[names[subject]] = json.loads(outputs)[0]["value"]
    return Served(
        rows=rows,
        probabilities=probabilities,
        stated={names[subject]: probability for subject, probability in stated.items()},
    )


def _pages(server: ServerProcess, kind: str, pair: Callable[[Any], tuple[str, Any]]) -> dict[str, Any]:
    url: str | None = f"{server.url}/fhir/{kind}?_count=200"
    found: dict[str, Any] = {}
    with httpx.Client(timeout=120, trust_env=False) as client:
        while url is not None:
            page = client.get(url).raise_for_status().json()
            found |= dict(pair(entry["resource"]) for entry in page.get("entry", ()))
            url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    return found


def _ausculta(*words: str) -> None:
    subprocess.run([_AUSCULTA, *words], check=True, stdout=subprocess.DEVNULL)


# The report


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
