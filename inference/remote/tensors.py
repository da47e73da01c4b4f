"""Tensors of the Open Inference Protocol: what a remote model declares, what it is sent, and what it answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kernel.errors import Category, Problem

Array: TypeAlias = NDArray[np.float64]
Value: TypeAlias = Array | float | str | None
"""What one item states for one tensor; None or NaN is a value that is missing."""

TEXT: Final = "BYTES"
WHOLE: Final = "INT64"
_NUMBERS: Final[Mapping[str, type[np.generic]]] = MappingProxyType(
    {"FP32": np.float32, "FP64": np.float64, WHOLE: np.int64}
)
DATATYPES: Final = (*_NUMBERS, TEXT)
"""Datatypes that are sent and read."""
_LARGEST_WHOLE: Final = 2.0**53
_MOST_AXES: Final = 8


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """A tensor as the metadata of a model declare it."""

    name: str
    datatype: str
    #: Of one item; -1 where any size is meant.
    shape: tuple[int, ...]

    @property
    def is_text(self) -> bool:
        """Whether its values are texts."""
        return self.datatype == TEXT

    @property
    def is_single(self) -> bool:
        """Whether an item has one value."""
        return self.shape in {(), (1,)}


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a remote model says of itself."""

    versions: tuple[str, ...]
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    #: Whether another Ausculta runs it, which applies the transforms of its features itself.
    transforms: bool = False


def read_metadata(content: Any) -> Metadata:
    """Read the answer to ``GET /v2/models/NAME``.

    Raises
    ------
    Problem
        ``incorrect`` when it is not what the protocol says, or the model takes one item at a time.
    """
    try:
        return Metadata(
            versions=tuple(str(one) for one in content.get("versions") or ()),
            inputs=_specs(content["inputs"]),
            outputs=_specs(content["outputs"]),
            transforms=str(content.get("platform", "")).startswith("ausculta_"),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Problem(
            Category.INCORRECT, "model.yaml.runner: the remote model's metadata are not of the Open Inference Protocol"
        ) from None


def _specs(content: Any) -> Mapping[str, TensorSpec]:
    return {str(one["name"]): _spec(one) for one in content}


def _spec(content: Mapping[str, Any]) -> TensorSpec:
    first, *shape = (int(size) for size in content["shape"])
    if first != -1:
        raise Problem(
            Category.INCORRECT,
            f"model.yaml.runner.model: the remote model takes or gives {first} items at a time; "
            "the first axis of each of its tensors must be of any length (-1)",
        )
    return TensorSpec(name=str(content["name"]), datatype=str(content["datatype"]), shape=tuple(shape))


def written(spec: TensorSpec, values: Sequence[Value]) -> dict[str, Any]:
    """Return a tensor as the protocol writes it; a value that is missing is null.

    Parameters
    ----------
    spec
        The tensor.
    values
        One of each item.

    Raises
    ------
    Problem
        ``fault`` when a value is not whole and the tensor holds whole numbers.
    """
    if spec.is_text:
        data: list[Any] = [None if value is None else str(value) for value in values]
        return {"name": spec.name, "datatype": TEXT, "shape": [len(values), *(1 for _ in spec.shape)], "data": data}
    array = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    size = [len(values), *(array.shape[1:] if array.ndim > 1 else (1 for _ in spec.shape))]
    return {"name": spec.name, "datatype": spec.datatype, "shape": size, "data": _data(spec, array.reshape(-1))}


def _data(spec: TensorSpec, flat: Array) -> list[Any]:
    known = np.isfinite(flat)
    if spec.datatype == WHOLE:
        whole = np.where(known, flat, 0.0)
        if (np.trunc(whole) != whole).any() or (np.abs(whole) > _LARGEST_WHOLE).any():
            raise Problem(Category.FAULT, f"the remote model takes whole numbers for {spec.name}")
    found: list[Any] = flat.astype(np.int64 if spec.datatype == WHOLE and known.all() else np.float64).tolist()
    if known.all():
        return found
    return [
        (int(value) if spec.datatype == WHOLE else value) if is_known else None
        for value, is_known in zip(found, known, strict=True)
    ]


def numbers_of(answer: Mapping[str, Any], name: str, rows: int) -> Array:
    """Return the numbers of an output, (rows, numbers); null is NaN.

    Parameters
    ----------
    answer
        The response.
    name
        Of the output.
    rows
        Items that were sent.

    Raises
    ------
    Problem
        ``fault`` when there is no such output of numbers with so many rows.
    """
    try:
        (tensor,) = (one for one in answer["outputs"] if one["name"] == name)
        shape, data = tensor["shape"], tensor["data"]
        flat = np.array(data, dtype=np.object_).reshape(-1)
        is_number = tensor["datatype"] in _NUMBERS and all(one is None or type(one) in {int, float} for one in flat)
        found = flat.astype(np.float64) if is_number else np.empty(0)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _misshapen(name) from None
    if not is_number or not _is_shape(shape) or shape[0] != rows or math.prod(shape) != found.size:
        raise _misshapen(name)
    return found.reshape(rows, -1)


def _is_shape(shape: Any) -> bool:
    """Return whether a shape is one of few numbers of few digits: their product is computed in no time."""
    return (
        isinstance(shape, list)
        and 0 < len(shape) <= _MOST_AXES
        and all(type(size) is int and 0 <= size <= _LARGEST_WHOLE for size in shape)
    )


def _misshapen(name: str) -> Problem:
    return Problem(Category.FAULT, f"the remote model did not answer with the numbers of {name}, one row for each item")
