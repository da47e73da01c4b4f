"""Golden cases that are made from the declarations notice another weight."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skops import io

from inference.digest import seal
from inference.features.spec import parse_features
from inference.golden_input import read_input
from inference.loading import load_model
from kernel.errors import Problem

from . import tiny_models as tiny

DAY = {"last": 12, "delta": 12, "max": 12, "min": 12, "slope": 24, "std": 24, "time_since": 24, "count": 24}
MEASURED: list[tuple[str, str, str, str, list[float], float, float]] = [
    ("pulse", "last", "8867-4", "/min", [20, 300], 85, 18),
    ("pulse_change", "delta", "8867-4", "/min", [20, 300], 0, 9),
    ("respirations", "max", "9279-1", "/min", [3, 80], 18, 5),
    ("saturation", "min", "59408-5", "%", [50, 100], 96, 3),
    ("systolic", "min", "8480-6", "mm[Hg]", [40, 300], 120, 20),
    ("temperature", "last", "8310-5", "Cel", [25, 45], 37, 0.7),
    ("lactate", "last", "2524-7", "mmol/L", [0.1, 40], 1.5, 0.8),
    ("creatinine", "slope", "2160-0", "mg/dL", [0.1, 30], 0, 0.05),
    ("potassium", "std", "2823-3", "mmol/L", [1, 10], 0.4, 0.2),
    ("potassium_age", "time_since", "2823-3", "mmol/L", [1, 10], 9, 5),
    ("potassium_count", "count", "2823-3", "mmol/L", [1, 10], 2, 1),
]
FEATURES: list[dict[str, Any]] = [
    {"name": "age", "title": "age", "subject": "age", "missing": "refuse"},
    {"name": "sex", "title": "sex", "subject": "sex", "missing": "refuse"},
    *(
        {
            "name": name,
            "title": name,
            "window": {"take": take, "hours": DAY[take]},
            "missing": "refuse",
            "sources": [{"code": code, "unit": unit, "plausible": plausible}],
        }
        for name, take, code, unit, plausible, _, _ in MEASURED
    ),
    {
        "name": "since",
        "title": "pulse since admission",
        "window": {"take": "mean", "since": "admission"},
        "missing": "refuse",
        "sources": [{"code": "8867-4", "unit": "/min", "plausible": [20, 250]}],
    },
    tiny.ALERTNESS | {"one_hot": True},
    {"name": "diabetes", "title": "diabetes", "conditions": [{"system": "urn:icd", "prefix": ["E11"]}]},
]
COLUMNS = [spec.name for spec in parse_features({"features": FEATURES})]


def trained() -> Any:
    """Return the model of the tutorial, of patients as they are."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    draw = np.random.default_rng(5)
    spread = {name: (middle, width) for name, *_, middle, width in MEASURED} | {"age": (65, 15), "since": (85, 15)}
    rows = np.column_stack(
        [
            draw.normal(*spread[name], 400) if name in spread else draw.integers(0, 2, 400).astype(float)
            for name in COLUMNS
        ]
    )
    scaled = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    effects = np.where(np.arange(len(COLUMNS)) % 2, 0.5, 0.7) * np.where(np.isin(COLUMNS, ["saturation"]), -1, 1)
    ill = (scaled @ effects + draw.logistic(size=400) > 1).astype(int)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, ill)


def made(folder: Path, model: Any) -> Path:
    """Write a folder without golden cases, and do what ``models verify --record`` does."""
    return tiny.bring(folder, "sklearn", {"weights.skops": io.dumps(model)}, features=FEATURES, cases_are_made=True)


@pytest.fixture(scope="module")
def model() -> Any:
    return trained()


@pytest.mark.parametrize("place", range(len(COLUMNS)), ids=COLUMNS)
def test_another_weight_is_noticed(tmp_path: Path, model: Any, place: int) -> None:
    folder = made(tmp_path / "ward", model)
    load_model(folder)
    changed = io.loads(io.dumps(model))
    changed[-1].coef_[0, place] *= -1.5
    (folder / "weights.skops").write_bytes(io.dumps(changed))
    seal(folder)
    with pytest.raises(Problem, match=r"the model ward does not answer its golden case [a-z0-9-]+ as it should"):
        load_model(folder)


def test_every_feature_has_a_value_in_every_case(tmp_path: Path, model: Any) -> None:
    folder = made(tmp_path / "ward", model)
    runner = load_model(folder)
    for case in (folder / "golden").glob("*.json"):
        row = runner.decode(read_input(json.loads(case.read_text())["input"])).item
        assert np.isfinite(row).all(), case.stem
