"""scikit-learn models from a skops file: objects are made only of types that are listed, and nothing is unpickled.

Two checks stand before anything is made: the schema of the file may use only the loaders of :data:`_LOADERS`, none of
which calls a function that the file names; and every type must be one that skops trusts by itself (estimators of
scikit-learn, arrays of numpy, plain Python values) or one of :data:`TRUSTED`.
"""

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from inference.runners.arrays import ArrayRunner, Compute
from inference.yaml_mapping import YamlMapping
from kernel.errors import Category, Problem

TRUSTED: Final = (
    "numpy.dtype",
    "sklearn._loss.link.HalfLogitLink",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    "sklearn._loss.link.LogLink",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
)
"""Parts of fitted estimators that skops does not trust by itself; each holds numbers only."""

_LOADERS: Final = frozenset(
    {
        "BytearrayNode",
        "BytesNode",
        "CachedNode",
        "DTypeNode",
        "DefaultDictNode",
        "DictNode",
        "JsonNode",
        "ListNode",
        "LossNode",
        "MaskedArrayNode",
        "NdArrayNode",
        "ObjectNode",
        "RandomGeneratorNode",
        "RandomStateNode",
        "SetNode",
        "SliceNode",
        "SparseMatrixNode",
        "TreeNode",
        "TupleNode",
        "TypeNode",
    }
)
_MOST_BYTES: Final = 2**31
"""Of a file's content, unpacked."""


class SklearnRunner(ArrayRunner):
    """Runs an estimator or a pipeline of scikit-learn, on the processor."""

    def load(self, options: YamlMapping, device: str) -> Compute:  # noqa: ARG002 - scikit-learn has no device
        """Make the estimator and say which of its methods answers.

        Parameters
        ----------
        options
            Of ``model.yaml.runner``; ``positive`` names the class that the probability is of.
        device
            Not used.

        Raises
        ------
        Problem
            ``incorrect`` when the file holds what is not allowed, or does not fit the declarations.
        """
        estimator = read_skops(self.file, self.content)
        self.check_names([str(name) for name in getattr(estimator, "feature_names_in_", ())])
        if hasattr(estimator, "n_features_in_"):
            self.check_count(int(estimator.n_features_in_))
        _settle(estimator)
        if not self.outputs.of_classes:
            return lambda rows: np.asarray(estimator.predict(rows), dtype=np.float64).reshape(len(rows), -1)
        if not hasattr(estimator, "predict_proba"):
            kind = type(estimator).__name__
            raise self.refuse(
                f"model.yaml.outputs[0].kind must be score: {kind} in {self.file} gives no probabilities; "
                "to get them, train it within CalibratedClassifierCV"
            )
        columns = self._columns([str(name) for name in estimator.classes_], options)
        return lambda rows: np.asarray(estimator.predict_proba(rows), dtype=np.float64)[:, columns]

    def _columns(self, classes: Sequence[str], options: YamlMapping) -> list[int]:
        """Return which columns of ``predict_proba`` answer the declared outputs."""
        named = not {name.lower() for name in classes} <= {"0", "1", "0.0", "1.0", "true", "false"}
        if self.outputs.is_binary and (named or options.has("positive") or len(classes) != 2):
            if not options.has("positive"):
                raise self.refuse(
                    f"model.yaml.runner.positive must name the class of the probability, one of: {', '.join(classes)}"
                )
            return [classes.index(options.choice("positive", *classes))]
        words = any(not name.lstrip("-").replace(".", "", 1).isdigit() for name in classes)
        if self.outputs.classes and words and tuple(classes) != self.outputs.classes:
            raise self.refuse(
                f"model.yaml.outputs[0].bands must be named, in this order: {', '.join(classes)}, as in {self.file}"
            )
        return list(range(len(classes)))


def read_skops(name: str, content: bytes) -> Any:
    """Return the estimator that a skops file holds.

    Parameters
    ----------
    name
        Of the file, for refusals.
    content
        Its bytes.

    Raises
    ------
    Problem
        ``incorrect`` when it is no such file or holds what is not allowed, which is named.
    """
    from skops import io as skops_io  # noqa: PLC0415 - optional

    schema = _schema(name, content)
    strange = sorted({_named(node) for node in _nodes(schema) if node["__loader__"] not in _LOADERS})
    try:
        strange = strange or sorted(set(skops_io.get_untrusted_types(data=content)) - set(TRUSTED))
        if not strange:
            return skops_io.loads(content, trusted=list(TRUSTED))
    except Exception as failure:
        detail = f"{name} cannot be read as a skops file"
        raise Problem(Category.INCORRECT, detail, diagnostics=repr(failure)) from failure
    raise Problem(
        Category.INCORRECT,
        f"{name} holds what is not allowed: {', '.join(strange)}; train the model of scikit-learn's own "
        "estimators, without functions, or export it to ONNX and declare model.yaml.runner: onnx",
    )


def _schema(name: str, content: bytes) -> Any:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
            if size > _MOST_BYTES:
                raise Problem(Category.INCORRECT, f"{name} is larger than {_MOST_BYTES} bytes when unpacked")
            return json.loads(packed.read("schema.json"))
    except (zipfile.BadZipFile, KeyError, ValueError) as failure:
        hint = "; a pickle or joblib file runs code when it is opened, and is never opened here"
        pickled = hint if content[:1] == b"\x80" else ""
        detail = f"{name} is no skops file: write it with skops.io.dump{pickled}"
        raise Problem(Category.INCORRECT, detail) from failure


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every node of a skops schema that names a loader."""
    if isinstance(schema, dict):
        if "__loader__" in schema:
            yield schema
        for part in schema.values():
            yield from _nodes(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _nodes(part)


def _named(node: dict[str, Any]) -> str:
    return f"{node.get('__module__')}.{node.get('__class__')} ({node['__loader__']})"


def _settle(estimator: Any) -> None:
    """Make every part work on this thread alone and on rows without names, which were compared before."""
    if hasattr(estimator, "get_params"):
        parameters = estimator.get_params(deep=False)
        if "n_jobs" in parameters:
            estimator.n_jobs = None
    if hasattr(estimator, "__dict__") and type(estimator).__module__.startswith("sklearn."):
        vars(estimator).pop("feature_names_in_", None)
        for part in list(vars(estimator).values()):
            _settle_within(part)


def _settle_within(part: Any) -> None:
    if isinstance(part, list | tuple):
        for one in part:
            _settle_within(one)
    elif isinstance(part, dict):
        for one in part.values():
            _settle_within(one)
    elif hasattr(part, "get_params") or type(part).__module__.startswith("sklearn.calibration"):
        _settle(part)
