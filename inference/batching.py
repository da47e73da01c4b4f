"""A bounded micro-batcher: requests that wait together run as one batch, and each fails on its own.

Urgent requests run before routine ones, and each of the two has a queue of the same length: a full queue of routine
requests refuses no urgent one.

One batcher serves one (model, version, device, shape). Its thread takes all waiting requests, so a single request never
waits for others; while another batcher has the device it lets requests gather, for a few milliseconds at most.

Every future is answered: with the result, with what the model raised for that item alone, with ``TimeoutError`` when
its deadline passed before it ran, or with a :class:`~kernel.errors.Problem` (``interrupted``) on :meth:`close`.
"""

import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from kernel.errors import Category, Problem

Item = TypeVar("Item")
Raw = TypeVar("Raw")

BACKGROUND_NICE: Final = 10
"""Nice value (POSIX) of a thread whose answers nobody waits for."""


@dataclass(frozen=True, kw_only=True)
class QueueLimits:
    """Bounds on waiting and running requests."""

    #: Requests of one urgency that may wait; one more is refused. Two batches: an accepted request waits for the one
    #: that runs and one more at most, before its own.
    longest_queue: int = 64
    #: Items in one batch.
    largest_batch: int = 32
    #: Seconds that requests may gather while the device is busy.
    linger_s: float = 0.004
    #: Seconds after which a running batch is assumed never to end.
    stuck_s: float = 120.0
    #: Seconds that :meth:`Batcher.close` waits for the batch that is running.
    close_s: float = 10.0


@dataclass(frozen=True, kw_only=True)
class _Waiting(Generic[Item, Raw]):
    item: Item
    #: On the batcher's clock.
    deadline: float
    answer: "Future[Raw]" = field(default_factory=Future)


