"""Loads a model: verifies its folder, sets it up on a device, and checks its golden cases."""

from pathlib import Path
from typing import Any, Final, TypeAlias

from inference.folder import open_folder
from inference.golden import check_golden
from inference.runners import runner_class
from inference.runners.base import Runner
from kernel.errors import Category, Problem

DEVICES: Final = ("auto", "cpu", "cuda")
AnyRunner: TypeAlias = Runner[Any, Any, Any]


def load_model(path: Path, *, device: str = "cpu") -> AnyRunner:
    """Verify a folder, set its model up, and run its golden cases.

    Parameters
    ----------
    path
        A model folder.
    device
        ``cpu``, ``cuda``, or ``auto``: a CUDA device where there is one.

    Raises
    ------
    Problem
        Why the model is refused; ``incorrect`` for everything that is wrong with the folder.
    """
    try:
        folder = open_folder(path)
        runner = runner_class(folder.manifest.runner)(folder)
        runner.setup(choose_device(device))
        check_golden(runner)
    except Problem:
        raise
    except Exception as failure:
        detail = f"the model in {path.name} could not be set up"
        raise Problem(Category.INCORRECT, detail, diagnostics=repr(failure)) from failure
    return runner


def choose_device(wanted: str) -> str:
    """Turn ``auto`` into ``cuda`` where PyTorch can use one, else ``cpu``.

    Raises
    ------
    Problem
        ``incorrect`` when ``wanted`` is not one of :data:`DEVICES`.
    """
    if wanted not in DEVICES:
        raise Problem(Category.INCORRECT, f"the device must be one of: {', '.join(DEVICES)}")
    if wanted != "auto":
        return wanted
    import torch  # noqa: PLC0415 - seconds to import, and only this question needs it here

    return "cuda" if torch.cuda.is_available() else "cpu"
