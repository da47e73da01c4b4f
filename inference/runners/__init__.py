"""Runners: how each kind of model is run, in one table.

A runner's module is imported when a model first needs it, so that a score does not wait for PyTorch.
"""

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from inference.remote.permitted import NO_HOSTS, RemoteHosts
from inference.runners.base import Runner
from inference.runners.kinds import RUNNERS, RunnerKind, check_runner
from kernel.errors import Category, Problem

if TYPE_CHECKING:
    from inference.folder import ModelFolder

__all__ = ["RUNNERS", "RunnerKind", "build_runner", "runner_class"]

_ALIASES: Final[Mapping[str, str]] = MappingProxyType({"torch": "torch-image-classifier"})
"""Names that registered declarations still have."""


def runner_class(kind: str) -> type[Runner[Any, Any, Any]]:
    """Return the class that runs models of a kind.

    Raises
    ------
    Problem
        ``unsupported`` when there is none.
    """
    found = _kind(kind)
    return cast("type[Runner[Any, Any, Any]]", getattr(importlib.import_module(found.module), found.name))


def build_runner(model: "ModelFolder", remote_hosts: RemoteHosts = NO_HOSTS) -> Runner[Any, Any, Any]:
    """Return the runner of a folder, not yet set up.

    Parameters
    ----------
    model
        The opened folder.
    remote_hosts
        Servers that the model may call.

    Raises
    ------
    Problem
        ``unsupported`` when there is no such runner, or a package that it needs is not installed; ``incorrect`` when
        the folder does not hold what it needs.
    """
    check_runner(model, _kind(model.manifest.runner))
    runner = runner_class(model.manifest.runner)(model, remote_hosts)
    readable = " or ".join(sorted(runner.kinds))
    if runner.kinds and model.manifest.input.kind not in runner.kinds:
        detail = f"{model.manifest.runner} reads inputs of kind {readable}, not {model.manifest.input.kind}"
        raise Problem(Category.INCORRECT, f"model.yaml.runner: {detail}")
    return runner


def _kind(kind: str) -> RunnerKind:
    kind = _ALIASES.get(kind, kind)
    if kind not in RUNNERS:
        raise Problem(Category.UNSUPPORTED, f"model.yaml.runner must be one of: {', '.join(RUNNERS)}")
    return RUNNERS[kind]
