"""MONAI bundles, turned into folders of ours: the network by the table of networks, the numbers as safetensors.

Of a bundle only ``network_def`` of its inference configuration, its metadata and its weights are read. A value that
begins with ``$`` is an expression, which MONAI would evaluate; with ``@`` it is a reference. Neither is followed: a
network that needs one is refused with its place.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from inference.folder import FILL_IN, WEIGHTS
from inference.scaffold.checkpoint import read_checkpoint
from inference.scaffold.found import Found
from inference.yaml_mapping import read_yaml
from kernel.errors import Category, Problem

CONFIGS: Final = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
_MODELS: Final = ("models/model.safetensors", "models/model.pt")
_CHANNELS: Final = ("in_channels", "n_input_channels")
_CLASSES: Final = ("out_channels", "num_classes")


def is_bundle(folder: Path) -> bool:
    """Return whether a folder is a MONAI bundle."""
    return any((folder / name).is_file() for name in CONFIGS)


def inspect_bundle(folder: Path) -> Found:
    """Read a bundle of an image classifier.

    Parameters
    ----------
    folder
        The bundle.

    Raises
    ------
    Problem
        ``incorrect`` when its network is none of the table, needs an expression, or has no weights that can be read.
    """
    config = next(name for name in CONFIGS if (folder / name).is_file())
    network = _network(f"{folder.name}/{config}", read_yaml(config, (folder / config).read_bytes()))
    metadata = _metadata(folder)
    name, arguments = _known(f"{folder.name}/{config}", network)
    channels = next((int(network[key]) for key in _CHANNELS if key in network), 1)
    count = next((int(network[key]) for key in _CLASSES if key in network), 1)
    options = {"network": name, **({"arguments": arguments} if arguments else {}), "transform": FILL_IN}
    found = Found(
        runner="torch-network",
        file=WEIGHTS,
        files={WEIGHTS: _weights(folder)},
        input="image",
        options={**options, "resize": _sides(metadata), "channels": channels},
    )
    if count == 1:
        return found
    return found.with_classes(_classes(metadata, count))


def _network(place: str, config: object) -> Mapping[str, Any]:
    """Return ``network_def``, once nothing in it is an expression or a reference."""
    stated = config.get("network_def") if isinstance(config, Mapping) else None
    if not isinstance(stated, Mapping) or not isinstance(stated.get("_target_"), str):
        raise Problem(Category.INCORRECT, f"{place} must have network_def with _target_")
    for key, value in stated.items():
        parts = value if isinstance(value, list) else [value]
        if any(isinstance(part, str) and part[:1] in {"$", "@", "%"} for part in parts) or isinstance(value, Mapping):
            raise Problem(
                Category.INCORRECT,
                f"{place}: network_def.{key} is an expression or a reference, which is not followed: write its value",
            )
    return stated


def _known(place: str, network: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the network of the table, and its arguments."""
    from inference.runners.torch_network import NETWORKS  # noqa: PLC0415 - brings PyTorch

    target = network["_target_"]
    name = f"monai.{target.rpartition('.')[2]}"
    if name not in NETWORKS or target.rpartition(".")[0] not in {"", "monai.networks.nets"}:
        known = ", ".join(one for one in NETWORKS if one.startswith("monai."))
        detail = f"{place}: network_def._target_ {target} is not run; it must be one of: {known}"
        raise Problem(Category.INCORRECT, f"{detail}. Export another network with torch.export.save")
    arguments = {key: value for key, value in network.items() if key in NETWORKS[name].arguments}
    plain = {"_target_", "spatial_dims", "pretrained", "progress", *_CHANNELS, *_CLASSES}
    unknown = sorted(network.keys() - plain - arguments.keys())
    if unknown:
        raise Problem(Category.INCORRECT, f"{place}: network_def.{unknown[0]} is not known for {name}")
    if network.get("spatial_dims", 2) != 2 or network.get("pretrained"):
        raise Problem(Category.INCORRECT, f"{place}: network_def must have spatial_dims 2 and not be pretrained")
    return name, arguments


def _weights(folder: Path) -> bytes:
    from safetensors.torch import save  # noqa: PLC0415 - brings PyTorch

    for name in _MODELS:
        path = folder / name
        if path.is_file():
            content = path.read_bytes()
            return content if name.endswith(".safetensors") else bytes(save(dict(read_checkpoint(path.name, content))))
    raise Problem(Category.INCORRECT, f"{folder.name} must have {' or '.join(_MODELS)}")


def _metadata(folder: Path) -> Mapping[str, Any]:
    try:
        read = json.loads((folder / "configs" / "metadata.json").read_bytes())
        stated = read.get("network_data_format", {})
    except (OSError, ValueError, AttributeError):
        return {}
    return stated if isinstance(stated, dict) else {}


def _sides(metadata: Mapping[str, Any]) -> list[object]:
    image = metadata.get("inputs", {}).get("image", {})
    shape = image.get("spatial_shape", ()) if isinstance(image, dict) else ()
    is_plain = len(shape) == 2 and all(isinstance(side, int) for side in shape)
    return list(shape) if is_plain else [FILL_IN, FILL_IN]


def _classes(metadata: Mapping[str, Any], count: int) -> tuple[str, ...]:
    pred = metadata.get("outputs", {}).get("pred", {})
    stated = pred.get("channel_def", {}) if isinstance(pred, dict) else {}
    return tuple(str(stated.get(str(number), f"class-{number + 1}")) for number in range(count))
