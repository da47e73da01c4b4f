"""Boosted trees: XGBoost from its JSON or UBJSON, LightGBM from its text. Both formats hold numbers and names only."""

import json
from typing import Any, Final

import numpy as np

from inference.runners.arrays import ArrayRunner, Compute
from inference.yaml_mapping import YamlMapping

_CLASS_ONLY: Final = "multi:softmax"


class XGBoostRunner(ArrayRunner):
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

        if self.content[:1] != b"{":
            raise self.refuse(f"{self.file} is no model of XGBoost: write it with Booster.save_model('{self.file}')")
        booster = xgboost.Booster()
        try:
            booster.load_model(bytearray(self.content))
            booster.set_param({"nthread": 1, "device": "cpu"})
            settings = json.loads(booster.save_config())["learner"]
        except (xgboost.core.XGBoostError, ValueError, KeyError) as failure:
            detail = f"{self.file} is no model of XGBoost: write it with Booster.save_model('{self.file}')"
            raise self.refuse(detail, failure) from failure
        if settings["objective"]["name"] == _CLASS_ONLY:
            raise self.refuse(f"{self.file} gives a class and no probabilities: train it with multi:softprob")
        self.check_count(booster.num_features())
        names, types = booster.feature_names, booster.feature_types
        self.check_names(() if names is None or names == [f"f{place}" for place in range(len(names))] else names)

        def compute(rows: Any) -> Any:
            matrix = xgboost.DMatrix(rows, feature_names=names, feature_types=types, nthread=1)
            return booster.predict(matrix).astype(np.float64).reshape(len(rows), -1)

        return compute


class LightGBMRunner(ArrayRunner):
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
        import lightgbm  # noqa: PLC0415 - optional

        wrong = f"{self.file} is no model of LightGBM: write it with Booster.save_model('{self.file}')"
        if not self.content.startswith(b"tree\n") or b"\nend of trees" not in self.content:
            raise self.refuse(wrong)
        try:
            booster = lightgbm.Booster(model_str=self.content.decode("utf-8"))
        except (lightgbm.basic.LightGBMError, UnicodeDecodeError, ValueError) as failure:
            raise self.refuse(wrong, failure) from failure
        names = booster.feature_name()
        self.check_count(booster.num_feature())
        self.check_names(() if names == [f"Column_{place}" for place in range(len(names))] else names)
        return lambda rows: np.asarray(booster.predict(rows, num_threads=1), np.float64).reshape(len(rows), -1)
