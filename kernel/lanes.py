"""The two lanes of jobs: those that somebody waits for, and those of the background, by their locks."""

from typing import Final

BACKGROUND: Final = "background"
"""The lock of jobs that nobody waits for."""


def background_of(name: str) -> str:
    """Return the lock of jobs that nobody waits for and that may have to wait for something of their own."""
    return f"{BACKGROUND}:{name}"


def is_background(lock: str | None) -> bool:
    """Return whether nobody waits for the jobs with a lock."""
    return lock is not None and lock.partition(":")[0] == BACKGROUND


CHANNELS: Final = {False: "jobs", True: "jobs-background"}
"""Whether in the background -> the channel that is signalled when such a job may have become due."""
