"""Boosted trees: XGBoost from its JSON or UBJSON, LightGBM from its text. Both formats hold numbers and names only."""

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from inference.runners.arrays import ArrayRunner, Compute
from inference.yaml_mapping import YamlMapping
from kernel.errors import Category, Problem

_CLASS_ONLY: Final = "multi:softmax"
PROBABLE: Final = frozenset(
    {"binary:logistic", "reg:logistic", "multi:softprob", "binary", "cross_entropy", "multiclass", "multiclassova"}
)
"""Objectives, by their names in XGBoost and LightGBM, whose predictions are probabilities."""


class _BoostedRunner(ArrayRunner):
    """What both have in common."""

    def check_objective(self, objective: str) -> None:
        """Return when a model trained for an objective gives what is declared.

        Raises
        ------
        Problem
            ``incorrect`` when a probability is declared and the numbers are none.
        """
        if self.outputs.of_classes and not self.outputs.is_transformed and objective not in PROBABLE:
            raise self.refuse(
                f"{self.file} ({objective or 'no objective'}) gives no probability; model.yaml.runner.transform says "
                "how its numbers become one: sigmoid or softmax; of a regression declare outputs[0].kind: score"
            )


class XGBoostRunner(_BoostedRunner):
    """Runs an XGBoost model on one thread of the processor."""

    def load(self, options: YamlMapping, device: str) -> Compute:  # noqa: ARG002 - a row of a patient needs no GPU
        """Read the model.

        Parameters
        ----------
        options
            Of ``model.yaml.runner``; not used.
        device
            Not used.

        Raises
        ------
        Problem
            ``incorrect`` when the file is not such a model, or does not fit the declarations.
        """
        import xgboost  # noqa: PLC0415 - optional

        booster = read_xgboost(self.file, self.content)
        objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
        if objective == _CLASS_ONLY:
            raise self.refuse(f"{self.file} gives a class and no probabilities: train it with multi:softprob")
        self.check_objective(objective)
        self.check_count(booster.num_features())
        names, types = booster.feature_names, booster.feature_types
        self.check_names(stated_names(names, "f"))
        # Rounds after the best one of an early stop are in the file, and the library's own estimators leave them out.
        best = booster.attr("best_iteration")
        rounds = (0, 0) if best is None else (0, int(best) + 1)

        def compute(rows: Any) -> Any:
            matrix = xgboost.DMatrix(rows, feature_names=names, feature_types=types, nthread=1)
            return booster.predict(matrix, iteration_range=rounds).astype(np.float64).reshape(len(rows), -1)

        return compute


class LightGBMRunner(_BoostedRunner):
    """Runs a LightGBM model on one thread of the processor."""

    def load(self, options: YamlMapping, device: str) -> Compute:  # noqa: ARG002 - as XGBoost
        """Read the model.

        Parameters
        ----------
        options
            Of ``model.yaml.runner``; not used.
        device
            Not used.

        Raises
        ------
        Problem
            ``incorrect`` when the file is not such a model, or does not fit the declarations.
        """
        booster = read_lightgbm(self.file, self.content)
        self.check_objective(lightgbm_objective(self.content))
        names = booster.feature_name()
        self.check_count(booster.num_feature())
        self.check_names(stated_names(names, "Column_"))
        return lambda rows: np.asarray(booster.predict(rows, num_threads=1), np.float64).reshape(len(rows), -1)


def read_xgboost(name: str, content: bytes) -> Any:
    """Return the booster that a file of XGBoost holds.

    Parameters
    ----------
    name
        Of the file, for refusals.
    content
        Its bytes.

    Raises
    ------
    Problem
        ``incorrect`` when it is no such file.
    """
    import xgboost  # noqa: PLC0415 - optional

    wrong = f"{name} is no model of XGBoost: write it with Booster.save_model('weights.ubj')"
    if content[:1] != b"{":
        raise Problem(Category.INCORRECT, wrong)
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(content))
        booster.set_param({"nthread": 1, "device": "cpu"})
        json.loads(booster.save_config())["learner"]["objective"]["name"]
    except (xgboost.core.XGBoostError, ValueError, KeyError) as failure:
        raise Problem(Category.INCORRECT, wrong, diagnostics=repr(failure)) from failure
    return booster


def read_lightgbm(name: str, content: bytes) -> Any:
    """Return the booster that a file of LightGBM holds.

    Parameters
    ----------
    name
        Of the file, for refusals.
    content
        Its bytes.

    Raises
    ------
    Problem
        ``incorrect`` when it is no such file.
    """
    import lightgbm  # noqa: PLC0415 - optional

    wrong = f"{name} is no model of LightGBM: write it with Booster.save_model('weights.txt')"
    if not content.startswith(b"tree\n") or b"\nend of trees" not in content:
        raise Problem(Category.INCORRECT, wrong)
    try:
        return lightgbm.Booster(model_str=content.decode("utf-8"))
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError, ValueError) as failure:
        raise Problem(Category.INCORRECT, wrong, diagnostics=repr(failure)) from failure


def lightgbm_objective(content: bytes) -> str:
    """Return the name of the objective that a file of LightGBM states; empty when it was a function of one's own."""
    stated = [line for line in content.decode().splitlines() if line.startswith("objective=")]
    return stated[0].removeprefix("objective=").partition(" ")[0] if stated else ""


def stated_names(names: Sequence[str] | None, prefix: str) -> tuple[str, ...]:
    """Return the names of features that a file states; empty when the library only numbered them.

    Parameters
    ----------
    names
        As the library gives them.
    prefix
        What the library puts before a number where no name was given.
    """
    numbered = [f"{prefix}{place}" for place in range(len(names or ()))]
    return () if names is None or list(names) == numbered else tuple(names)
