"""Flower mods: what every message of a hospital passes on its way out."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from flwr.app import Context, Message

Call: TypeAlias = Callable[[Any, Any], Any]


def allow_only(*, arrays: Mapping[str, tuple[int, ...]], metrics: frozenset[str]) -> Callable[[Any, Any, Call], Any]:
    """Make a mod that lets nothing out but what is listed.

    It is the last hand on a hospital's reply: an array that is not expected, or has another shape (patients, for
    instance), stops the reply, whatever the code before it did.

    Parameters
    ----------
    arrays
        Name -> shape of the arrays that may leave.
    metrics
        Names of the single numbers that may leave.
    """

    def mod(message: Message, context: Context, call_next: Call) -> Message:
        reply = call_next(message, context)
        for records in reply.content.array_records.values():
            for name, array in records.items():
                if arrays.get(name) != tuple(array.shape):
                    raise PermissionError(f"an array {name} of shape {tuple(array.shape)} may not leave this site")
        for record in reply.content.metric_records.values():
            for name, value in record.items():
                if name not in metrics or isinstance(value, list):
                    raise PermissionError(f"a metric {name} may not leave this site")
        if reply.content.config_records:
            raise PermissionError("texts may not leave this site")
        return reply

    return mod
