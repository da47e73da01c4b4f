"""What a golden case records of a model's answer: numbers that another processor or device gives within a tolerance."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference.contract import ClassSet, Interval, MaskReference, Output, Spans, TimeSeries
from inference.runners.base import Answer


def recorded(answer: Answer) -> dict[str, Any]:
    """Return an answer as JSON.

    An output has its name, value and band, and by its kind also ``detail``: probability by class, bounds and coverage,
    values over time, spans, or for a mask the number and the centre (index along each axis) of the voxels of each of
    its segments.

    Parameters
    ----------
    answer
        Of the model, on the input of the case.
    """
    arrays = {artefact.name: artefact.values for artefact in answer.artefacts}
    heat = next((artefact.values for artefact in answer.artefacts if artefact.kind == "heat-map"), None)
    return {
        "outputs": [_output(output, arrays) for output in answer.outputs],
        "heat_map_mean": None if heat is None else float(heat.mean()),
    }


def _output(output: Output, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {"name": output.name, "value": output.value, "band": output.band}
    if isinstance(output.detail, MaskReference):
        content["detail"] = _segments(arrays[output.detail.artefact])
    elif output.detail is not None:
        content["detail"] = _DETAILS[type(output.detail)](output.detail)
    return content


def _segments(mask: NDArray[Any]) -> dict[str, Any]:
    numbers = [int(number) for number in np.unique(mask) if number]
    places = {number: np.nonzero(mask == number) for number in numbers}
    return {
        str(number): {"voxels": len(indices[0]), "centre": [float(axis.mean()) for axis in indices]}
        for number, indices in places.items()
    }


_DETAILS: Final[Mapping[type, Callable[[Any], Any]]] = MappingProxyType(
    {
        ClassSet: lambda detail: dict(detail.probabilities),
        Interval: lambda detail: {"low": detail.low, "high": detail.high, "coverage": detail.coverage},
        TimeSeries: lambda detail: list(detail.values),
        Spans: lambda detail: [[span.start, span.end, span.label] for span in detail.spans],
    }
)
"""Record of an output's detail -> what of it is compared."""
