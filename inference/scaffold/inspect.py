"""What a file of weights says of its model: runner, inputs and outputs. Nothing that a file names is run."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from inference.contract import OutputKind
from inference.folder import FILL_IN, WEIGHTS
from inference.runners.kinds import RUNNERS, check_installed
from inference.scaffold.bundle import inspect_bundle, is_bundle
from inference.scaffold.dense_net import inspect_dense_net, is_dense_net
from inference.scaffold.found import Found, numbered
from kernel.errors import Category, Problem

_Inspect = Callable[[str, bytes], Found]


def inspect_file(path: Path) -> Found:
    """Read a file of weights and say what its model takes and gives.

    Parameters
    ----------
    path
        The file; its ending says which library wrote it.

    Raises
    ------
    Problem
        ``incorrect`` when the file cannot be read or holds what is not allowed; ``unsupported`` for a kind of file that
        is never opened, with what to write instead, and when a package is not installed.
    """
    if path.is_dir() and is_bundle(path):
        return inspect_bundle(path)
    if path.is_dir():
        check_installed("transformers", RUNNERS["transformers"])
        return _huggingface(path)
    suffix = path.suffix.lower()
    if suffix in _INSTEAD:
        raise Problem(Category.UNSUPPORTED, f"{path.name} is not opened: {_INSTEAD[suffix]}")
    if suffix not in _INSPECTORS:
        known = ", ".join(sorted(_INSPECTORS))
        raise Problem(Category.UNSUPPORTED, f"{path.name} must end with one of: {known}")
    runner, inspect = _INSPECTORS[suffix]
    check_installed(runner, RUNNERS[runner])
    try:
        content = path.read_bytes()
    except OSError as failure:
        raise Problem(Category.INCORRECT, f"{path.name} cannot be read", diagnostics=repr(failure)) from failure
    found = inspect(path.name, content)
    return found if found.files else replace(found, files={found.file: content})


def _skops(name: str, content: bytes) -> Found:
    from inference.runners.sklearn import read_skops  # noqa: PLC0415 - optional libraries, here and below

    estimator = read_skops(name, content)
    names = tuple(str(one) for one in getattr(estimator, "feature_names_in_", ()))
    features = names or numbered(int(getattr(estimator, "n_features_in_", 0)))
    if not hasattr(estimator, "predict_proba"):
        return Found(runner="sklearn", file="weights.skops", features=features, output="score")
    classes = tuple(str(one) for one in estimator.classes_)
    if len(classes) > 2:
        return Found(runner="sklearn", file="weights.skops", features=features, output="class-set", classes=classes)
    plain = {one.lower() for one in classes} <= {"0", "1", "0.0", "1.0", "true", "false"}
    options = {} if plain else {"positive": FILL_IN}
    return Found(runner="sklearn", file="weights.skops", features=features, options=options, classes=classes)


def _xgboost(name: str, content: bytes) -> Found:
    from inference.runners.boosting import PROBABLE, read_xgboost, stated_names  # noqa: PLC0415

    booster = read_xgboost(name, content)
    learner = json.loads(booster.save_config())["learner"]
    objective, classes = learner["objective"]["name"], int(learner["learner_model_param"]["num_class"])
    features = stated_names(booster.feature_names, "f") or numbered(booster.num_features())
    file = "weights.json" if content[1:2] in b'"\n \t\r' else "weights.ubj"
    if objective.startswith("multi:"):
        return Found(
            runner="xgboost", file=file, features=features, output="class-set", classes=numbered(classes, "class")
        )
    options = {"transform": "sigmoid"} if objective == "binary:logitraw" else {}
    is_binary = bool(options) or objective in PROBABLE
    return Found(
        runner="xgboost", file=file, features=features, options=options, output="probability" if is_binary else "score"
    )


def _lightgbm(name: str, content: bytes) -> Found:
    from inference.runners.boosting import (  # noqa: PLC0415
        PROBABLE,
        lightgbm_objective,
        read_lightgbm,
        stated_names,
    )

    booster = read_lightgbm(name, content)
    features = stated_names(booster.feature_name(), "Column_") or numbered(booster.num_feature())
    classes = booster.num_model_per_iteration()
    if classes > 1:
        return Found(
            runner="lightgbm",
            file="weights.txt",
            features=features,
            output="class-set",
            classes=numbered(classes, "class"),
        )
    output: OutputKind = "probability" if lightgbm_objective(content) in PROBABLE else "score"
    return Found(runner="lightgbm", file="weights.txt", features=features, output=output)


def _onnx(name: str, content: bytes) -> Found:
    from inference.runners.onnx import read_onnx  # noqa: PLC0415

    graph = read_onnx(name, content).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [one for one in graph.input if one.name not in weights]
    if len(inputs) != 1:
        taken = ", ".join(one.name for one in inputs)
        raise Problem(Category.INCORRECT, f"{name} must take one tensor of numbers; it takes {taken}")
    shape = [one.dim_value for one in inputs[0].type.tensor_type.shape.dim][1:]
    outputs = [one for one in graph.output if one.type.HasField("tensor_type")]
    numeric = [one for one in outputs if one.type.tensor_type.elem_type in {1, 10, 11}]
    last = {output: node.op_type for node in graph.node for output in node.output}
    options: dict[str, object] = {"output": FILL_IN} if len(numeric) > 1 else {}
    ends = {last.get(one.name, "") for one in numeric}
    if not ends <= {"Sigmoid", "Softmax", "LinearClassifier", "TreeEnsembleClassifier", "Normalizer"}:
        options["transform"] = FILL_IN
    given = [one.dim_value for one in numeric[0].type.tensor_type.shape.dim] if numeric else []
    several = len(given) == 2 and given[1] > 2
    found = Found(runner="onnx", file="weights.onnx", options=options)
    return _of_shape(name, found, shape, given[1] if several else 0)


def _program(name: str, content: bytes) -> Found:
    from inference.runners.program import read_program  # noqa: PLC0415

    program = read_program(name, content)
    found = Found(runner="torch-program", file="weights.pt2", options={"transform": FILL_IN})
    return _of_shape(name, found, [size or 0 for size in program.shape[1:]], 0)


def _of_shape(name: str, found: Found, shape: list[int], classes: int) -> Found:
    """Return what a network takes, by the number of axes of an item."""
    if classes:
        found = replace(found, output="class-set", classes=numbered(classes, "class"))
    if len(shape) == 1:
        return replace(found, features=numbered(shape[0] or 1))
    if len(shape) == 2:
        return replace(found, input="series", features=numbered(shape[1] or 1), size=(shape[0],))
    if len(shape) == 3:
        sides = [side or FILL_IN for side in shape[1:]]
        return replace(found, input="image", options={**found.options, "resize": sides, "channels": shape[0] or 1})
    raise Problem(
        Category.INCORRECT,
        f"{name} must take (items, features), (items, steps, features) or (items, channels, rows, columns)",
    )


def _safetensors(name: str, content: bytes) -> Found:
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.numpy import load  # noqa: PLC0415

    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError) as failure:
        raise Problem(Category.INCORRECT, f"{name} is no safetensors file", diagnostics=repr(failure)) from failure
    if {"weight", "bias"} <= tensors.keys() <= {"weight", "bias", "mean", "scale", "fill"}:
        outputs = tensors["bias"].size
        features = numbered(tensors["weight"].size // max(outputs, 1))
        return Found(runner="linear", file="weights.safetensors", features=features)
    if is_dense_net(tensors):
        return inspect_dense_net(name, tensors)
    return _network({key: tensor.shape for key, tensor in tensors.items()})


def _checkpoint(name: str, content: bytes) -> Found:
    from safetensors.torch import save  # noqa: PLC0415

    from inference.scaffold.checkpoint import read_checkpoint  # noqa: PLC0415

    written = bytes(save(dict(read_checkpoint(name, content))))
    found = _safetensors(name, written)
    return found if found.files else replace(found, files={WEIGHTS: written})


def _network(shapes: Mapping[str, tuple[int, ...]]) -> Found:
    """Return which network of the table has such tensors, as far as they say it."""
    found = Found(
        runner="torch-network", file="weights.safetensors", options={"network": FILL_IN, "transform": FILL_IN}
    )
    weights = sorted(
        (int(key.removesuffix(".weight")), shape) for key, shape in shapes.items() if _LAYER.fullmatch(key)
    )
    if weights and len(shapes) == 2 * len(weights):
        hidden = [shape[0] for _, shape in weights[:-1]]
        options = {"network": "mlp", "arguments": {"hidden": hidden}, "transform": FILL_IN}
        return replace(found, options=options, features=numbered(weights[0][1][1]))
    if "rnn.weight_ih_l0" in shapes and "rnn.weight_hh_l0" in shapes:
        gates, hidden_size = shapes["rnn.weight_hh_l0"]
        layers = sum(key.startswith("rnn.weight_hh_l") for key in shapes)
        network = "lstm" if gates == 4 * hidden_size else "gru"
        options = {"network": network, "arguments": {"hidden": hidden_size, "layers": layers}, "transform": FILL_IN}
        features = numbered(shapes["rnn.weight_ih_l0"][1])
        return replace(found, options=options, input="series", features=features, size=(0,))
    sizes: dict[str, object] = {"resize": [FILL_IN, FILL_IN], "channels": FILL_IN}
    return replace(found, options={**found.options, **sizes}, input="image")


_LAYER: Final = re.compile(r"[0-9]+\.weight")


def _huggingface(folder: Path) -> Found:
    """Read what ``save_pretrained`` wrote."""
    files: dict[str, bytes] = {}
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        try:
            files[f"huggingface/{name}"] = (folder / name).read_bytes()
        except OSError as failure:
            detail = f"{folder.name} has no {name}: write it with save_pretrained of model and tokenizer"
            raise Problem(Category.INCORRECT, detail) from failure
    try:
        config = json.loads(files["huggingface/config.json"])
        stated = config.get("id2label", {})
        labels = tuple(str(stated[key]) for key in sorted(stated, key=int))
        network = str((config.get("architectures") or [""])[0])
    except (ValueError, AttributeError, TypeError, IndexError) as failure:
        detail = f"{folder.name}/config.json is no configuration of transformers"
        raise Problem(Category.INCORRECT, detail, diagnostics=repr(failure)) from failure
    found = Found(runner="transformers", file="huggingface/model.safetensors", files=files, input="text")
    if network.endswith("ForTokenClassification"):
        return replace(found, options={"task": "token"}, output="spans")
    if not network.endswith("ForSequenceClassification"):
        detail = f"{folder.name}/config.json: {network or 'no network'} is no sequence or token classification"
        raise Problem(Category.INCORRECT, detail)
    if len(labels) == 2:
        return replace(found, options={"task": "sequence", "positive": FILL_IN}, classes=labels)
    return replace(found, options={"task": "sequence"}, output="class-set", classes=labels)


_INSPECTORS: Final[Mapping[str, tuple[str, _Inspect]]] = MappingProxyType(
    {
        ".skops": ("sklearn", _skops),
        ".ubj": ("xgboost", _xgboost),
        ".json": ("xgboost", _xgboost),
        ".txt": ("lightgbm", _lightgbm),
        ".onnx": ("onnx", _onnx),
        ".pt2": ("torch-program", _program),
        **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin"), ("torch-network", _checkpoint)),
        ".safetensors": ("linear", _safetensors),
    }
)
"""Ending of a file -> its runner, and what reads it."""

_PICKLE: Final = (
    "it is a pickle, which runs code when it is opened; write the model with skops.io.dump, as weights.skops"
)
_KERAS: Final = "write the model as ONNX, as weights.onnx"
_XGBOOST: Final = "it is of a form that XGBoost no longer reads; write the model with save_model('weights.ubj')"
_INSTEAD: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys((".pkl", ".pickle", ".joblib", ".sav"), _PICKLE),
        **dict.fromkeys((".h5", ".keras", ".pb", ".tflite"), _KERAS),
        **dict.fromkeys((".model", ".bst"), _XGBOOST),
    }
)
"""Ending of a file that is not opened -> what to write instead."""
