"""A loaded model: one replica on each device, each with its queues.

A request goes to the device with the least load. A version that is replaced is unloaded when the last request that uses
it has ended.
"""

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from inference.batching import Batcher, QueueLimits
from inference.deadline import Threads
from inference.devices import Device, by_load
from inference.loading import AnyRunner
from inference.runners.base import Decoded
from kernel.errors import Category, Problem
from kernel.log import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Replica:
    """A model on one device."""

    runner: AnyRunner
    device: Device
    #: Shape -> the largest batch that its memory suffices for, where that was tried.
    largest: Mapping[Hashable, int] = field(default_factory=dict)
    #: (whether in the background, shape) -> queue.
    queues: dict[tuple[bool, Hashable], Batcher[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Due:
    """An item, and when nobody waits for its answer any more."""

    item: Any
    deadline: float


class LoadedModel:
    """A model on every device.

    Parameters
    ----------
    replicas
        One for each device.
    limits
        Bounds of every queue.
    monotonic
        Seconds that never go back, for deadlines.
    """

    def __init__(self, replicas: Sequence[Replica], limits: QueueLimits, monotonic: Callable[[], float]) -> None:
        self.runner = replicas[0].runner
        #: For reading inputs and expressing answers.
        self.threads = Threads(max(1, limits.longest_queue), monotonic)
        self._replicas = replicas
        self._limits = limits
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._users = dict.fromkeys((False, True), 0)
        #: Inputs of one urgency that are read, wait, run or are expressed at a time.
        self._most = len(replicas) * (limits.longest_queue + limits.largest_batch)
        self._unloads = False
        self._closed = False

    def enter(self, inputs: int = 1, *, urgent: bool = False) -> bool:
        """Count the inputs of a request that uses the model; False when it is unloaded already.

        Parameters
        ----------
        inputs
            How many.
        urgent
            Whether they run before those that are not.

        Raises
        ------
        Problem
            ``busy`` when too many are under way: they would wait for each other before they wait in a queue.
        """
        with self._guard:
            if self._unloads and not any(self._users.values()):
                return False
            if self._users[urgent] + inputs > self._most:
                raise Problem(Category.BUSY, "too many requests wait for the model")
            self._users[urgent] += inputs
            return True

    def leave(self, inputs: int = 1, *, urgent: bool = False) -> None:
        """Count the inputs of a request no longer; the last one unloads a model that was replaced.

        Parameters
        ----------
        inputs, urgent
            As they were entered.
        """
        with self._guard:
            self._users[urgent] -= inputs
            last = self._unloads and not any(self._users.values())
        if last:
            self.close(wait=False)

    def unload(self) -> None:
        """Close the model once nobody uses it."""
        with self._guard:
            self._unloads = True
            unused = not any(self._users.values())
        if unused:
            self.close(wait=False)

    def submit(
        self, decoded: Decoded[Any], *, background: bool, deadline: float, urgent: bool
    ) -> "tuple[AnyRunner, Future[Any]]":
        """Queue an item on the device with the least load; a full queue leads to the next one.

        Parameters
        ----------
        decoded
            The item, and its shape.
        background
            Whether it gets processor time only when others leave some.
        deadline, urgent
            As for :meth:`inference.batching.Batcher.submit`.

        Raises
        ------
        Problem
            ``busy`` when the queues of all devices are full, ``interrupted`` when the server is stopping.
        """
        refusal = Problem(Category.BUSY, "too many requests wait for the model")
        for place in by_load([replica.device for replica in self._replicas]):
            replica = self._replicas[place]
            queue = self._queue(replica, background, decoded.shape)
            try:
                item = _Due(decoded.item, deadline)
                future = replica.device.submit(queue, item, deadline=deadline, urgent=urgent)
            except Problem as problem:
                if problem.category is not Category.BUSY:
                    raise
                refusal = problem
            else:
                return replica.runner, future
        raise refusal

    def close(self, *, wait: bool = True) -> None:
        """Refuse what waits, and stop all threads; ``wait`` for the batches that run."""
        with self._guard:
            self._closed = True
            queues = [queue for replica in self._replicas for queue in replica.queues.values()]
        for queue in queues:
            queue.close(wait=wait)
        self.threads.close()
        for replica in self._replicas:
            replica.runner.close()

    def _queue(self, replica: Replica, background: bool, shape: Hashable) -> Batcher[Any, Any]:  # noqa: FBT001 - a key
        with self._guard:
            if self._closed:
                raise Problem(Category.INTERRUPTED, "the server is stopping")
            queue = replica.queues.get((background, shape))
            if queue is not None and queue.stuck():
                manifest = self.runner.model.manifest
                _log.error("model_stuck", model=manifest.name, version=manifest.version)
                queue.close(wait=False)
                queue = None
            if queue is None:
                queue = replica.queues[background, shape] = self._open(replica, background, shape)
            return queue

    def _open(self, replica: Replica, background: bool, shape: Hashable) -> Batcher[Any, Any]:  # noqa: FBT001 - a key
        runner, name = replica.runner, replica.device.name
        most = min(self._limits.largest_batch, replica.largest.get(shape, self._limits.largest_batch))

        def run(items: Sequence[_Due]) -> Sequence[Any]:
            latest = max(one.deadline for one in items)
            with name.chosen():
                batch = runner.batch([one.item for one in items])
                answers: Sequence[Any] = runner.predict_within(batch, latest - self._monotonic())
                return answers

        return Batcher(
            run,
            replica.device.turns[background] if runner.uses_device else threading.Lock(),
            replace(self._limits, largest_batch=most),
            out_of_memory=runner.out_of_memory,
            monotonic=self._monotonic,
            background=background,
        )
