"""In which lane a job that runs a model waits: those of models in shadow never hold up the others."""

import json
from functools import lru_cache
from typing import TypedDict

from inference.registry import ModelRow
from kernel.lanes import BACKGROUND, background_of


class Lane(TypedDict):
    """The lock columns of a job (:mod:`kernel.jobs`)."""

    lock: str
    queueing_lock: str


def lane_of(model: ModelRow, key: str) -> Lane:
    """Return the locks of a job that runs a model.

    Parameters
    ----------
    model
        The model as it is registered now.
    key
        Names the work; of jobs with the same key one waits, and one runs at a time.
    """
    if model.status == "active":
        return Lane(lock=key, queueing_lock=key)
    lock = background_of(model.name) if _waits_for_others(model.declaration) else BACKGROUND
    return Lane(lock=lock, queueing_lock=f"{BACKGROUND}:{key}")


@lru_cache(maxsize=64)
def _waits_for_others(declaration: str) -> bool:
    """Return whether another server runs the model: while that cannot be reached, its jobs wait."""
    runner = json.loads(declaration)["model"].get("runner")
    return isinstance(runner, dict) and runner.get("kind") == "remote"
