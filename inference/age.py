"""How old the values are that a result rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from inference.contract import InputUsed, Output


def oldest_value(inputs: Sequence[InputUsed]) -> InputUsed | None:
    """Return the value that was measured first; None when no value has a time."""
    return min((used for used in inputs if used.effective is not None), key=_time, default=None)


def measured_apart(inputs: Sequence[InputUsed]) -> timedelta:
    """Return the time between the oldest and the newest value."""
    times = [used.effective for used in inputs if used.effective is not None]
    return max(times) - min(times) if times else timedelta(0)


def with_age(output: Output, inputs: Sequence[InputUsed], at: datetime, titles: Mapping[str, str]) -> Output:
    """Return an output whose text also says how old its oldest value is; without values it is returned unchanged.

    Parameters
    ----------
    output
        As the model's runner expressed it.
    inputs
        What was read.
    at
        The time of prediction.
    titles
        Name of a feature -> what a clinician calls it.
    """
    oldest = oldest_value(inputs)
    if oldest is None:
        return output
    name = titles.get(oldest.name, oldest.name)
    return replace(output, text=f"{output.text} Oldest value: {name}, {in_words(at - _time(oldest))} old.")


def in_words(age: timedelta) -> str:
    """Return a time span in whole minutes, hours and minutes, or days and hours; nothing is younger than 0 minutes."""
    minutes = max(0, int(age.total_seconds() // 60))
    hours, days = minutes // 60, minutes // 1440
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def _time(used: InputUsed) -> datetime:
    assert used.effective is not None  # only values with a time are asked
    return used.effective
