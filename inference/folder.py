"""A model's folder, opened: verified, parsed, its code found.

A folder that holds ``model.py`` is a bundled Python package, listed in :data:`inference.models.MODELS`; a folder added
from elsewhere brings declarations and weights, never code.
"""

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

from inference.contract import ModelIdentity
from inference.digest import verify
from inference.features.series import check_series
from inference.features.spec import FeatureSpec, parse_features
from inference.manifest import Manifest, parse_manifest
from inference.models import MODELS
from inference.yaml_mapping import read_yaml
from kernel.errors import Category, Problem

MANIFEST: Final = "model.yaml"
FEATURES: Final = "features.yaml"
WEIGHTS: Final = "weights.safetensors"
CARD: Final = "card.md"
CODE: Final = "model.py"


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """What a verified folder declares."""

    path: Path
    #: SHA-256 of its ``SHA256SUMS``.
    digest: str
    manifest: Manifest
    features: tuple[FeatureSpec, ...]
    card: str
    #: JSON of ``model.yaml``, ``features.yaml`` and the card, for the registry.
    declaration: str
    #: The package that its ``model.py`` is part of, for bundled models that have code.
    package: str | None

    @property
    def code(self) -> ModuleType | None:
        """Its ``model.py``, imported only when first read: a network's library takes seconds to load."""
        return None if self.package is None else importlib.import_module(f"{self.package}.model")

    def identity(self, status: str) -> ModelIdentity:
        """Return what a result records about the model that produced it."""
        manifest = self.manifest
        return ModelIdentity(
            name=manifest.name,
            version=manifest.version,
            digest=self.digest,
            title=manifest.title,
            intended_use=manifest.intended_use,
            owner=manifest.owner,
            demonstration=manifest.demonstration,
            card=self.card,
            status=status,
        )


def open_folder(path: Path, *, bundled: Mapping[str, str] = MODELS) -> ModelFolder:
    """Verify and read a model folder.

    Parameters
    ----------
    path
        The folder.
    bundled
        Bundled models: name -> package.

    Raises
    ------
    Problem
        ``incorrect`` when a file is altered, missing or not listed, or a declaration is wrong; ``unsupported`` when
        the folder brings code and is not a bundled package.
    """
    digest = verify(path)
    declared = read_declaration(path)
    manifest = parse_manifest(declared["model"])
    features = parse_features(declared["features"]) if declared["features"] is not None else ()
    if manifest.input.kind == "series":
        check_series(features)
    card = (path / CARD).read_text(encoding="utf-8") if (path / CARD).exists() else ""
    if not card.strip():
        raise Problem(Category.INCORRECT, f"the model folder {path.name} has no {CARD}")
    package = _package(path, bundled.get(manifest.name)) if (path / CODE).exists() else None
    return ModelFolder(
        path=path,
        digest=digest,
        manifest=manifest,
        features=features,
        card=card,
        declaration=json.dumps(declared | {"card": card}),
        package=package,
    )


def read_declaration(path: Path) -> dict[str, object]:
    """Read ``model.yaml`` and, where there is one, ``features.yaml``; raises as :func:`open_folder` does."""
    features = path / FEATURES
    return {"model": read_yaml(path / MANIFEST), "features": read_yaml(features) if features.exists() else None}


def bundled_folder(name: str) -> Path:
    """Return where a bundled model is installed.

    Raises
    ------
    Problem
        ``not-found`` when no bundled model has that name.
    """
    if name not in MODELS:
        raise Problem(Category.NOT_FOUND, f"there is no bundled model {name}")
    located = importlib.import_module(MODELS[name]).__file__
    assert located is not None
    return Path(located).parent


def _package(path: Path, package: str | None) -> str:
    if package is not None:
        located = importlib.import_module(package).__file__
        if located is not None and Path(located).parent.resolve() == path.resolve():
            return package
    raise Problem(
        Category.UNSUPPORTED, f"the model folder {path.name} brings code: make it a package and list it in MODELS"
    )
