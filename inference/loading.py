"""Loads a model: verifies its folder, sets it up on a device, and checks its golden cases."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from inference.folder import ModelFolder, open_folder
from inference.golden import check_golden
from inference.model_files import ModelFiles
from inference.precision import choose_precision
from inference.registry import ModelRow
from inference.remote.permitted import NO_HOSTS, RemoteHosts
from inference.runners import build_runner
from inference.runners.base import Runner
from kernel.errors import Category, Problem

DEVICES: Final = ("auto", "cpu", "cuda")
AnyRunner: TypeAlias = Runner[Any, Any, Any]


def load_model(
    path: Path, *, device: str = "cpu", run_code: bool = False, remote_hosts: RemoteHosts = NO_HOSTS
) -> AnyRunner:
    """Verify a folder, set its model up, and run its golden cases.

    Parameters
    ----------
    path
        A model folder.
    device
        ``cpu``, ``cuda``, or ``auto``: a CUDA device where there is one.
    run_code
        Whether code that the folder brings may run, in a process of its own.
    remote_hosts
        Servers that the model may call.

    Raises
    ------
    Problem
        Why the model is refused; ``incorrect`` for everything that is wrong with the folder.
    """
    return set_up(replace(open_folder(path), code_allowed=run_code), device=device, remote_hosts=remote_hosts)


def load_registered(
    model_files: ModelFiles, row: ModelRow, *, device: str = "cpu", remote_hosts: RemoteHosts = NO_HOSTS
) -> AnyRunner:
    """Set up a registered version from the files that were kept when it was registered, and run its golden cases.

    Parameters
    ----------
    model_files
        Where the files are.
    row
        The version.
    device, remote_hosts
        As for :func:`load_model`.

    Raises
    ------
    Problem
        As :func:`inference.model_files.ModelFiles.open` and :func:`set_up` do.
    """
    return set_up(model_files.open(row), device=device, remote_hosts=remote_hosts)


def set_up(folder: ModelFolder, *, device: str = "cpu", remote_hosts: RemoteHosts = NO_HOSTS) -> AnyRunner:
    """Set an opened model up, and run its golden cases.

    Parameters
    ----------
    folder
        The opened folder; its files are not kept once the model is set up.
    device, remote_hosts
        As for :func:`load_model`.

    Raises
    ------
    Problem
        ``incorrect``: why the model is refused; of a model that another server runs also ``unavailable`` and ``busy``.
    """
    try:
        runner = build_runner(folder, remote_hosts)
        runner.setup(choose_device(device))
        _check(runner)
    except Problem:
        raise
    except Exception as failure:
        detail = f"the model {folder.manifest.name} {folder.manifest.version} could not be set up"
        raise Problem(Category.INCORRECT, detail, diagnostics=repr(failure)) from failure
    runner.model = folder.without_files()
    return runner


def _check(runner: AnyRunner) -> None:
    try:
        check_golden(runner)
        choose_precision(runner)
    except BaseException:
        runner.close()
        raise


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
