"""Functions of a model, run on threads of their own, so that whoever waits for one can stop waiting."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, TypeAlias, TypeVar

T = TypeVar("T")

LONGEST_IDLE_S: Final = 60.0
"""After this time without a function a thread ends."""

_Tasks: TypeAlias = "queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]"


class Overdue(Exception):
    """A function did not end before its deadline."""


class Threads:
    """Runs functions, each on a thread that runs nothing else meanwhile, a limited number at a time.

    A thread that has ended its function waits for the next one: to start a thread takes longer than most functions.

    A function that is overdue is left to itself: Python cannot end a thread. Its place stays taken until it ends, so
    that a model that hangs each time does not fill the process with threads.

    Parameters
    ----------
    most
        Functions that may run at a time; one more waits until one of them ends.
    monotonic
        Seconds that never go back; deadlines are instants of this clock.
    """

    def __init__(self, most: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._places = threading.Semaphore(most)
        self._monotonic = monotonic
        self._idle: deque[_Tasks] = deque()
        self._closed = False

    def run(self, work: Callable[[], T], deadline: float) -> T:
        """Return what a function returns.

        Parameters
        ----------
        work
            The function; what it raises is raised.
        deadline
            When to stop waiting for it.

        Raises
        ------
        Overdue
            When it has not ended by then.
        """
        if not self._places.acquire(timeout=max(0.0, deadline - self._monotonic())):
            raise Overdue
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        try:
            tasks = self._idle.pop()
        except IndexError:
            tasks = queue.SimpleQueue()
            _thread(lambda: self._serve(tasks))
        tasks.put((work, future))
        return wait(future, deadline - self._monotonic())

    def close(self) -> None:
        """End the threads that wait for a function; one that runs ends after it."""
        self._closed = True
        while self._idle:
            with suppress(IndexError):  # a function took it
                self._idle.pop().put(None)

    def _serve(self, tasks: _Tasks) -> None:
        while True:
            try:
                task = tasks.get(timeout=LONGEST_IDLE_S)
            except queue.Empty:
                if self._leave(tasks):
                    return
                continue
            if task is None:
                return
            work, future = task
            _carry_out(work, future, on_end=lambda: self._end(tasks))
            del task, work, future  # of a patient
            if self._closed and self._leave(tasks):
                return

    def _leave(self, tasks: _Tasks) -> bool:
        """Take a thread out of those that wait; False when a function or the end is on its way to it."""
        try:
            self._idle.remove(tasks)
        except ValueError:
            return False
        return True

    def _end(self, tasks: _Tasks) -> None:
        self._idle.append(tasks)
        self._places.release()


def start(work: Callable[[], T]) -> "Future[T]":
    """Start a function on a thread of its own."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    _thread(lambda: _carry_out(work, future, on_end=lambda: None))
    return future


def _carry_out(work: Callable[[], T], future: "Future[T]", *, on_end: Callable[[], object]) -> None:
    try:
        result = work()
    except BaseException as failure:  # noqa: BLE001 - whoever waits gets it
        on_end()
        future.set_exception(failure)
    else:
        on_end()
        future.set_result(result)


def _thread(target: Callable[[], object]) -> None:
    # A daemon: a model that hangs for ever must not keep the process from ending.
    threading.Thread(target=target, name="model-function", daemon=True).start()


def wait(future: "Future[T]", seconds: float) -> T:
    """Wait for a future, no longer than some seconds.

    Parameters
    ----------
    future
        What :func:`start` returned.
    seconds
        How long; nothing is waited for when it is not above 0.

    Raises
    ------
    Overdue
        When it has not ended by then.
    """
    try:
        # Read as a value: a TimeoutError that the function raised is not the end of this wait.
        failure = future.exception(timeout=max(0.0, seconds))
    except TimeoutError:
        raise Overdue from None
    if failure is not None:
        raise failure
    return future.result()
