"""DenseNets as torchvision and torchxrayvision name their tensors, renamed for the same network of MONAI.

torchxrayvision keeps an operating point for each finding beside the network (``op_threshs``), at which its number is
0.5; a finding without one (NaN) was not among those that the network learned, and is left out.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from inference.folder import FILL_IN, WEIGHTS
from inference.scaffold.found import Found
from kernel.errors import Category, Problem

Tensors = Mapping[str, NDArray[Any]]

FINDINGS: Final = (
    "Atelectasis",
    "Consolidation",
    "Infiltration",
    "Pneumothorax",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Effusion",
    "Pneumonia",
    "Pleural Thickening",
    "Cardiomegaly",
    "Nodule",
    "Mass",
    "Hernia",
    "Lung Lesion",
    "Fracture",
    "Lung Opacity",
    "Enlarged Cardiomediastinum",
)
"""What the networks of torchxrayvision say, in their order."""

_POINTS: Final = "op_threshs"
_FIRST, _WEIGHT, _BIAS = "features.conv0.weight", "classifier.weight", "classifier.bias"
_LAYER: Final = re.compile(r"(features\.denseblock(\d+)\.denselayer(\d+)\.)(norm|conv)\.?([12])\.(.+)")
_BLOCKS: Final = {"DenseNet121": [6, 12, 24, 16], "DenseNet169": [6, 12, 32, 32], "DenseNet201": [6, 12, 48, 32]}
_SIDE: Final = 224
_RANGE: Final = 2048
"""torchxrayvision's networks read pixels from -1024 to 1024."""


def is_dense_net(names: Mapping[str, object]) -> bool:
    """Return whether tensors have the names of a DenseNet of torchvision or torchxrayvision."""
    return {_FIRST, _WEIGHT, _BIAS} <= names.keys() and any(_LAYER.fullmatch(name) for name in names)


def inspect_dense_net(name: str, tensors: Tensors) -> Found:
    """Return the network of the table that has such tensors, with the tensors under its names.

    Parameters
    ----------
    name
        Of the file, for refusals.
    tensors
        By their names in the file.

    Raises
    ------
    Problem
        ``incorrect`` when the operating points are not those of the network.
    """
    points = tensors.get(_POINTS)
    kept = _kept(name, points, len(tensors[_BIAS]))
    prefix = "network." if points is not None else ""
    renamed = {
        f"{prefix}{_renamed(key)}": value for key, value in tensors.items() if key not in {_POINTS, _WEIGHT, _BIAS}
    }
    renamed |= {
        f"{prefix}class_layers.out.weight": tensors[_WEIGHT][kept],
        f"{prefix}class_layers.out.bias": tensors[_BIAS][kept],
    }
    if points is not None:
        renamed["operating_points"] = points.astype(np.float32)[kept]
    network, arguments = _network(tensors)
    made = "torchxrayvision" if points is not None else "monai"
    options: dict[str, object] = {"network": f"{made}.{network}", **({"arguments": arguments} if arguments else {})}
    channels = int(tensors[_FIRST].shape[1])
    files = {WEIGHTS: bytes(save({key: np.asarray(value, order="C") for key, value in renamed.items()}))}
    if points is None:
        asked = dict.fromkeys(("transform", "pixel_mean", "pixel_scale"), FILL_IN)
        options |= {**asked, "resize": [FILL_IN, FILL_IN], "channels": channels}
        found = Found(runner="torch-network", file=WEIGHTS, files=files, input="image", options=options)
        return found.with_classes(tuple(f"class-{one + 1}" for one in range(len(kept)))) if len(kept) > 1 else found
    options |= {"resize": [_SIDE, _SIDE], "channels": channels, "pixel_mean": 0.5, "pixel_scale": 1 / _RANGE}
    return Found(
        runner="torch-network",
        file=WEIGHTS,
        files=files,
        input="image",
        options=options,
        output="score",
        findings=tuple(_finding(number, len(points)) for number in kept.tolist()),
        warnings=("At 0.5 is the operating point of each finding; the numbers are no probabilities.",),
    )


def _kept(name: str, points: NDArray[Any] | None, outputs: int) -> NDArray[np.int64]:
    """Return which outputs count: all, or those that have an operating point."""
    if points is None:
        return np.arange(outputs)
    known = points[np.isfinite(points)]
    if points.shape != (outputs,) or not known.size or not ((known > 0) & (known < 1)).all():
        raise Problem(
            Category.INCORRECT,
            f"{name}: {_POINTS} must have {outputs} numbers between 0 and 1, one for each output of the classifier, "
            "and NaN where it has none",
        )
    return np.flatnonzero(np.isfinite(points))


def _renamed(key: str) -> str:
    found = _LAYER.fullmatch(key)
    return key if found is None else f"{found[1]}layers.{found[4]}{found[5]}.{found[6]}"


def _network(tensors: Tensors) -> tuple[str, dict[str, object]]:
    """Return the name of the network, and the arguments in which it differs from the one of that name."""
    layers: dict[int, int] = {}
    for key in tensors:
        found = _LAYER.fullmatch(key)
        if found is not None:
            block = int(found[2])
            layers[block] = max(layers.get(block, 0), int(found[3]))
    blocks = [layers[block] for block in sorted(layers)]
    first = next(value for key, value in sorted(tensors.items()) if _renamed(key).endswith("layers.conv2.weight"))
    arguments: dict[str, object] = {}
    if tensors[_FIRST].shape[0] != 64:
        arguments["init_features"] = int(tensors[_FIRST].shape[0])
    if first.shape[0] != 32:
        arguments["growth_rate"] = int(first.shape[0])
    for name, usual in _BLOCKS.items():
        if blocks == usual:
            return name, arguments
    return "DenseNet121", arguments | {"block_config": blocks}


def _finding(number: int, outputs: int) -> str:
    return FINDINGS[number] if outputs == len(FINDINGS) else f"finding {number + 1}"
