"""``model.yaml``: what a model is, for whom, on what data, and on what it may never be used."""

from inference.manifest.legacy import normalise
from inference.manifest.parse import parse_manifest
from inference.manifest.records import (
    Band,
    ChangePlan,
    InputSpec,
    Limits,
    Manifest,
    OutputSpec,
    Selection,
    Trigger,
)

__all__ = [
    "Band",
    "ChangePlan",
    "InputSpec",
    "Limits",
    "Manifest",
    "OutputSpec",
    "Selection",
    "Trigger",
    "normalise",
    "parse_manifest",
]
