"""Functions of a model, run on threads of their own, so that whoever waits for one can stop waiting."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class Overdue(Exception):
    """A function did not end before its deadline."""


class Threads:
    """Runs functions, each on a thread of its own, a limited number at a time.

    A function that is overdue is left to itself: Python cannot end a thread. Its place stays taken until it ends, so
    that a model that hangs each time does not fill the process with threads.

    Parameters
    ----------
    most
        Functions that may run at a time; one more is overdue at once.
    monotonic
        Seconds that never go back; deadlines are instants of this clock.
    """

    def __init__(self, most: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._places = threading.Semaphore(most)
        self._monotonic = monotonic

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
        if not self._places.acquire(blocking=False):
            raise Overdue
        future = start(work, on_end=self._places.release)
        return wait(future, deadline - self._monotonic())


def start(work: Callable[[], T], *, on_end: Callable[[], object] = lambda: None) -> "Future[T]":
    """Start a function on a thread of its own.

    Parameters
    ----------
    work
        The function.
    on_end
        Called on that thread when it has ended.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as failure:  # noqa: BLE001 - whoever waits gets it
            on_end()
            future.set_exception(failure)
        else:
            on_end()
            future.set_result(result)

    # A daemon: a model that hangs for ever must not keep the process from ending.
    threading.Thread(target=run, name="model-function", daemon=True).start()
    return future


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
