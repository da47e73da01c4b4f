"""In which lane a job that runs a model waits: those of models in shadow never hold up the others."""

from typing import TypedDict

from inference.registry import ModelRow
from kernel.jobs import BACKGROUND


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
    return Lane(lock=BACKGROUND, queueing_lock=f"{BACKGROUND}:{key}")
