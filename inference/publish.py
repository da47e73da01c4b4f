"""Finish a model folder: card, golden answers, checksums; for those who train models, never for those who run them."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from inference.card import render_card
from inference.declared import read_yaml
from inference.digest import seal
from inference.features.spec import parse_features
from inference.folder import CARD, FEATURES, MANIFEST, ModelFolder
from inference.golden import FOLDER, record_golden
from inference.manifest import parse_manifest
from inference.runners import runner_class


def publish(path: Path, evidence: Mapping[str, str], *, code: ModuleType | None = None) -> str:
    """Write the card, record what the model says to its golden inputs, and seal the folder.

    Parameters
    ----------
    path
        A folder with ``model.yaml``, ``features.yaml`` and weights as its runner needs them, and golden inputs.
    evidence
        Sections of the card, heading -> Markdown: what was measured, on which data.
    code
        The model's ``model.py``, when it has one.

    Returns
    -------
    str
        The model's digest.

    Raises
    ------
    Problem
        ``incorrect`` when a declaration or the weights are wrong.
    """
    manifest = parse_manifest(read_yaml(path / MANIFEST))
    features = parse_features(read_yaml(path / FEATURES)) if (path / FEATURES).exists() else ()
    card = render_card(manifest, evidence)
    (path / CARD).write_text(card, encoding="utf-8")
    unsealed = ModelFolder(path=path, digest="", manifest=manifest, features=features, card=card, code=code)
    runner = runner_class(manifest.runner)(unsealed)
    runner.setup("cpu")
    for case in sorted((path / FOLDER).glob("*.json")):
        record_golden(runner, case)
    return seal(path)
