"""Which models are registered at a start: those that came with the software, and those that the settings name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from inference import registry
from inference.folder import ModelFolder, bundled_folder, open_folder
from inference.model_files import ModelFiles
from inference.models import MODELS
from kernel.clock import Clock
from kernel.db import Database, Transaction
from kernel.errors import Problem
from kernel.log import get_logger

_Register: TypeAlias = Callable[[Transaction, ModelFolder], None]

_log = get_logger(__name__)


def register_models(database: Database, model_files: ModelFiles, folders: Sequence[Path], clock: Clock) -> None:
    """Register the models that came with the software as active, and those in ``folders`` as shadow.

    A folder that cannot be opened does not affect the other models: it is logged and left out.

    Parameters
    ----------
    database
        Migrated to the current schema.
    model_files
        Where the files of each version are kept.
    folders
        Folders of further models, from the setting ``MODEL_DIRS``.
    clock
        Gives the time of registration.
    """
    register_bundled(database, model_files, clock)
    for path in folders:

        def register(tx: Transaction, folder: ModelFolder) -> None:
            registry.register(tx, folder, "shadow", by="settings", at=clock.now())

        _register(database, model_files, path, register)
    _keep_earlier(database, model_files)


def register_bundled(database: Database, model_files: ModelFiles, clock: Clock) -> None:
    """Register the models that came with the software as active.

    Parameters
    ----------
    database
        Migrated to the current schema.
    model_files
        Where the files of each version are kept.
    clock
        Gives the time of registration.
    """

    def register(tx: Transaction, folder: ModelFolder) -> None:
        registry.register_bundled(tx, folder, by="Ausculta", at=clock.now())

    for name in MODELS:
        _register(database, model_files, bundled_folder(name), register)


def _register(database: Database, model_files: ModelFiles, path: Path, register: _Register) -> None:
    try:
        folder = open_folder(path)
        model_files.keep(folder)
    except Problem as problem:
        _log.error("model_folder_unreadable", model=path.name, failure=problem)
        return
    try:
        database.write(lambda tx: register(tx, folder))
    except Problem as problem:
        _log.error("model_not_registered", model=path.name, failure=problem)


def _keep_earlier(database: Database, model_files: ModelFiles) -> None:
    """Keep the files of versions that were registered by a path alone, where the folder still is what it was."""
    with database.read() as connection:
        rows = registry.everything(connection)
    for row in rows:
        if model_files.path(row.digest).exists():
            continue
        try:
            folder = open_folder(row.folder)
            if folder.digest == row.digest:
                model_files.keep(folder)
        except Problem as problem:
            _log.error("model_folder_unreadable", model=row.name, version=row.version, failure=problem)
