"""What a model answers as tensors: for each output its value, its band and its text, and why a row has none."""

from collections.abc import Sequence
from typing import Any, Final

from inference.contract import ClassSet, Interval, Outcome, Output, Prediction
from inference.manifest import Manifest, OutputSpec
from service.inference_protocol.tensors import TEXT, written

REASON: Final = "reason"
_NUMBER: Final = "FP64"


def described(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the metadata of a model's outputs."""
    return [
        {"name": it["name"], "datatype": it["datatype"], "shape": [-1, *it["shape"][1:]]}
        for it in tensors_of(manifest, ())
    ]


def tensors_of(manifest: Manifest, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return the outputs of a response, one row for each outcome.

    Parameters
    ----------
    manifest
        Declares the outputs.
    outcomes
        In the order of the rows.
    """
    found = [one for spec in manifest.outputs for one in _of_output(spec, [_named(it, spec.name) for it in outcomes])]
    reasons = ["" if isinstance(outcome, Prediction) else outcome.reason for outcome in outcomes]
    return [*found, written(REASON, TEXT, reasons)]


def _named(outcome: Outcome, name: str) -> Output | None:
    if not isinstance(outcome, Prediction):
        return None
    return next((output for output in outcome.outputs if output.name == name), None)


def _of_output(spec: OutputSpec, outputs: Sequence[Output | None]) -> list[dict[str, Any]]:
    tensors = [
        written(spec.name, _NUMBER, [it and it.value for it in outputs]),
        written(f"{spec.name}.band", TEXT, [it and it.band for it in outputs]),
        written(f"{spec.name}.text", TEXT, [it and it.text for it in outputs]),
    ]
    details = [it.detail if it is not None else None for it in outputs]
    if spec.kind == "interval":
        ranges = [it if isinstance(it, Interval) else None for it in details]
        tensors.append(written(f"{spec.name}.low", _NUMBER, [it and it.low for it in ranges]))
        tensors.append(written(f"{spec.name}.high", _NUMBER, [it and it.high for it in ranges]))
    if spec.kind == "class-set":
        shares = [dict(it.probabilities) if isinstance(it, ClassSet) else {} for it in details]
        flat = [share.get(band.name) for share in shares for band in spec.bands]
        tensors.append(written(f"{spec.name}.probabilities", _NUMBER, flat, width=len(spec.bands)))
    return tensors
