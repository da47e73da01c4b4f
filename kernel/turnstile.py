"""The right to write to a SQLite file, handed from process to process in the order in which they asked.

SQLite itself lets a process that waits for the write lock sleep and look again, so that one that writes without a pause
keeps the others out for a second. Here a process waits in a blocking file lock. Two locks make it fair: whoever waits
for the write lock holds the lock of the queue, so the one that has just written must queue behind it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Turnstile:
    """Two lock files beside a database; the system frees the locks of a process that ends, however it ends.

    Parameters
    ----------
    database
        Path of the database file.
    """

    def __init__(self, database: Path) -> None:
        self._queue = _open(database.with_name(f"{database.name}-queue.lock"))
        self._write = _open(database.with_name(f"{database.name}-write.lock"))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until no other process writes; for one thread of this process at a time."""
        fcntl.flock(self._queue, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._write, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._queue, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._write, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the files."""
        os.close(self._queue)
        os.close(self._write)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
