"""The training program of :mod:`benchmarks.physionet`: boosted trees on the table that the server's own code makes."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import yaml
from numpy.typing import NDArray

from benchmarks.physionet_records import DONE, Calendar, Record, declared, golden, resources

Numbers = NDArray[np.float64]

NAME: Final = "icu-mortality"
TEST_EVERY: Final = 5
"""Each fifth record, in the order of their numbers, is of the test split."""
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


def _ausculta(*words: str) -> None:
    subprocess.run([_AUSCULTA, *words], check=True, stdout=subprocess.DEVNULL)
