"""The hospital's side: a Flower ClientApp that trains and evaluates inside the hospital.

It handles four kinds of message: ``query.sums`` (sums for the scaling), ``query.alone`` (evaluation of a model trained
at this hospital only), ``train`` and ``evaluate``. Only parameters, sums and a few numbers leave the hospital
(:mod:`federated.mods`).
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from federated import task
from federated.mods import allow_only

ARRAYS: Final = "arrays"
CONFIG: Final = "config"
METRICS: Final = "metrics"
UNDEFINED: Final = -1.0
"""Represents an undefined AUC: Flower's metrics are numbers."""

_WIDTH: Final = (len(task.FEATURES),)


def client_app(load: Callable[[Any], task.Hospital]) -> Any:
    """Build the ClientApp.

    Parameters
    ----------
    load
        Returns this machine's hospital, from Flower's Context.

    Returns
    -------
    flwr.clientapp.ClientApp
        To be run by a SuperNode, or by :class:`federated.grid.LocalGrid`.
    """

    def sums(message: Message, context: Context) -> Message:
        sums = task.sums(load(context).train.inputs)
        arrays = {"of_values": sums.of_values, "of_squares": sums.of_squares}
        return _reply(message, {"num-examples": sums.count}, arrays)

    def alone(message: Message, context: Context) -> Message:
        return _reply(message, _metrics(task.alone(load(context), read_descent(message.content[CONFIG]))))

    def train(message: Message, context: Context) -> Message:
        config, part = message.content[CONFIG], load(context).train
        trained = task.train(to_numpy(message.content[ARRAYS]), part, read_scaling(config), read_descent(config))
        return _reply(message, {"num-examples": part.labels.size}, trained)

    def evaluate(message: Message, context: Context) -> Message:
        part = load(context).test
        scaling = read_scaling(message.content[CONFIG])
        return _reply(message, _metrics(task.measure(to_numpy(message.content[ARRAYS]), part, scaling)))

    measured = frozenset({"num-examples", "positives", "negatives", "auc"})
    guards = {
        "sums": allow_only(arrays={"of_values": _WIDTH, "of_squares": _WIDTH}, metrics=frozenset({"num-examples"})),
        "train": allow_only(arrays={"weight": _WIDTH, "bias": (1,)}, metrics=frozenset({"num-examples"})),
        "measured": allow_only(arrays={}, metrics=measured),
    }
    app = ClientApp()
    app.query("sums", mods=[guards["sums"]])(sums)
    app.query("alone", mods=[guards["measured"]])(alone)
    app.train(mods=[guards["train"]])(train)
    app.evaluate(mods=[guards["measured"]])(evaluate)
    return app


def to_numpy(record: Any) -> dict[str, task.Vector]:
    """Return the arrays of a Flower ArrayRecord."""
    return {name: np.asarray(array.numpy(), dtype=np.float64) for name, array in record.items()}


def to_record(arrays: task.Parameters) -> Any:
    """Return a Flower ArrayRecord of these arrays."""
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def write_config(descent: task.Descent, scaling: task.Scaling | None = None) -> Any:
    """Return a Flower ConfigRecord with the training settings for a hospital.

    Parameters
    ----------
    descent
        Steps and learning rate.
    scaling
        How inputs are standardised; None before it is known (``query.alone``).
    """
    fields: dict[str, Any] = {"steps": descent.steps, "rate": descent.rate}
    if scaling is not None:
        fields |= {"mean": scaling.mean.tolist(), "scale": scaling.scale.tolist()}
    return ConfigRecord(fields)


def read_descent(config: Any) -> task.Descent:
    """Read steps and learning rate from a ConfigRecord of :func:`write_config`."""
    return task.Descent(steps=int(config["steps"]), rate=float(config["rate"]))


def read_scaling(config: Any) -> task.Scaling:
    """Read the scaling from a ConfigRecord of :func:`write_config`."""
    return task.Scaling(mean=np.array(config["mean"]), scale=np.array(config["scale"]))


def read_measured(metrics: Any) -> task.Measured:
    """Read a hospital's evaluation from a Flower MetricRecord."""
    auc = float(metrics["auc"])
    return task.Measured(
        positives=int(metrics["positives"]),
        negatives=int(metrics["negatives"]),
        auc=None if auc == UNDEFINED else auc,
    )


def _metrics(measured: task.Measured) -> dict[str, float]:
    return {
        "num-examples": measured.positives + measured.negatives,
        "positives": measured.positives,
        "negatives": measured.negatives,
        "auc": UNDEFINED if measured.auc is None else measured.auc,
    }


def _reply(message: Any, metrics: dict[str, float], arrays: task.Parameters | None = None) -> Any:
    records = {METRICS: MetricRecord(metrics)}
    if arrays is not None:
        records[ARRAYS] = to_record(arrays)
    return Message(RecordDict(records), reply_to=message)
