"""The table of runners: what runs each kind of model, which files hold its numbers, and what must be installed."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from inference.folder import WEIGHTS, ModelFolder
from kernel.errors import Category, Problem


@dataclass(frozen=True, kw_only=True)
class RunnerKind:
    """How the models of one kind are run."""

    #: Where the class of the runner is; imported when a model first needs it.
    module: str
    name: str
    #: Names that the file of weights may have; the folder holds exactly one of them. Empty: the runner needs none.
    weights: tuple[str, ...] = ()
    #: Keys that ``runner`` may have beside ``kind``.
    options: frozenset[str] = frozenset()
    #: Optional packages that it imports, and the extra that installs them.
    needs: tuple[str, ...] = ()
    extra: str = ""


ROW_OPTIONS: Final = frozenset({"fill", "mean", "scale", "transform"})
"""Of every runner that takes arrays: how features become numbers, and numbers become probabilities."""
GRID_OPTIONS: Final = frozenset({"mask"})
IMAGE_OPTIONS: Final = frozenset({"resize", "channels", "pixel_mean", "pixel_scale"})

RUNNERS: Final[Mapping[str, RunnerKind]] = MappingProxyType(
    {
        "score": RunnerKind(module="inference.runners.score", name="ScoreRunner"),
        "torch-image-classifier": RunnerKind(
            module="inference.runners.torch_image", name="ImageClassifierRunner", weights=(WEIGHTS,)
        ),
        "linear": RunnerKind(module="inference.runners.linear", name="LinearRunner", weights=(WEIGHTS,)),
        "sklearn": RunnerKind(
            module="inference.runners.sklearn",
            name="SklearnRunner",
            weights=("weights.skops",),
            options=ROW_OPTIONS | {"positive"},
            needs=("skops", "sklearn"),
            extra="sklearn",
        ),
        "xgboost": RunnerKind(
            module="inference.runners.boosting",
            name="XGBoostRunner",
            weights=("weights.ubj", "weights.json"),
            options=ROW_OPTIONS,
            needs=("xgboost",),
            extra="boosting",
        ),
        "lightgbm": RunnerKind(
            module="inference.runners.boosting",
            name="LightGBMRunner",
            weights=("weights.txt",),
            options=ROW_OPTIONS,
            needs=("lightgbm",),
            extra="boosting",
        ),
        "onnx": RunnerKind(
            module="inference.runners.onnx",
            name="OnnxRunner",
            weights=("weights.onnx",),
            options=ROW_OPTIONS | GRID_OPTIONS | IMAGE_OPTIONS | {"output"},
            needs=("onnx", "onnxruntime"),
            extra="onnx",
        ),
        "torch-program": RunnerKind(
            module="inference.runners.torch_arrays",
            name="ProgramRunner",
            weights=("weights.pt2",),
            options=ROW_OPTIONS | GRID_OPTIONS | IMAGE_OPTIONS | {"precision"},
        ),
        "torch-network": RunnerKind(
            module="inference.runners.torch_network",
            name="NetworkRunner",
            weights=(WEIGHTS,),
            options=ROW_OPTIONS | GRID_OPTIONS | IMAGE_OPTIONS | {"network", "arguments", "precision"},
        ),
        "code": RunnerKind(
            module="inference.runners.process",
            name="ProcessRunner",
            weights=("model.py",),
            options=ROW_OPTIONS | GRID_OPTIONS | IMAGE_OPTIONS | {"memory_mb", "seconds"},
        ),
        "transformers": RunnerKind(
            module="inference.runners.text",
            name="TextRunner",
            weights=("huggingface/model.safetensors",),
            options=frozenset({"task", "max_tokens", "long", "transform", "positive", "precision"}),
            needs=("transformers", "tokenizers"),
            extra="huggingface",
        ),
        "remote": RunnerKind(
            module="inference.runners.remote",
            name="RemoteRunner",
            options=ROW_OPTIONS | GRID_OPTIONS | IMAGE_OPTIONS | {"url", "model", "version", "output"},
        ),
    }
)
"""``runner`` of a manifest -> how it is run."""


def check_runner(model: ModelFolder, kind: RunnerKind) -> None:
    """Return when a folder declares and holds what its runner needs, and the packages are installed.

    Parameters
    ----------
    model
        The opened folder.
    kind
        Of its runner.

    Raises
    ------
    Problem
        ``incorrect`` when ``runner`` has an option that the kind does not know, or the folder does not hold one file
        of weights; ``unsupported`` when a package is not installed, with the command that installs it.
    """
    name = model.manifest.runner
    for option in sorted(model.manifest.runner_options.keys() - kind.options):
        known = f"; {name} knows: {', '.join(sorted(kind.options))}" if kind.options else f"; {name} has no options"
        raise Problem(Category.INCORRECT, f"model.yaml.runner.{option} is not known{known}")
    if kind.weights:
        weights_of(model, kind.weights)
    check_installed(name, kind)


def check_installed(name: str, kind: RunnerKind) -> None:
    """Return when the packages that a runner imports are installed.

    Parameters
    ----------
    name
        Of the kind, as ``runner`` states it.
    kind
        Its entry in the table.

    Raises
    ------
    Problem
        ``unsupported``, with the command that installs them.
    """
    lacking = [package for package in kind.needs if importlib.util.find_spec(package) is None]
    if lacking:
        raise Problem(
            Category.UNSUPPORTED,
            f"model.yaml.runner: {name} needs {' and '.join(lacking)}, not installed here; "
            f"run: pip install '.[{kind.extra}]' -c constraints.txt",
        )


def weights_of(model: ModelFolder, names: tuple[str, ...]) -> tuple[str, bytes]:
    """Return name and content of the one file of weights.

    Parameters
    ----------
    model
        The opened folder.
    names
        What the file may be called.

    Raises
    ------
    Problem
        ``incorrect`` when the folder holds none of them, or several.
    """
    found = [name for name in names if name in model.files]
    runner = f"model.yaml.runner: {model.manifest.runner}"
    if not found:
        others = sorted(name for name in model.files if name.startswith(("weights.", "huggingface/")))
        instead = f"; the folder has {', '.join(others)}" if others else ""
        raise Problem(Category.INCORRECT, f"{runner} needs the file {' or '.join(names)}{instead}")
    if len(found) > 1:
        raise Problem(Category.INCORRECT, f"{runner} needs one file of weights: remove {' or '.join(found)}")
    return found[0], model.files[found[0]]
