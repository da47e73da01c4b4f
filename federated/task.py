"""The learning task: heart disease at four hospitals (UCI, Janosi and others 1988), by logistic regression.

The data are prepared as in the FLamby benchmark (Ogier du Terrail and others 2022, Fed-Heart-Disease): three columns
that most hospitals left empty are dropped, then every row with a missing value, then the two categorical columns become
indicators: 13 inputs, 740 patients. This module uses NumPy only and does not depend on Flower.
"""

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inference.measure import auroc
from kernel.errors import Category, Problem

Vector: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.bool_]
Parameters: TypeAlias = Mapping[str, Vector]
"""``weight`` (13,) and ``bias`` (1,) of the linear predictor over standardised inputs."""

HOSPITALS: Final = ("cleveland", "hungarian", "switzerland", "va")
FEATURES: Final = (
    "age",
    "sex",
    "trestbps",
    "chol",
    "fbs",
    "thalach",
    "exang",
    "oldpeak",
    "cp_2",
    "cp_3",
    "cp_4",
    "restecg_1",
    "restecg_2",
)
"""The 13 inputs, in order; ``cp`` is the type of chest pain and ``restecg`` the resting electrocardiogram."""

FEWEST: Final = 5
"""With fewer test patients than this of either class, an AUC is not meaningful."""

_COLUMNS: Final = ("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak")
_DIAGNOSIS: Final = 13
_TEST_SHARE: Final = 1 / 3


@dataclass(frozen=True, kw_only=True)
class Part:
    """Patients of one hospital: (n, 13) inputs as measured, (n,) labels, true for heart disease."""

    inputs: Vector
    labels: Labels


@dataclass(frozen=True, kw_only=True)
class Hospital:
    """The data of one hospital, which stay on its machine."""

    name: str
    train: Part
    test: Part


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How inputs are standardised: (x - mean) / scale, each (13,)."""

    mean: Vector
    scale: Vector

    def apply(self, inputs: Vector) -> Vector:
        """Standardise (n, 13) inputs."""
        standardised: Vector = (inputs - self.mean) / self.scale
        return standardised


@dataclass(frozen=True, kw_only=True)
class Sums:
    """The sums that a hospital sends for the common scaling: (13,) each, and the number of patients."""

    count: int
    of_values: Vector
    of_squares: Vector

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            count=self.count + other.count,
            of_values=self.of_values + other.of_values,
            of_squares=self.of_squares + other.of_squares,
        )

    def scaling(self) -> Scaling:
        """Return mean and standard deviation; a constant input gets the scale 1."""
        mean = self.of_values / self.count
        deviation = np.sqrt(np.maximum(self.of_squares / self.count - mean**2, 0.0))
        return Scaling(mean=mean, scale=np.where(deviation > 1e-9, deviation, 1.0))


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Full-batch gradient descent on the mean log loss."""

    steps: int = 5
    rate: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Performance of a model on a hospital's test patients."""

    positives: int
    negatives: int
    #: None when one of the classes does not occur.
    auc: float | None

    @property
    def meaningful(self) -> bool:
        """Whether there are enough patients of either class for the AUC to be meaningful."""
        return min(self.positives, self.negatives) >= FEWEST


def load_hospital(data: Path, name: str, seed: int) -> Hospital:
    """Read one hospital's file and split its patients.

    Parameters
    ----------
    data
        Folder of ``processed.<name>.data``.
    name
        One of :data:`HOSPITALS`.
    seed
        Decides which third of the patients, of either class, is kept for testing.

    Raises
    ------
    Problem
        ``not-found`` when there is no such file; ``incorrect`` when its content is not as expected.
    """
    path = data / f"processed.{name}.data"
    try:
        with path.open(newline="", encoding="ascii") as file:
            rows = [row for row in csv.reader(file) if row]
        everybody = _prepare(rows)
    except FileNotFoundError as failure:
        raise Problem(Category.NOT_FOUND, f"there is no {path.name}") from failure
    except (ValueError, IndexError) as failure:
        raise Problem(Category.INCORRECT, f"{path.name} is not a file of the UCI heart disease data") from failure
    random = np.random.default_rng([seed, HOSPITALS.index(name)])
    held_out = np.zeros(everybody.labels.size, dtype=np.bool_)
    for kind in (True, False):
        of_kind = random.permutation(np.flatnonzero(everybody.labels == kind))
        held_out[of_kind[: round(of_kind.size * _TEST_SHARE)]] = True
    return Hospital(name=name, train=_take(everybody, ~held_out), test=_take(everybody, held_out))


