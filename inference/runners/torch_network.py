"""Networks of a known form: the numbers from safetensors, the network from a table.

``model.yaml.runner`` names the ``network`` and, where it has any, its ``arguments``. What a network takes and gives is
known from the declared input and outputs, and is no argument.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from inference.contract import InputKind
from inference.runners.torch_arrays import Forward, TorchArrayRunner
from inference.yaml_mapping import YamlMapping


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a network takes and gives."""

    #: Shape of an item.
    item: tuple[int, ...]
    #: Numbers that it gives for an item.
    outputs: int


class Recurrent(nn.Module):
    """A recurrent network over the steps of a series, and a linear layer on what it holds at the last.

    The names of its tensors are those of ``self.rnn = nn.GRU(...)`` (or LSTM) and ``self.head = nn.Linear(...)``.

    Parameters
    ----------
    kind
        ``GRU`` or ``LSTM``.
    sizes
        What it takes and gives.
    hidden
        Numbers that it holds.
    layers
        How many layers.
    """

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM], sizes: Sizes, hidden: int, layers: int) -> None:
        super().__init__()
        self.rnn = kind(sizes.item[-1], hidden, num_layers=layers, batch_first=True)
        self.head = nn.Linear(hidden, sizes.outputs)

    def forward(self, items: Tensor) -> Tensor:
        """Return (items, outputs) for (items, steps, columns)."""
        steps, _ = self.rnn(items)
        result: Tensor = self.head(steps[:, -1])
        return result


