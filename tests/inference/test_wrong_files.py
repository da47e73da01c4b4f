"""A folder of a linear model that does not fit is refused with the line to change, never with what a library said."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save

from inference.folder import WEIGHTS
from kernel.errors import Category, Problem

from . import tiny_models as tiny

NUMBERS = bytes(save({"weight": np.array([0.05, -0.05]), "bias": np.array([0.0])}))


@pytest.mark.parametrize("content", [b"", b"no numbers at all", NUMBERS[:-3]])
def test_weights_that_are_no_safetensors_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Problem) as refused:
        tiny.bring(tmp_path / "tiny", "linear", {WEIGHTS: content})
    assert refused.value.category is Category.INCORRECT
    assert refused.value.detail.startswith("weights.safetensors is no safetensors file: write it with safetensors.")


def test_a_feature_whose_answers_are_words_is_refused_where_it_is_declared(tmp_path: Path) -> None:
    folder = tiny.bring(tmp_path / "tiny", "linear", {WEIGHTS: NUMBERS})
    features = yaml.safe_load((folder / "features.yaml").read_text())
    answers = {"alert": ["LA9340-6"], "confused": ["LA6560-2"]}
    features["features"][1]["sources"] = [{"code": "67775-7", "answers": answers}]
    (folder / "features.yaml").write_text(yaml.safe_dump(features))
    case = json.loads((folder / "golden" / "one.json").read_text())
    case["input"]["facts"].append({"code": "67775-7", "answer": "LA9340-6"})
    (folder / "golden" / "one.json").write_text(json.dumps({"input": case["input"]}))
    with pytest.raises(Problem, match=r"features\.yaml: the answers of systolic must be numbers"):
        tiny.finalize_folder(folder, {"Evidence": "None: a test."})


def test_a_linear_model_without_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"features\.yaml must declare the features that the model takes"):
        tiny.bring(tmp_path / "tiny", "linear", {WEIGHTS: NUMBERS}, features=())
