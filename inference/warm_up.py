"""Runs a loaded model once with each size of batch: no patient waits for what only the first run of a size does.

Libraries choose kernels, and allocate memory, when they first see a shape. The inputs are the model's golden cases: of
each shape among them one item, repeated. A size for which the memory does not suffice bounds the batches of its shape.
"""

import json
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

from inference.golden import FOLDER
from inference.golden_input import read_input
from inference.limits import check_limits
from inference.runners.base import Declined, Runner


def sizes(largest: int) -> Iterator[int]:
    """Yield the sizes of batches: 1, 2, 4, … and the largest."""
    size = 1
    while size < largest:
        yield size
        size *= 2
    yield largest


def golden_items(runner: Runner[Any, Any, Any], files: Path) -> Mapping[Hashable, Any]:
    """Return one item of each shape among the golden cases that the model does not decline.

    Parameters
    ----------
    runner
        Set up.
    files
        The model's folder; without golden cases there are no items.
    """
    items: dict[Hashable, Any] = {}
    for path in sorted((files / FOLDER).glob("*.json")):
        given = read_input(json.loads(path.read_text(encoding="utf-8"))["input"])
        try:
            check_limits(runner.model.manifest, given)
            decoded = runner.decode(given)
        except Declined:
            continue
        items.setdefault(decoded.shape, decoded.item)
    return items


def largest_batch(runner: Runner[Any, Any, Any], item: Any, most: int) -> int:
    """Run every size of batch up to a bound, and return the largest that the memory suffices for, at least 1.

    Parameters
    ----------
    runner
        Set up.
    item
        Of the shape that is warmed up.
    most
        The bound.
    """
    reached = 1
    for size in sizes(most):
        try:
            runner.predict(runner.batch([item] * size))
        except Exception as failure:
            if not runner.out_of_memory(failure):
                raise
            break
        reached = size
    return reached