class Batcher(Generic[Item, Raw]):
    """Runs items in batches on a thread of its own.

    Parameters
    ----------
    run
        Items -> one answer each, in order.
    turn
        Held while the device works; shared by all batchers of a device.
    limits
        Bounds.
    out_of_memory
        Returns whether a smaller batch could have succeeded after this failure.
    monotonic
        Seconds that never go back; deadlines are instants of this clock.
    background
        Whether the thread gets processor time only when others leave some.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Raw]],
        turn: threading.Lock,
        limits: QueueLimits,
        *,
        out_of_memory: Callable[[BaseException], bool],
        monotonic: Callable[[], float] = time.monotonic,
        background: bool = False,
    ) -> None:
        self._run = run
        self._turn = turn
        self._limits = limits
        self._out_of_memory = out_of_memory
        self._monotonic = monotonic
        self._background = background
        self._changed = threading.Condition()
        self._urgent: deque[_Waiting[Item, Raw]] = deque()
        self._routine: deque[_Waiting[Item, Raw]] = deque()
        self._closed = False
        self._running_since: float | None = None
        # A daemon: a model that hangs for ever must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def submit(self, item: Item, *, deadline: float, urgent: bool = False) -> "Future[Raw]":
        """Queue one item.

        Parameters
        ----------
        item
            What the model takes, as one element of a batch.
        deadline
            Seconds on the batcher's ``monotonic`` clock; an item not started by then gets ``TimeoutError``.
        urgent
            Whether it runs before those that are not.

        Raises
        ------
        Problem
            ``busy`` when the queue is full, ``interrupted`` when the batcher is closed.
        """
        waiting: _Waiting[Item, Raw] = _Waiting(item=item, deadline=deadline)
        with self._changed:
            if self._closed:
                raise _closing()
            queue = self._urgent if urgent else self._routine
            # While no batch runs, what the next one takes does not wait for another.
            taken_next = self._limits.largest_batch if self._running_since is None else 0
            if len(queue) >= self._limits.longest_queue + taken_next:
                raise Problem(Category.BUSY, "too many requests wait for the model")
            queue.append(waiting)
            self._changed.notify()
        return waiting.answer

    def stuck(self) -> bool:
        """Return whether the running batch has taken longer than any batch should."""
        since = self._running_since
        return since is not None and self._monotonic() - since > self._limits.stuck_s

    def close(self, *, wait: bool = True) -> None:
        """Refuse what waits, let the running batch finish (``wait`` for it, a while), and stop the thread."""
        with self._changed:
            self._closed = True
            refused = [*self._urgent, *self._routine]
            self._urgent.clear()
            self._routine.clear()
            self._changed.notify()
        for waiting in refused:
            _fail(waiting, _closing())
        if wait:
            self._thread.join(self._limits.close_s)

    def _work(self) -> None:
        if self._background:
            with suppress(OSError, AttributeError):  # Linux gives each thread a nice value of its own; others do not
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICE)
        while self._wait():
            held = self._turn.acquire(timeout=self._limits.linger_s)
            try:
                self._answer(self._take())
            finally:
                self._running_since = None
                if held:
                    self._turn.release()

    def _wait(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._urgent or self._routine or self._closed)
            return not self._closed

    def _take(self) -> list[_Waiting[Item, Raw]]:
        """Take what waits, urgent items first, leaving out what was given up or is too late."""
        taken: list[_Waiting[Item, Raw]] = []
        with self._changed:
            while (queue := self._urgent or self._routine) and len(taken) < self._limits.largest_batch:
                waiting = queue.popleft()
                if not waiting.answer.set_running_or_notify_cancel():
                    continue
                if self._monotonic() >= waiting.deadline:
                    _fail(waiting, TimeoutError())
                else:
                    taken.append(waiting)
            self._running_since = self._monotonic()
        return taken

    def _answer(self, batch: Sequence[_Waiting[Item, Raw]]) -> None:
        parts = deque([batch] if batch else [])
        while parts:
            part = parts.popleft()
            failure = self._try(part)
            if failure is None:
                continue
            if len(part) == 1 or _is_of_no_item(failure):
                for waiting in part:
                    _fail(waiting, failure)
            else:
                parts.extendleft(reversed(self._parts(part, failure)))

    def _try(self, batch: Sequence[_Waiting[Item, Raw]]) -> BaseException | None:
        """Run a batch and answer it, or return why it failed, without anything that the failed run held."""
        try:
            answers = _one_each(self._run([waiting.item for waiting in batch]), len(batch))
        except BaseException as failure:  # noqa: BLE001 - the thread must survive any model's failure and complete every future
            _release(failure)
            return failure
        for waiting, answer in zip(batch, answers, strict=True):
            waiting.answer.set_result(answer)
        return None

    def _parts(
        self, batch: Sequence[_Waiting[Item, Raw]], failure: BaseException
    ) -> Sequence[Sequence[_Waiting[Item, Raw]]]:
        """Halve a batch that was too large; otherwise run each item alone, to find the one that fails."""
        if self._out_of_memory(failure):
            middle = len(batch) // 2
            return batch[:middle], batch[middle:]
        return [[waiting] for waiting in batch]


def _is_of_no_item(failure: BaseException) -> bool:
    """Return whether each item alone would fail as well: who computes is busy, or cannot be reached."""
    return isinstance(failure, Problem) and failure.category in {Category.BUSY, Category.UNAVAILABLE}


def _release(failure: BaseException) -> None:
    """Drop the local variables of a failed run: its batch must not fill the memory that a smaller one needs."""
    chain: list[BaseException | None] = [failure]
    seen: set[int] = set()
    while chain:
        one = chain.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        chain += [one.__cause__, one.__context__]


def _one_each(answers: Sequence[Raw], count: int) -> Sequence[Raw]:
    if len(answers) != count:
        raise Problem(Category.FAULT, "the model did not answer once per input")
    return answers


def _fail(waiting: _Waiting[Item, Raw], failure: BaseException) -> None:
    if waiting.answer.cancelled():
        return
    if not waiting.answer.running():
        waiting.answer.set_running_or_notify_cancel()
    if not waiting.answer.cancelled():
        waiting.answer.set_exception(failure)


def _closing() -> Problem:
    return Problem(Category.INTERRUPTED, "the server is stopping")
