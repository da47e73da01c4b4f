"""A model's folder, opened: read once, verified, parsed, its code found.

Everything that runs (declarations, weights, golden cases, code) comes from the bytes that were verified, never from a
second look at the files, and never from what Python has compiled beside them.

A folder that holds ``model.py`` is a bundled Python package, listed in :data:`inference.models.MODELS`. A folder added
from elsewhere brings declarations and weights; its code, if it has some, never runs in this process
(:mod:`inference.runners.process`).
"""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Final

from inference.contract import ModelIdentity
from inference.digest import Verified, read_verified
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
BY_CODE: Final = "code"
"""The runner of models that bring code of their own."""
FILL_IN: Final = "FILL-IN"
"""Stands in a skeleton where only a person knows; a folder with it is refused."""


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
    #: Name with slashes -> content, as verified.
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False, compare=False)
    #: Whether an operator has allowed that its code runs in a process of its own; for the runner :data:`BY_CODE`.
    code_allowed: bool = field(default=False, compare=False)

    @cached_property
    def code(self) -> ModuleType | None:
        """Its ``model.py``, run only when first read: a network's library takes seconds to load.

        It is compiled from the verified bytes. An import would run a planted ``.pyc`` in place of them.
        """
        if self.package is None:
            return None
        module = ModuleType(f"{self.package}.model")
        module.__file__ = str(self.path / CODE)
        exec(compile(self.files[CODE], module.__file__, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - see above
        return module

    def without_files(self) -> "ModelFolder":
        """Return the same without the bytes, which a model that is set up no longer needs."""
        return replace(self, files={})

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
    return find_package(read_model(path, read_verified(path)), bundled=bundled)


def find_package(model: ModelFolder, *, bundled: Mapping[str, str] = MODELS) -> ModelFolder:
    """Return a model with the package that its code is part of, where it brings code that runs in this process.

    Parameters
    ----------
    model
        As :func:`read_model` returned it.
    bundled
        Bundled models: name -> package.

    Raises
    ------
    Problem
        ``unsupported`` when the folder brings code and is not a bundled package.
    """
    if CODE not in model.files or model.manifest.runner == BY_CODE:
        return model
    return replace(model, package=_package(model.path, bundled.get(model.manifest.name)))


def read_model(path: Path, verified: Verified) -> ModelFolder:
    """Read a model from verified bytes; whether it may run code of its own is for the caller to say.

    Parameters
    ----------
    path
        Where the folder is.
    verified
        What it holds.

    Raises
    ------
    Problem
        ``incorrect`` when a declaration is wrong or the card is missing.
    """
    declared = read_declaration(verified.files)
    manifest = parse_manifest(declared["model"])
    features = parse_features(declared["features"]) if declared["features"] is not None else ()
    if manifest.input.kind == "series":
        check_series(features)
    card = verified.files.get(CARD, b"").decode("utf-8", errors="replace")
    if not card.strip():
        raise Problem(Category.INCORRECT, f"the model folder {path.name} has no {CARD}")
    return ModelFolder(
        path=path,
        digest=verified.digest,
        manifest=manifest,
        features=features,
        card=card,
        declaration=json.dumps(declared | {"card": card}),
        package=None,
        files=verified.files,
    )


def read_declaration(files: Mapping[str, bytes]) -> dict[str, object]:
    """Read ``model.yaml`` and, where there is one, ``features.yaml``; raises as :func:`open_folder` does."""
    features = files.get(FEATURES)
    declared = {
        "model": read_yaml(MANIFEST, files.get(MANIFEST)),
        "features": None if features is None else read_yaml(FEATURES, features),
    }
    unfilled = [*_unfilled(MANIFEST, declared["model"]), *_unfilled(FEATURES, declared["features"])]
    if unfilled:
        raise Problem(Category.INCORRECT, f"{FILL_IN} must be replaced in: {', '.join(unfilled)}")
    return declared


def _unfilled(place: str, content: object) -> Iterator[str]:
    """Yield where the mark of a skeleton still stands."""
    if content == FILL_IN:
        yield place
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _unfilled(f"{place}.{key}", value)
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from _unfilled(f"{place}[{number}]", value)


def bundled_folder(name: str) -> Path:
    """Return where a bundled model is installed.

    Raises
    ------
    Problem
        ``not-found`` when no bundled model has that name.
    """
    if name not in MODELS:
        raise Problem(Category.NOT_FOUND, f"there is no bundled model {name}")
    located = _located(MODELS[name])
    assert located is not None
    return located


def _located(package: str) -> Path | None:
    """Return the folder of a package without running it: its compiled form is not covered by the sums."""
    found = importlib.util.find_spec(package)
    return None if found is None or found.origin is None else Path(found.origin).parent


def _package(path: Path, package: str | None) -> str:
    if package is not None:
        located = _located(package)
        if located is not None and located.resolve() == path.resolve():
            return package
    raise Problem(
        Category.UNSUPPORTED,
        f"the model folder {path.name} brings code, which only runs in a process of its own: "
        f"in model.yaml state runner: {BY_CODE}",
    )