class OperatingPoints(nn.Module):
    """A network whose numbers become 0.5 at the operating point of each output, and stay from 0 to 1.

    Below its point a probability is stretched over 0 to 0.5, above it over 0.5 to 1, as torchxrayvision does.

    Parameters
    ----------
    network
        Gives the logits.
    outputs
        How many.
    """

    operating_points: Tensor

    def __init__(self, network: nn.Module, outputs: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("operating_points", torch.full((outputs,), 0.5))

    def forward(self, items: Tensor) -> Tensor:
        """Return (items, outputs) for (items, channels, rows, columns)."""
        shares, points = torch.sigmoid(self.network(items)), self.operating_points
        return torch.where(shares < points, shares / (2 * points), 1 - (1 - shares) / (2 * (1 - points)))


@dataclass(frozen=True, kw_only=True)
class Network:
    """An entry of the table."""

    kinds: frozenset[InputKind]
    #: Arguments that may be stated -> their type.
    arguments: Mapping[str, type]
    build: Callable[[Sizes, Mapping[str, Any]], nn.Module]


def _perceptron(sizes: Sizes, arguments: Mapping[str, Any]) -> nn.Module:
    """Build ``nn.Sequential(Linear, ReLU, ..., Linear)``; its tensors are ``0.weight``, ``0.bias``, ``2.weight``..."""
    widths = [sizes.item[0], *arguments.get("hidden", ()), sizes.outputs]
    layers: list[nn.Module] = []
    for taken, given in pairwise(widths):
        layers += [nn.Linear(taken, given), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _recurrent(kind: type[nn.GRU] | type[nn.LSTM]) -> Callable[[Sizes, Mapping[str, Any]], nn.Module]:
    return lambda sizes, given: Recurrent(kind, sizes, given.get("hidden", 32), given.get("layers", 1))


def _of_monai(name: str) -> Callable[[Sizes, Mapping[str, Any]], nn.Module]:
    def build(sizes: Sizes, arguments: Mapping[str, Any]) -> nn.Module:
        from monai.networks import nets  # noqa: PLC0415 - takes seconds, and most networks need none of it

        channels = sizes.item[0]
        if name.startswith("resnet"):
            made = getattr(nets, name)(
                pretrained=False, spatial_dims=2, n_input_channels=channels, num_classes=sizes.outputs, **arguments
            )
        else:
            made = getattr(nets, name)(spatial_dims=2, in_channels=channels, out_channels=sizes.outputs, **arguments)
        module: nn.Module = made
        return module

    return build


def _of_torchxrayvision(name: str) -> Callable[[Sizes, Mapping[str, Any]], nn.Module]:
    base = _of_monai(name)
    return lambda sizes, arguments: OperatingPoints(base(sizes, arguments), sizes.outputs)


_FACTS: Final[frozenset[InputKind]] = frozenset({"facts"})
_SERIES: Final[frozenset[InputKind]] = frozenset({"series"})
_IMAGE: Final[frozenset[InputKind]] = frozenset({"image"})
_RECURRENT: Final = MappingProxyType({"hidden": int, "layers": int})
_DENSE: Final = MappingProxyType({"init_features": int, "growth_rate": int, "block_config": list})
_DENSE_NETS: Final = ("DenseNet121", "DenseNet169", "DenseNet201")
_RESIDUAL: Final = MappingProxyType({"conv1_t_size": int, "conv1_t_stride": int, "no_max_pool": bool})

NETWORKS: Final[Mapping[str, Network]] = MappingProxyType(
    {
        "mlp": Network(kinds=_FACTS, arguments=MappingProxyType({"hidden": list}), build=_perceptron),
        "gru": Network(kinds=_SERIES, arguments=_RECURRENT, build=_recurrent(nn.GRU)),
        "lstm": Network(kinds=_SERIES, arguments=_RECURRENT, build=_recurrent(nn.LSTM)),
        **{f"monai.{name}": Network(kinds=_IMAGE, arguments=_DENSE, build=_of_monai(name)) for name in _DENSE_NETS},
        **{
            f"torchxrayvision.{name}": Network(kinds=_IMAGE, arguments=_DENSE, build=_of_torchxrayvision(name))
            for name in _DENSE_NETS
        },
        **{
            f"monai.{name}": Network(kinds=_IMAGE, arguments=_RESIDUAL, build=_of_monai(name))
            for name in ("resnet18", "resnet34", "resnet50")
        },
    }
)
"""``network`` of ``model.yaml.runner`` -> how it is built."""


class NetworkRunner(TorchArrayRunner):
    """Runs a network of the table."""

    # Convolutions of all channels of a pixel read what lies together.
    memory_format = torch.channels_last

    def forward(self, options: YamlMapping, device: torch.device) -> Forward:
        """Build the network and load its numbers.

        Parameters
        ----------
        options
            Of ``model.yaml.runner``; ``network`` and ``arguments`` are read from it.
        device
            Where its numbers lie.

        Raises
        ------
        Problem
            ``incorrect`` when the network or an argument is not known, or the file holds other tensors.
        """
        name = options.choice("network", *NETWORKS)
        entry, kind = NETWORKS[name], self.model.manifest.input.kind
        if kind not in entry.kinds:
            raise self.refuse(f"model.yaml.runner.network: {name} reads {' or '.join(sorted(entry.kinds))}, not {kind}")
        arguments = _arguments(options, entry)
        try:
            held = load(self.content)
        except (SafetensorError, ValueError) as failure:
            raise self.refuse(f"{self.file} is no safetensors file", failure) from failure
        sizes = Sizes(item=self.reader.shape, outputs=self.outputs.width)
        try:
            network = entry.build(sizes, arguments)
        except (TypeError, ValueError, RuntimeError) as failure:
            raise self.refuse(f"model.yaml.runner.arguments do not make a {name}", failure) from failure
        self._fill(network, held, name)
        network.eval().requires_grad_(requires_grad=False).to(device)
        if kind == "image":
            network.to(memory_format=self.memory_format)  # type: ignore[call-overload]  # PyTorch takes it, its types do not
        return network

    def _fill(self, network: nn.Module, held: Mapping[str, Tensor], name: str) -> None:
        wanted = network.state_dict()
        for tensor, shape in sorted((key, tuple(value.shape)) for key, value in wanted.items()):
            if tensor not in held:
                raise self.refuse(f"{self.file} holds no {tensor}, which {name} needs: {', '.join(sorted(held)[:6])}")
            if tuple(held[tensor].shape) != shape:
                stated = tuple(held[tensor].shape)
                raise self.refuse(
                    f"{self.file}: {tensor} is of {stated}; as features.yaml, the outputs and "
                    f"model.yaml.runner.arguments declare {name}, it is of {shape}"
                )
        foreign = sorted(held.keys() - wanted.keys())
        if foreign:
            raise self.refuse(f"{self.file} holds {foreign[0]}, which {name} does not have")
        network.load_state_dict(dict(held), strict=True)


def _arguments(options: YamlMapping, entry: Network) -> Mapping[str, Any]:
    """Return the stated arguments: numbers, truth values and lists of numbers, by their names."""
    if not options.has("arguments"):
        return {}
    table = options.table("arguments")
    found: dict[str, Any] = {key: table.take(key, kind) for key, kind in entry.arguments.items() if table.has(key)}
    table.done()
    return {key: [int(one) for one in value] if isinstance(value, list) else value for key, value in found.items()}
