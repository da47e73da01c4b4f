"""Runners: how each kind of model is run, in one table.

A runner's module is imported when a model first needs it, so that a score does not wait for PyTorch.
"""

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, cast

from inference.runners.base import Runner
from kernel.errors import Category, Problem

RUNNERS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "score": ("inference.runners.score", "ScoreRunner"),
        "torch-image-classifier": ("inference.runners.torch_image", "ImageClassifierRunner"),
        "linear": ("inference.runners.linear", "LinearRunner"),
    }
)
"""``runner`` of a manifest -> module and class."""

_ALIASES: Final[Mapping[str, str]] = MappingProxyType({"torch": "torch-image-classifier"})
"""Names that registered declarations still have."""


def runner_class(kind: str) -> type[Runner[Any, Any, Any]]:
    """Return the class that runs models of a kind.

    Raises
    ------
    Problem
        ``unsupported`` when there is none.
    """
    kind = _ALIASES.get(kind, kind)
    if kind not in RUNNERS:
        raise Problem(Category.UNSUPPORTED, f"model.yaml.runner must be one of: {', '.join(RUNNERS)}")
    module, name = RUNNERS[kind]
    return cast("type[Runner[Any, Any, Any]]", getattr(importlib.import_module(module), name))
