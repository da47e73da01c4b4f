"""MONAI bundles, turned into folders of ours: the network by the table of networks, the numbers as safetensors.

Of a bundle only ``network_def`` of its inference configuration, the names of its transforms, its metadata and its
weights are read. A value that begins with ``$`` is an expression, which MONAI would evaluate, and one with ``%`` leads
to another file: a network that needs one is refused with its place. One with ``@`` is a reference; it is followed to a
plain value of the same configuration, and no further.
"""

import json
import re
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
_SCRIPT: Final = "models/model.ts"
_PARTS: Final = re.compile("::|#")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,80}")
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
    content = read_yaml(config, (folder / config).read_bytes())
    network = _network(f"{folder.name}/{config}", content)
    metadata = _metadata(folder)
    name, arguments = _known(f"{folder.name}/{config}", network)
    channels, count = (_size(f"{folder.name}/{config}", network, keys) for keys in (_CHANNELS, _CLASSES))
    options = {"network": name, **({"arguments": arguments} if arguments else {}), "transform": FILL_IN}
    found = Found(
        runner="torch-network",
        file=WEIGHTS,
        files={WEIGHTS: _weights(folder)},
        input="image",
        options={**options, "resize": _sides(metadata), "channels": channels},
        notes=_transforms(content),
    )
    if count == 1:
        return found
    return found.with_classes(_classes(metadata, count))


def _network(place: str, config: object) -> Mapping[str, Any]:
    """Return ``network_def``, once nothing in it is an expression or a reference."""
    stated = config.get("network_def") if isinstance(config, Mapping) else None
    if not isinstance(stated, Mapping) or not isinstance(stated.get("_target_"), str):
        raise Problem(Category.INCORRECT, f"{place} must have network_def with _target_")
    network = {key: value if key == "_target_" else _followed(config, value) for key, value in stated.items()}
    for key, value in network.items():
        if not _is_plain(value):
            raise Problem(
                Category.INCORRECT,
                f"{place}: network_def.{key} is an expression or a reference, which is not followed: write its value, "
                "or export the network with torch.export.save where you trust the bundle",
            )
    return network


def _followed(config: object, value: object) -> object:
    """Return what a reference such as ``@sizes::classes`` leads to in the same configuration, else the value itself."""
    if not isinstance(value, str) or not value.startswith("@"):
        return value
    found = _inner(config, *_PARTS.split(value[1:]))
    return value if found is None else found


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_plain(part) for part in value)
    return not isinstance(value, Mapping) and not (isinstance(value, str) and value[:1] in {"$", "@", "%"})


def _transforms(config: object) -> tuple[str, ...]:
    """Return what the bundle does with an image before and after the network, by the names of the transforms."""
    found: list[str] = []
    for part, does in (("preprocessing", "prepares images by"), ("postprocessing", "reads the network's answer by")):
        steps = _inner(config, part, "transforms")
        listed = steps if isinstance(steps, list) else []
        names = [str(one.get("_target_")) for one in listed if isinstance(one, Mapping)]
        shown = [name if _NAME.fullmatch(name) else "(not shown)" for name in names]
        if shown:
            found.append(
                f"The bundle {does} {', '.join(shown)}: compare resize, pixel_mean, pixel_scale and transform."
            )
    return tuple(found)


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


def _size(place: str, network: Mapping[str, Any], keys: tuple[str, ...]) -> int:
    """Return the value of the one of several keys that is stated; 1 when none is."""
    for key in keys:
        if key in network:
            size = network[key]
            if type(size) is not int or size < 1:
                raise Problem(Category.INCORRECT, f"{place}: network_def.{key} must be a whole number above 0")
            return size
    return 1


def _weights(folder: Path) -> bytes:
    from safetensors.torch import save  # noqa: PLC0415 - brings PyTorch

    for name in _MODELS:
        path = folder / name
        if path.is_file():
            content = path.read_bytes()
            return content if name.endswith(".safetensors") else bytes(save(dict(read_checkpoint(path.name, content))))
    script = ": models/model.ts is TorchScript, which is code and is not read" if (folder / _SCRIPT).is_file() else ""
    raise Problem(Category.INCORRECT, f"{folder.name} must have {' or '.join(_MODELS)}{script}")


def _metadata(folder: Path) -> Mapping[str, Any]:
    try:
        read = json.loads((folder / "configs" / "metadata.json").read_bytes())
        stated = read.get("network_data_format", {})
    except (OSError, ValueError, AttributeError):
        return {}
    return stated if isinstance(stated, dict) else {}


def _sides(metadata: Mapping[str, Any]) -> list[object]:
    shape = _inner(metadata, "inputs", "image", "spatial_shape")
    is_plain = isinstance(shape, list) and len(shape) == 2 and all(isinstance(side, int) for side in shape)
    return [*shape] if is_plain else [FILL_IN, FILL_IN]


def _classes(metadata: Mapping[str, Any], count: int) -> tuple[str, ...]:
    found = _inner(metadata, "outputs", "pred", "channel_def")
    stated = found if isinstance(found, dict) else {}
    return tuple(str(stated.get(str(number), f"class-{number + 1}")) for number in range(count))


def _inner(content: object, *keys: str) -> Any:
    """Return what stands under keys within keys; None where there is nothing."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content
