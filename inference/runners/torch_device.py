"""What the runners of networks in PyTorch share about devices: precision, and memory that does not suffice."""

from collections.abc import Sequence

import torch

from inference.runners.base import BF16, SINGLE
from inference.yaml_mapping import YamlMapping


def has_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies numbers of 16 bits faster than those of 32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - what PyTorch itself asks


class TorchPrecision:
    """The precisions that a folder and a device allow, and the one that is in use: single precision at first.

    Parameters
    ----------
    options
        Of ``model.yaml.runner``; ``precision`` is read from it.
    device
        Where the network computes.

    Raises
    ------
    Problem
        ``incorrect`` when the folder states another precision than these.
    """

    def __init__(self, options: YamlMapping, device: torch.device) -> None:
        stated = options.choice("precision", SINGLE, BF16) if options.has("precision") else SINGLE
        self.allowed: Sequence[str] = (SINGLE, BF16) if stated == BF16 and has_bf16(device) else (SINGLE,)
        self.used = SINGLE
        self._device = device
        if device.type == "cuda":
            # Single precision is meant in full; TF32 would round what is multiplied to ten bits.
            torch.backends.cudnn.allow_tf32 = False

    def context(self) -> torch.autocast:
        """Return the context in which the network computes."""
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self.used == BF16)


def is_out_of_memory(failure: BaseException) -> bool:
    """Return whether a smaller batch could have succeeded, on either device."""
    is_cpu = isinstance(failure, RuntimeError) and "can't allocate memory" in str(failure)
    return is_cpu or isinstance(failure, torch.OutOfMemoryError | MemoryError)
