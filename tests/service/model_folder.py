"""A model folder as an ML engineer would bring it: declarations, weights and a golden case, without code.

A copy of a bundled model is refused because it brings code, whether it was altered or not. This folder is accepted as
long as it is not altered, so a refusal shows that the alteration was detected.
"""

import json
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import save_file

from inference.finalize import finalize_folder

PULSE_RISK: Final = "pulse-risk"

_MANIFEST: Final = """
name: pulse-risk
title: A logistic model of one feature
intended_use: Tests
owner: Tests
demonstration: true
users: [tests]
inputs: [{name: facts, kind: facts}]
runner: linear
outputs:
  - name: risk
    system: urn:test
    code: risk
    display: Risk
    kind: probability
    future: true
    bands: [{name: low, at_least: 0}, {name: high, at_least: 0.5}]
limits: {}
change_plan: {acceptance: [nothing]}
"""
_FEATURES: Final = """
features:
  - {name: pulse, title: pulse, window: {take: last, hours: 12}, missing: nan, sources: [{code: 8867-4, unit: /min}]}
"""
_CASE: Final = {
    "input": {
        "subject": {"reference": "Patient/golden"},
        "at": "2026-01-15T12:00:00+00:00",
        "facts": [{"code": "8867-4", "value": "90", "unit": "/min"}],
    }
}


def pulse_risk(folder: Path, *, version: str = "1.0.0", trigger: str = "{kind: codes, codes: [8867-4]}") -> Path:
    """Make the folder, sealed, and return it."""
    (folder / "golden").mkdir(parents=True)
    (folder / "model.yaml").write_text(f"{_MANIFEST}version: {version}\ntrigger: {trigger}\n")
    (folder / "features.yaml").write_text(_FEATURES)
    (folder / "golden" / "ninety.json").write_text(json.dumps(_CASE))
    write_weights(folder, slope=0.5)
    finalize_folder(folder, {"Evidence": "None: a test."})
    return folder


def write_weights(folder: Path, *, slope: float) -> None:
    """Write the weights without a new seal."""
    weights = {"weight": np.array([slope]), "bias": np.array(0.25), "mean": np.array([80.0]), "scale": np.array([10.0])}
    save_file(weights, folder / "weights.safetensors")
