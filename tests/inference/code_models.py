"""Models that bring code, and what can be seen of their processes."""

import platform
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.isolated import landlock
from inference.isolated.keeper import Keeper
from inference.loading import load_model
from inference.runners.process import ProcessRunner

from . import tiny_models as tiny

SUM = """
def load(files):
    return lambda rows: 1 / (1 + 2.718281828 ** (9.5 - 0.05 * rows.sum(axis=1, keepdims=True)))
"""

WAIT_S = 60.0

needs_isolation = pytest.mark.skipif(
    platform.machine() != "x86_64" or landlock.version() < 1, reason="needs Linux on x86_64 with Landlock"
)


def wait_until(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.005)


def predicting(body: str, before: str = "") -> str:
    """Write a model.py whose function has a body; ``rows`` are the items."""
    return (
        "import ctypes, os, sys\nimport numpy as np\ndef load(files):\n"
        + textwrap.indent(textwrap.dedent(before) + "\n", "    ")
        + "    def predict(rows):\n"
        + textwrap.indent(textwrap.dedent(body), "        ")
        + "\n    return predict\n"
    )


class Models:
    """Brings folders with code, and ends what they have started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: list[Any] = []

    def folder(self, code: str, *, outputs: Any = (tiny.SCORE,), **options: Any) -> Path:
        return tiny.bring(
            self._folder / "tiny",
            {"kind": "code", **options},
            {"model.py": code.encode()},
            outputs=outputs,
            run_code=True,
        )

    def load(self, code: str, **options: Any) -> ProcessRunner:
        runner = load_model(self.folder(code, **options), run_code=True)
        assert isinstance(runner, ProcessRunner)
        self._loaded.append(runner)
        return runner

    def close(self) -> None:
        for runner in self._loaded:
            runner.close()


def pid(keeper: Keeper) -> int:
    assert keeper._child is not None
    return keeper._child.result()._process.pid


def state(process: int) -> str:
    """Return the state of a process, as proc(5) has it; nothing when there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


ROW = np.array([[100.0, 90.0]])
