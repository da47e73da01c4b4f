"""A disk that can be made to fail: a small library, preloaded into the server, and its switches."""

import os
import subprocess
from pathlib import Path


class FaultyDisk:
    """The switches, each a file in a folder.

    Parameters
    ----------
    folder
        Where they lie; made here.
    root
        Only files below it are touched.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._root = root

    def environment(self, library: Path) -> dict[str, str]:
        """Return what the server's environment must hold."""
        return {
            "LD_PRELOAD": os.fspath(library),
            "FAULT_SWITCHES": os.fspath(self._folder),
            "FAULT_ROOT": os.fspath(self._root),
        }

    def fail(self, how: str) -> None:
        """Let every ``sync`` fail, those of a ``folder`` alone, or every write because the disk is ``full``."""
        (self._folder / how).touch()

    def mend(self) -> None:
        """Let everything succeed again."""
        for switch in self._folder.iterdir():
            switch.unlink()


def compile_library(compiler: str, source: Path, folder: Path) -> Path:
    """Build the library and return where it is."""
    built = folder / "faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", built, source, "-ldl"], check=True)
    return built
