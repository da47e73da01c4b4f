"""Tensors of a PyTorch checkpoint (``.pt``, ``.pth``, ``.ckpt``, ``.bin``), to be written as safetensors.

A checkpoint is a pickle beside the bytes of its tensors. The pickle is not opened: its steps are read one by one, as
data, and only those that hold plain values together are done. The few names that it may hold each stand for a function
of this module; any other ends the reading. So nothing that a file names is imported, looked up or called.
"""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pickletools import genops
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
        raise TypeError("a tensor without a storage")
    if not prod(size):
        return torch.empty(tuple(size), dtype=storage.dtype)
    flat = torch.frombuffer(bytearray(storage.content), dtype=storage.dtype)
    return flat.as_strided(tuple(size), tuple(stride), offset).clone()


def _parameter(tensor: object, *_rest: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError("a parameter without a tensor")
    return tensor


_NAMES: Final[Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {
        "collections OrderedDict": dict,
        "torch._utils _rebuild_tensor_v2": _tensor,
        "torch._utils _rebuild_parameter": _parameter,
    }
)
"""Name in the file -> the function of this module that stands for it."""

_CONSTANTS: Final[Mapping[str, Callable[[], object]]] = MappingProxyType(
    {
        "NONE": lambda: None,
        "NEWTRUE": lambda: True,
        "NEWFALSE": lambda: False,
        "EMPTY_DICT": dict,
        "EMPTY_LIST": list,
        "EMPTY_TUPLE": tuple,
    }
)
_VALUES: Final = frozenset(
    {
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINFLOAT",
        "BINBYTES",
        "SHORT_BINBYTES",
    }
)
_TUPLES: Final[Mapping[str, int]] = MappingProxyType({"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3})
_MARK: Final = object()


class _Reader:
    """Reads the structure of a checkpoint: values, tuples, lists, mappings, and the names of the tables above.

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
        (self._entry,) = (one for one in packed.namelist() if one.endswith("/data.pkl"))
        self._name, self._packed = name, packed
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def read(self) -> Any:
        """Return what the structure holds."""
        for opcode, argument, _ in genops(self._packed.read(self._entry)):
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise ValueError("it does not end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name in {"BINPUT", "LONG_BINPUT", "MEMOIZE"}:
            self._memo[len(self._memo) if argument is None else argument] = stack[-1]
        elif name in {"BINGET", "LONG_BINGET"}:
            stack.append(self._memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "GLOBAL":
            stack.append(self._named(argument))
        elif name not in {"PROTO", "FRAME"}:
            self._join(name)

    def _join(self, name: str) -> None:
        """Do a step that takes what stands on the stack."""
        stack = self._stack
        if name == "STACK_GLOBAL":
            module, attribute = stack.pop(-2), stack.pop()
            stack.append(self._named(f"{module} {attribute}"))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            if stack[-1] not in _NAMES.values():
                raise ValueError("what is called is no function of the table")
            stack.append(stack.pop()(*arguments))
        elif name == "BUILD":
            stack.pop()  # what a mapping remembers of itself: versions of layers
        elif name in {"SETITEM", "APPEND"}:
            values = [stack.pop(-2), stack.pop()] if name == "SETITEM" else [stack.pop()]
            _fill(stack[-1], values)
        elif name in {"SETITEMS", "APPENDS", "TUPLE"}:
            values = self._since_mark()
            if name == "TUPLE":
                stack.append(tuple(values))
            else:
                _fill(stack[-1], values)
        else:
            raise ValueError(f"the step {name} is not known")

    def _since_mark(self) -> list[Any]:
        place = max(number for number, value in enumerate(self._stack) if value is _MARK)
        values = self._stack[place + 1 :]
        del self._stack[place:]
        return values

    def _named(self, name: str) -> Any:
        module, _, attribute = name.partition(" ")
        if name in _NAMES:
            return _NAMES[name]
        if module == "torch" and attribute in _STORAGES:
            return _STORAGES[attribute]
        raise Problem(
            Category.INCORRECT,
            f"{self._name} holds {module}.{attribute}, which is no tensor and is not made: save model.state_dict() "
            "alone, or write the model with torch.export.save, as weights.pt2",
        )

    def _storage(self, stated: Any) -> _Storage:
        _, dtype, key, _, _ = stated
        if not isinstance(dtype, torch.dtype) or not str(key).isdigit():
            raise ValueError("a storage of no known type")
        folder = self._entry.removesuffix("data.pkl")
        return _Storage(dtype, self._packed.read(f"{folder}data/{key}"))


def _fill(holder: Any, values: list[Any]) -> None:
    """Add values to a list, or pairs of key and value to a mapping."""
    if isinstance(holder, list):
        holder.extend(values)
    elif isinstance(holder, dict):
        holder.update(zip(values[::2], values[1::2], strict=True))
    else:
        raise TypeError("only lists and mappings are filled")


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
            found = _Reader(name, packed).read()
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
