"""The files of every registered model version, kept in the data folder under their digest.

A version that is registered is copied, verified, to ``DATA_DIR/model-files/<digest>/``. What runs is that copy: the
folder that it came from may be edited, moved or deleted afterwards.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

from inference.code_permissions import not_allowed
from inference.digest import read_verified
from inference.folder import BY_CODE, CODE, ModelFolder, read_model
from inference.models import MODELS
from inference.registry import ModelRow
from kernel.errors import Category, Problem

MODEL_FILES: Final = "model-files"
"""Name of the folder in the data folder."""


class ModelFiles:
    """Keeps and opens the files of registered models.

    Parameters
    ----------
    root
        The folder; made when the first model is kept.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, digest: str) -> Path:
        """Return where the files of a digest are, or would be."""
        return self._root / digest

    def keep(self, model: ModelFolder) -> None:
        """Copy the verified bytes of a model, durably; what is there already and whole stays as it is.

        Raises
        ------
        Problem
            ``unavailable`` when they cannot be written.
        """
        if self._is_whole(model.digest):
            return
        target, part = self.path(model.digest), self._root / f".{model.digest}.{os.getpid()}"
        try:
            shutil.rmtree(part, ignore_errors=True)
            for name, content in model.files.items():
                _write(part / name, content)
            shutil.rmtree(target, ignore_errors=True)
            part.rename(target)
            _sync(self._root)
        except OSError as failure:
            shutil.rmtree(part, ignore_errors=True)
            if self._is_whole(model.digest):  # another process was faster
                return
            detail = f"the files of the model {model.manifest.name} cannot be kept"
            raise Problem(Category.UNAVAILABLE, detail, diagnostics=repr(failure)) from failure

    def open(self, row: ModelRow) -> ModelFolder:
        """Open a registered version: read its kept files once and check them.

        Parameters
        ----------
        row
            The version; in this process it runs code only when it came with the software.

        Raises
        ------
        Problem
            ``incorrect`` when a kept file is missing or altered; ``conflict`` when the files are not those that were
            registered; ``unsupported`` when they bring code for this process and the version did not come with the
            software; ``forbidden`` when they bring code for a process of its own and no operator allows it.
        """
        verified = read_verified(self.path(row.digest), called=f"the model {row.name} {row.version}")
        if verified.digest != row.digest:
            raise Problem(Category.CONFLICT, f"the files of {row.name} {row.version} changed since it was registered")
        model = read_model(self.path(row.digest), verified)
        if model.manifest.runner == BY_CODE:
            if not row.code_allowed:
                raise not_allowed(row.name, row.version)
            return replace(model, code_allowed=True)
        if CODE not in model.files:
            return model
        if row.origin != "bundled":
            raise Problem(Category.UNSUPPORTED, f"the model {row.name} brings code and did not come with the software")
        return replace(model, package=MODELS.get(row.name, "inference.models"))

    def _is_whole(self, digest: str) -> bool:
        try:
            return read_verified(self.path(digest)).digest == digest
        except (Problem, OSError):
            return False


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
