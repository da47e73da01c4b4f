"""Simulated disk faults: a small library that is preloaded into the server, and its switches."""

import os
import subprocess
from pathlib import Path


class FaultyDisk:
    """The switches, each a file in a folder.

    Parameters
    ----------
    folder
        Folder of the switches; created here.
    root
        Only operations on files below it fail.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._root = root

    def environment(self, library: Path) -> dict[str, str]:
        """Return the environment variables for the server."""
        return {
            "LD_PRELOAD": os.fspath(library),
            "FAULT_SWITCHES": os.fspath(self._folder),
            "FAULT_ROOT": os.fspath(self._root),
        }

    def fail(self, how: str) -> None:
        """Make every ``sync`` fail, only those of a ``folder``, or every write because the disk is ``full``."""
        (self._folder / how).touch()

    def repair(self) -> None:
        """Switch all faults off."""
        for switch in self._folder.iterdir():
            switch.unlink()


def compile_library(compiler: str, source: Path, folder: Path) -> Path:
    """Build the library and return its path."""
    built = folder / "faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", built, source, "-ldl"], check=True)
    return built
