"""What makes a new name in a folder survive a loss of power."""

import os
from pathlib import Path


def sync_folder(folder: str | Path) -> None:
    """Write a folder's names to the disk: the fsync of a new file alone does not make its name durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
