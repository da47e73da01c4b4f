"""One server for each data folder: a second one would work on the same files with other settings.

The processes of a server hold the lock together: it is free when the last of them has ended.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kernel.errors import Category, Problem
from kernel.process import process_start

FILE: Final = "server.lock"


ORPHANS_END_S: Final = 10.0
"""How long the processes of a server that was killed may take to end."""
_LOOKS_EVERY_S: Final = 0.05


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
        until = time.monotonic() + ORPHANS_END_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                holder = file.read(20).strip() or "unknown"
                if _is_alive(holder) or time.monotonic() > until:
                    detail = f"another server uses this data folder (process {holder}); DATA_DIR gives each its own"
                    raise Problem(Category.UNAVAILABLE, detail) from None
                time.sleep(_LOOKS_EVERY_S)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _is_alive(holder: str) -> bool:
    """Return whether the process that took the lock runs; the other processes of its server outlive it by a moment."""
    return not holder.isdecimal() or process_start(int(holder)) != ""
