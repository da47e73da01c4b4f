"""One server for each data folder: a second one would work on the same files with other settings."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kernel.errors import Category, Problem

FILE: Final = "server.lock"


@contextmanager
def one_server(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock ends with the process, however it ends.

    Parameters
    ----------
    folder
        The data folder; made when it is not there.

    Raises
    ------
    Problem
        ``unavailable`` when another server holds it, with its process number.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / FILE).open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(20).strip() or "unknown"
            detail = f"another server uses this data folder (process {holder}); DATA_DIR gives each its own"
            raise Problem(Category.UNAVAILABLE, detail) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