def sums(inputs: Vector) -> Sums:
    """Sum (n, 13) inputs and their squares over the patients."""
    return Sums(count=len(inputs), of_values=inputs.sum(axis=0), of_squares=(inputs**2).sum(axis=0))


def start() -> dict[str, Vector]:
    """Return the initial parameters, all zero."""
    return {"weight": np.zeros(len(FEATURES)), "bias": np.zeros(1)}


def train(parameters: Parameters, part: Part, scaling: Scaling, descent: Descent) -> dict[str, Vector]:
    """Run gradient descent.

    Parameters
    ----------
    parameters
        The initial parameters; not changed.
    part
        The training patients.
    scaling
        How their inputs are standardised.
    descent
        Number of steps and learning rate.

    Returns
    -------
    dict
        The new parameters: ``weight`` (13,) and ``bias`` (1,).
    """
    inputs = scaling.apply(part.inputs)
    weight, bias = parameters["weight"].copy(), parameters["bias"].copy()
    for _ in range(descent.steps):
        error = _probability(inputs @ weight + bias) - part.labels
        weight -= descent.rate * (inputs.T @ error) / error.size
        bias -= descent.rate * error.mean()
    return {"weight": weight, "bias": bias}


def measure(parameters: Parameters, part: Part, scaling: Scaling) -> Measured:
    """Compute the area under the ROC curve.

    Parameters
    ----------
    parameters
        The model: ``weight`` (13,) and ``bias`` (1,).
    part
        The patients to evaluate on.
    scaling
        How their inputs are standardised.
    """
    positives = int(part.labels.sum())
    negatives = part.labels.size - positives
    scores = scaling.apply(part.inputs) @ parameters["weight"] + parameters["bias"]
    auc = auroc(part.labels, scores) if positives and negatives else None
    return Measured(positives=positives, negatives=negatives, auc=auc)


def alone(hospital: Hospital, descent: Descent) -> Measured:
    """Train on one hospital's patients only, with its own scaling, and evaluate on its test patients.

    Parameters
    ----------
    hospital
        The hospital's training and test patients.
    descent
        Number of steps and learning rate.
    """
    scaling = sums(hospital.train.inputs).scaling()
    return measure(train(start(), hospital.train, scaling, descent), hospital.test, scaling)


def digest(arrays: Mapping[str, Vector]) -> str:
    """Return the SHA-256 (hex) of named arrays: names in order, each with its little-endian 64-bit floats."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + b"\x00" + np.ascontiguousarray(arrays[name], dtype="<f8").tobytes())
    return digest.hexdigest()


def _prepare(rows: list[list[str]]) -> Part:
    complete = [row for row in rows if "?" not in (*row[: len(_COLUMNS)], row[_DIAGNOSIS])]
    columns = dict(zip(_COLUMNS, np.array([row[: len(_COLUMNS)] for row in complete], dtype=np.float64).T, strict=True))
    indicators = {f"cp_{kind}": columns["cp"] == kind for kind in (2, 3, 4)}
    indicators |= {f"restecg_{kind}": columns["restecg"] == kind for kind in (1, 2)}
    inputs = np.stack([np.asarray((columns | indicators)[name], dtype=np.float64) for name in FEATURES], axis=1)
    return Part(inputs=inputs, labels=np.array([float(row[_DIAGNOSIS]) > 0 for row in complete]))


def _take(part: Part, chosen: Labels) -> Part:
    return Part(inputs=part.inputs[chosen], labels=part.labels[chosen])


def _probability(logit: Vector) -> Vector:
    probability: Vector = np.exp(-np.logaddexp(0.0, -logit))
    return probability
