"""The devices that models run on: which there are, and how much waits for each."""

import gc
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from inference.batching import Batcher


@dataclass(frozen=True, kw_only=True)
class DeviceName:
    """A device by the kind that a runner is set up for and, where there are several of it, its number."""

    #: ``cpu``, ``cuda`` or ``auto``.
    kind: str
    number: int | None = None

    def chosen(self) -> AbstractContextManager[Any]:
        """Return the context in which ``cuda`` means this device on the calling thread."""
        if self.number is None:
            return nullcontext()
        import torch  # noqa: PLC0415 - seconds to import, and only several devices need it here

        return torch.cuda.device(self.number)


def devices_of(wanted: str) -> tuple[DeviceName, ...]:
    """Return the devices that a setting means: every CUDA device where it asks for CUDA and there are several.

    Parameters
    ----------
    wanted
        ``cpu``, ``cuda``, or ``auto``: the CUDA devices where there are any.
    """
    if wanted == "cpu":
        return (DeviceName(kind=wanted),)
    import torch  # noqa: PLC0415 - as above

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count < 2:
        return (DeviceName(kind=wanted),)
    return tuple(DeviceName(kind="cuda", number=number) for number in range(count))


class Device:
    """A device in use.

    Parameters
    ----------
    name
        Which one.
    """

    def __init__(self, name: DeviceName) -> None:
        self.name = name
        #: Whether in the background -> held while a model runs.
        self.turns = {background: threading.Lock() for background in (False, True)}
        self._guard = threading.Lock()
        self._unanswered = 0

    @property
    def load(self) -> int:
        """Items that wait for the device or run on it, of whatever model."""
        return self._unanswered

    def submit(self, queue: Batcher[Any, Any], item: Any, *, deadline: float, urgent: bool) -> "Future[Any]":
        """Queue an item for this device.

        Parameters
        ----------
        queue
            A queue of this device.
        item, deadline, urgent
            As for :meth:`inference.batching.Batcher.submit`.
        """
        self._count(1)
        try:
            answer = queue.submit(item, deadline=deadline, urgent=urgent)
        except BaseException:
            self._count(-1)
            raise
        answer.add_done_callback(lambda _: self._count(-1))
        return answer

    def _count(self, change: int) -> None:
        with self._guard:
            self._unanswered += change


def by_load(devices: Sequence[Device]) -> list[int]:
    """Return the places of devices, the one with the least load first; of equals the first one."""
    return sorted(range(len(devices)), key=lambda place: devices[place].load)


def free_memory(after: Callable[[], object] = gc.collect) -> None:
    """Give the memory of models that are no longer referred to back, on CUDA devices to other processes too.

    Parameters
    ----------
    after
        Finds the objects that nothing refers to.
    """
    after()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
