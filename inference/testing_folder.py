"""A model folder as an ML engineer would bring it, for tests: declarations, weights and a golden case, without code.

A copy of a bundled model is refused because it brings code, whether it was altered or not. This folder is accepted as
long as it is not altered, so a refusal shows that the alteration was detected.
"""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save_file

from inference.finalize import finalize_folder
from inference.testing import NOW

PULSE_RISK: Final = "pulse-risk"

MANIFEST: Final = """
name: pulse-risk
version: 1.0.0
title: A logistic model of one feature
intended_use: Tests
owner: Tests
demonstration: true
users: [tests]
trigger: {kind: codes, codes: [8867-4]}
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
FEATURES: Final = """
features:
  - {name: pulse, title: pulse, window: {take: last, hours: 12}, missing: nan, sources: [{code: 8867-4, unit: /min}]}
"""
CASE: Final[dict[str, Any]] = {
    "input": {
        "subject": {"reference": "Patient/golden"},
        "at": NOW.isoformat(),
        "facts": [{"code": "8867-4", "value": "90", "unit": "/min"}],
    }
}
"""A golden case without its answer."""


def pulse_risk(
    folder: Path,
    *,
    version: str = "1.0.0",
    slope: float = 0.5,
    trigger: str = "{kind: codes, codes: [8867-4]}",
) -> Path:
    """Make the folder, sealed, and return it.

    Parameters
    ----------
    folder
        Where; it must not exist.
    version
        The version of the model.
    slope
        The weight of the pulse.
    trigger
        YAML of the manifest's trigger.
    """
    (folder / "golden").mkdir(parents=True)
    manifest = MANIFEST.replace("version: 1.0.0", f"version: {version}")
    (folder / "model.yaml").write_text(manifest.replace("{kind: codes, codes: [8867-4]}", trigger))
    (folder / "features.yaml").write_text(FEATURES)
    (folder / "golden" / "ninety.json").write_text(json.dumps(CASE))
    write_weights(folder, slope=slope)
    finalize_folder(folder, {"Evidence": "None: a test."})
    return folder


def write_weights(folder: Path, *, slope: float) -> None:
    """Write the weights without a new seal.

    Parameters
    ----------
    folder
        The model folder.
    slope
        The weight of the pulse.
    """
    weights = {"weight": np.array([slope]), "bias": np.array(0.25), "mean": np.array([80.0]), "scale": np.array([10.0])}
    save_file(weights, folder / "weights.safetensors")
