"""Flower mods: filters that every reply of a hospital passes before it is sent."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from flwr.app import Context, Message

Call: TypeAlias = Callable[[Any, Any], Any]


def allow_only(*, arrays: Mapping[str, tuple[int, ...]], metrics: frozenset[str]) -> Callable[[Any, Any, Call], Any]:
    """Return a mod that sends a reply only when it contains nothing but the listed arrays and metrics.

    It runs last, on the finished reply: an array that is not listed, or that has another shape (rows of patients, for
    instance), stops the reply, independent of the code that made it.

    Parameters
    ----------
    arrays
        Name -> shape of the arrays that may be sent.
    metrics
        Names of the scalar metrics that may be sent.

    Returns
    -------
    callable
        A Flower mod; it raises ``PermissionError`` instead of sending anything else.
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
