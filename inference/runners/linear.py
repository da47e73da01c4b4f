"""Linear and logistic models: a few numbers in safetensors, their meaning in ``features.yaml``.

``weights.safetensors`` holds, in the order of ``features.yaml`` (n features):

    weight  (n,)  and bias ()     the linear predictor; (m, n) and (m,) for the m outputs of ``model.yaml``, in order
    mean    (n,)  and scale (n,)  optional: each feature becomes (x - mean) / scale first
    fill    (n,)                  optional: stands in, before that, for features whose policy lets them be unknown
"""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from inference.contract import FeatureUse, ModelInput
from inference.features.extract import Extraction, FeatureValue, compile_features
from inference.folder import WEIGHTS
from inference.manifest import OutputSpec
from inference.outputs import make_output
from inference.runners.array_inputs import check_numbers
from inference.runners.base import Answer, Declined, Decoded, Runner
from inference.runners.tabular import decode_features
from kernel.errors import Category, Problem

Vector = NDArray[np.float64]

_NAMES: Final = frozenset({"weight", "bias", "mean", "scale", "fill"})


class LinearRunner(Runner[Extraction, Vector, Vector]):
    """Runs a linear model, on the processor whatever the device: it is one product of small matrices."""

    kinds = frozenset({"facts"})

    def setup(self, device: str) -> None:  # noqa: ARG002 - see the class
        """Read the numbers and check that they fit the features.

        Raises
        ------
        Problem
            ``incorrect`` when a feature is no number, or when arrays are missing, unexpected, not finite or of another
            size than the features and outputs, or a scale is not above 0.
        """
        check_numbers(self.model.features)
        count, outputs = len(self.model.features), len(self.model.manifest.outputs)
        sizes = {"weight": outputs * count, "bias": outputs}
        tensors = _tensors(self.model.files.get(WEIGHTS, b""))
        if not {"weight", "bias"} <= tensors.keys() <= _NAMES:
            raise Problem(Category.INCORRECT, f"{WEIGHTS} must hold weight and bias, and may hold mean, scale and fill")
        for name, array in tensors.items():
            if array.size != sizes.get(name, count) or not np.isfinite(array).all():
                several = f" and {outputs} outputs" if outputs > 1 else ""
                raise Problem(Category.INCORRECT, f"{WEIGHTS}: {name} does not fit the {count} features{several}")
        if outputs > 1 and tensors["weight"].shape != (outputs, count):
            raise Problem(Category.INCORRECT, f"{WEIGHTS}: weight must have one row for each output")
        self._weight, self._bias = tensors["weight"].reshape(outputs, count), tensors["bias"].reshape(outputs)
        self._mean, self._scale = tensors.get("mean", np.zeros(count)), tensors.get("scale", np.ones(count))
        if not (self._scale > 0).all():
            raise Problem(Category.INCORRECT, f"{WEIGHTS}: scale must be above 0")
        self._fill = tensors.get("fill", np.full(count, np.nan))
        self._extract = compile_features(self.model.features)

    def decode(self, given: ModelInput) -> Decoded[Extraction]:
        """Extract the features; decline when one is unknown and has no fill value."""
        decoded = decode_features(self._extract, given, self.model.manifest.limits)
        unknown = np.isnan(self._row(decoded.item))
        if unknown.any():
            titles = tuple(spec.title for spec, gone in zip(self.model.features, unknown, strict=True) if gone)
            raise Declined(
                f"missing {', '.join(titles)}", missing=titles, inputs=decoded.inputs, features=decoded.features
            )
        unmeasured = {name for name, reading in decoded.item.readings.items() if reading is None}
        features = tuple(self._filled(use) if use.name in unmeasured else use for use in decoded.features)
        return replace(decoded, features=features)

    def batch(self, items: Sequence[Extraction]) -> Vector:
        """Stack features to (patients, n), standardised."""
        rows = np.stack([self._row(item) for item in items])
        standardised: Vector = (rows - self._mean) / self._scale
        return standardised

    def predict(self, batch: Vector) -> Sequence[Vector]:
        """Return the linear predictors of each patient, one for each output."""
        return list(batch @ self._weight.T + self._bias)

    def encode(self, item: Extraction, raw: Vector) -> Answer:  # noqa: ARG002 - the number is all that is needed
        """Express the result in the manifest's codes, as a probability where the manifest declares one.

        Parameters
        ----------
        item
            The patient's features; not used.
        raw
            The linear predictors, in the order of the outputs.
        """
        outputs = tuple(
            make_output(spec, _value(spec, float(number)), notice=self.opening())
            for spec, number in zip(self.model.manifest.outputs, raw, strict=True)
        )
        return Answer(outputs=outputs)

    def _filled(self, use: FeatureUse) -> FeatureUse:
        """Return what became of a feature, with the value that stands in for a missing one."""
        names = [spec.name for spec in self.model.features]
        value = Decimal(repr(float(self._fill[names.index(use.name)])))
        return replace(use, value=value, status="imputed" if use.status == "missing" else use.status)

    def _row(self, extraction: Extraction) -> Vector:
        readings = [extraction.readings[spec.name] for spec in self.model.features]
        values = np.array([_number(reading) for reading in readings])
        return np.where(np.isnan(values), self._fill, values)


def _tensors(content: bytes) -> dict[str, Vector]:
    try:
        return {name: array.astype(np.float64) for name, array in load(content).items()}
    except (SafetensorError, ValueError, KeyError, TypeError) as failure:
        detail = f"{WEIGHTS} is no safetensors file: write it with safetensors.numpy.save_file"
        raise Problem(Category.INCORRECT, detail, diagnostics=repr(failure)) from failure


def _value(spec: OutputSpec, predictor: float) -> float:
    return float(np.exp(-np.logaddexp(0.0, -predictor))) if spec.kind == "probability" else predictor


def _number(reading: FeatureValue | None) -> float:
    return float("nan") if reading is None else float(reading.value)
