"""Tensors of a PyTorch checkpoint (``.pt``, ``.pth``, ``.ckpt``, ``.bin``), to be written as safetensors.

A checkpoint is a pickle beside the bytes of its tensors. It is read with a table of five names: what rebuilds a tensor,
and what holds them. Each stands for a function of this module; any other name in the file ends the reading before it is
looked up. So nothing that a file names is imported or called.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor

from kernel.errors import Category, Problem

_MOST_BYTES: Final = 2**34
_HOLDERS: Final = ("state_dict", "model", "model_state_dict", "model_state", "net")
"""Keys under which training programs keep the tensors of the network, beside what else they keep."""


@dataclass(frozen=True)
class _Storage:
    """Type and bytes of a storage."""

    dtype: torch.dtype
    content: bytes


_STORAGES: Final[Mapping[str, torch.dtype]] = MappingProxyType(
    {
        "FloatStorage": torch.float32,
        "DoubleStorage": torch.float64,
        "HalfStorage": torch.float16,
        "BFloat16Storage": torch.bfloat16,
        "LongStorage": torch.int64,
        "IntStorage": torch.int32,
        "ShortStorage": torch.int16,
        "CharStorage": torch.int8,
        "ByteStorage": torch.uint8,
        "BoolStorage": torch.bool,
    }
)


def _tensor(storage: object, offset: object, size: Sequence[int], stride: Sequence[int], *_rest: object) -> Tensor:
    if not isinstance(storage, _Storage) or not isinstance(offset, int):
        raise pickle.UnpicklingError("a tensor without a storage")
    if not prod(size):
        return torch.empty(tuple(size), dtype=storage.dtype)
    flat = torch.frombuffer(bytearray(storage.content), dtype=storage.dtype)
    return flat.as_strided(tuple(size), tuple(stride), offset).clone()


def _parameter(tensor: object, *_rest: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise pickle.UnpicklingError("a parameter without a tensor")
    return tensor


_NAMES: Final[Mapping[tuple[str, str], Callable[..., Any]]] = MappingProxyType(
    {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
    }
)


class _Reader(pickle.Unpickler):
    """Reads the structure of a checkpoint; it knows the names of the tables above and no other.

    Parameters
    ----------
    name
        Of the file, for refusals.
    packed
        The open archive.
    """

    def __init__(self, name: str, packed: zipfile.ZipFile) -> None:
        if sum(entry.file_size for entry in packed.infolist()) > _MOST_BYTES:
            raise Problem(Category.INCORRECT, f"{name} is larger than {_MOST_BYTES} bytes when unpacked")
        (entry,) = (one for one in packed.namelist() if one.endswith("/data.pkl"))
        super().__init__(io.BytesIO(packed.read(entry)))
        self._name, self._packed, self._folder = name, packed, entry.removesuffix("data.pkl")

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name of the tables stands for; raises ``incorrect`` for any other."""
        if (module, name) in _NAMES:
            return _NAMES[module, name]
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise Problem(
            Category.INCORRECT,
            f"{self._name} holds {module}.{name}, which is no tensor and is not made: save model.state_dict() alone, "
            "or write the model with torch.export.save, as weights.pt2",
        )

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the bytes of a storage."""
        _, dtype, key, _, _ = pid
        if not isinstance(dtype, torch.dtype) or not str(key).isdigit():
            raise pickle.UnpicklingError("a storage of no known type")
        return _Storage(dtype, self._packed.read(f"{self._folder}data/{key}"))


def read_checkpoint(name: str, content: bytes) -> Mapping[str, Tensor]:
    """Return the tensors of a checkpoint by their names.

    Parameters
    ----------
    name
        Of the file, for refusals.
    content
        Its bytes.

    Raises
    ------
    Problem
        ``incorrect`` when it is no checkpoint of tensors; what else it holds is named, and not made.
    """
    wrong = f"{name} is no checkpoint of tensors: write it with torch.save(model.state_dict(), '{name}')"
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            found = _Reader(name, packed).load()
    except Problem:
        raise
    except Exception as failure:
        raise Problem(Category.INCORRECT, wrong, diagnostics=repr(failure)) from failure
    for holder in _HOLDERS:
        if isinstance(found, dict) and isinstance(found.get(holder), dict):
            found = found[holder]
            break
    if not isinstance(found, dict) or not found or not all(isinstance(one, Tensor) for one in found.values()):
        raise Problem(Category.INCORRECT, wrong)
    return {str(key).removeprefix("module."): tensor.contiguous() for key, tensor in found.items()}
