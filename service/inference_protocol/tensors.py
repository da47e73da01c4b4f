"""Tensors of the Open Inference Protocol as JSON: name, datatype, shape, and the values in row-major order."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kernel.errors import Category, Problem

NUMBERS: Final = frozenset(
    {"FP16", "FP32", "FP64", *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))}
)
"""Datatypes whose values are numbers."""
TEXT: Final = "BYTES"
MOST_ROWS: Final = 64
"""Rows of one request: as many as may wait for a model."""

_MOST_AXES: Final = 8

Value: TypeAlias = Decimal | str | None


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input as it was sent."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    #: Flat, in row-major order.
    data: Sequence[Any]

    @property
    def rows(self) -> int:
        """The first dimension."""
        return self.shape[0]

    def values(self) -> list[Value]:
        """Return numbers as decimals and texts as they are; null and NaN are None.

        Raises
        ------
        Problem
            ``incorrect`` when a value is not of the datatype.
        """
        if self.datatype == TEXT:
            if all(value is None or isinstance(value, str) for value in self.data):
                return list(self.data)
            raise Problem(Category.INCORRECT, f"the input {self.name} must hold texts")
        return [_number(self.name, value) for value in self.data]

    def array(self) -> NDArray[np.float32]:
        """Return the values as an array of the tensor's shape.

        Raises
        ------
        Problem
            ``incorrect`` when a value is not a finite number.
        """
        try:
            array = np.array(self.data, dtype=np.float32).reshape(self.shape)
        except (TypeError, ValueError) as failure:
            raise Problem(Category.INCORRECT, f"the input {self.name} must hold numbers") from failure
        if self.datatype == TEXT or not np.isfinite(array).all():
            raise Problem(Category.INCORRECT, f"the input {self.name} must hold finite numbers")
        return array


def read_tensors(content: Any) -> Mapping[str, Tensor]:
    """Read the ``inputs`` of a request: name -> tensor.

    Raises
    ------
    Problem
        ``incorrect``, naming the input and what is wrong with it.
    """
    if not isinstance(content, list) or not content:
        raise Problem(Category.INCORRECT, "inputs must be a list of tensors")
    tensors: dict[str, Tensor] = {}
    for number, one in enumerate(content):
        tensor = _tensor(number, one)
        if tensor.name in tensors:
            raise Problem(Category.INCORRECT, f"inputs[{number}]: there is another input of this name")
        tensors[tensor.name] = tensor
    return tensors


def written(name: str, datatype: str, values: Sequence[Any], *, width: int | None = None) -> dict[str, Any]:
    """Return an output as the protocol writes it.

    Parameters
    ----------
    name, datatype
        Of the tensor.
    values
        One for each row, or ``width`` of them.
    width
        Values of a row; None for a tensor of one dimension.
    """
    shape = [len(values)] if width is None else [len(values) // width, width]
    return {"name": name, "datatype": datatype, "shape": shape, "data": list(values)}


def _tensor(number: int, content: Any) -> Tensor:
    place = f"inputs[{number}]"
    if not isinstance(content, dict):
        raise Problem(Category.INCORRECT, f"{place} must be an object")
    name, datatype, shape = (content.get(key) for key in ("name", "datatype", "shape"))
    if not isinstance(name, str) or not name:
        raise Problem(Category.INCORRECT, f"{place}.name must be a text")
    if not isinstance(datatype, str) or datatype not in NUMBERS | {TEXT}:
        raise Problem(Category.INCORRECT, f"{place}.datatype must be one of {', '.join(sorted(NUMBERS | {TEXT}))}")
    if not isinstance(shape, list) or not shape or not all(type(size) is int and size > 0 for size in shape):
        raise Problem(Category.INCORRECT, f"{place}.shape must be a list of whole numbers above 0")
    if len(shape) > _MOST_AXES:  # before anything is computed of them
        raise Problem(Category.INCORRECT, f"{place}.shape may have {_MOST_AXES} dimensions")
    if shape[0] > MOST_ROWS:
        raise Problem(Category.INCORRECT, f"{place}.shape: a request may have {MOST_ROWS} rows")
    data = content.get("data")
    if not isinstance(data, list):
        raise Problem(Category.INCORRECT, f"{place}.data must be a list; the binary extension is not supported")
    flat = _flat(data, len(shape))
    if len(flat) != math.prod(shape):
        raise Problem(Category.INCORRECT, f"{place}.data does not have as many values as its shape says")
    return Tensor(name=name, datatype=datatype, shape=tuple(shape), data=flat)


def _flat(data: list[Any], depth: int) -> list[Any]:
    """Return nested lists as one; nested no deeper than the shape."""
    for _ in range(depth - 1):
        if not data or not all(isinstance(one, list) for one in data):
            break
        data = [value for one in data for value in one]
    return data


def _number(name: str, value: Any) -> Decimal | None:
    if value is None:
        return None
    if type(value) not in (int, float) or (isinstance(value, float) and math.isinf(value)):
        raise Problem(Category.INCORRECT, f"the input {name} must hold numbers, or null")
    return None if value != value else Decimal(str(value))  # noqa: PLR0124 - NaN
