"""Keeps one process for the code of a model: starts it, replaces it when it ends or wears out, and pauses in between.

A process that ended is replaced at once. After several ends in a row the next one is started only after a pause, which
doubles each time; until then every batch is refused at once, so that nobody waits for a model that cannot answer.
"""

import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.isolated.child_process import ChildProcess, CodeFailed, Ended, ProcessLimits, Refused
from inference.runners.base import TryAgain
from kernel.errors import Category, Problem
from kernel.log import get_logger

ENDS_IN_A_ROW: Final = 3
"""So many processes may end without an answer in between before there is a pause."""
LONGEST_PAUSE_S: Final = 60.0

_log = get_logger(__name__)


class Keeper:
    """Asks the process of a model, and has another one where that has ended.

    Parameters
    ----------
    name
        Of the model, for the log.
    files
        Returns the files of its folder, verified; asked for at each start.
    limits
        What a process may use.
    monotonic
        Seconds that never go back, for pauses.
    """

    def __init__(
        self,
        name: str,
        files: Callable[[], Mapping[str, bytes]],
        limits: ProcessLimits,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._monotonic = monotonic
        self._asking = threading.Lock()
        self._ends = 0
        self._not_before = 0.0
        self._starter = _Starter(files, limits)
        self._child: Future[ChildProcess] | None = self._starter.start()
        #: Also called when nobody refers to the keeper any more.
        self._close = weakref.finalize(self, self._starter.close)

    def close(self) -> None:
        """End the process, and start no other; a batch that waits for it is answered with ``interrupted``."""
        self._starter.stop()
        with self._asking:
            self._close()

    def ask(self, items: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what the model's code gives for a batch.

        Parameters
        ----------
        items
            (items, ...).

        Raises
        ------
        TryAgain
            When the process ended, was late, or is not there.
        Problem
            ``fault`` when the code raised an exception, ``incorrect`` when it cannot be loaded, ``unsupported`` when
            this machine cannot isolate it, ``interrupted`` when the server is stopping.
        MemoryError
            When the code had not enough memory.
        """
        with self._asking:
            if self._starter.closed:
                raise _stopping()
            child = self._ready()
            try:
                numbers = child.ask(items)
            except Ended as failure:
                raise self._ended(failure) from None
            except MemoryError:
                self._ended(Ended("the model ran out of memory"))
                raise
            except CodeFailed as failure:
                self._ends = 0
                raise Problem(Category.FAULT, f"the model broke while it was running: {failure}") from None
            self._ends = 0
            if child.is_worn:
                _log.warning("model_process_worn", model=self._name)
                self._child = self._starter.replace(child)
            return numbers

    def _ready(self) -> ChildProcess:
        if self._child is None:
            if self._monotonic() < self._not_before:
                raise TryAgain(f"the process of the model ended {self._ends} times in a row; it is started again later")
            self._child = self._starter.start()
        try:
            return self._child.result()
        except Ended as failure:
            raise self._ended(failure) from None
        except Refused as failure:
            self._child = None
            detail = f"this machine cannot isolate the code of a model: {failure}"
            raise Problem(Category.UNSUPPORTED, detail) from None
        except CodeFailed as failure:
            self._ended(Ended(str(failure)))
            detail = f"the code of the model cannot be loaded: {failure}"
            raise Problem(Category.INCORRECT, detail, diagnostics=failure.said) from None
        except Problem:  # of its files
            self._child = None
            raise

    def _ended(self, failure: Ended) -> Problem:
        """Have another process, at once or later, and return what the batch fails with."""
        if self._starter.closed:
            return _stopping()
        self._ends += 1
        _log.error("model_process_ended", model=self._name, why=str(failure), in_a_row=self._ends)
        self._starter.end()
        if self._ends < ENDS_IN_A_ROW:
            self._child = self._starter.start()
        else:
            self._child = None
            pause = min(2.0 ** (self._ends - ENDS_IN_A_ROW), LONGEST_PAUSE_S)
            self._not_before = self._monotonic() + pause
        return TryAgain(str(failure))


def _stopping() -> Problem:
    return Problem(Category.INTERRUPTED, "the server is stopping")


class _Starter:
    """Starts processes on one thread of its own, which lives as long as they may: the kernel ends them with it.

    Parameters
    ----------
    files, limits
        As for :class:`Keeper`.
    """

    def __init__(self, files: Callable[[], Mapping[str, bytes]], limits: ProcessLimits) -> None:
        self._files = files
        self._limits = limits
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model-process")
        self._guard = threading.Lock()
        self._running: ChildProcess | None = None
        self.closed = False

    def start(self) -> "Future[ChildProcess]":
        """Start a process and have the code loaded."""
        return self._thread.submit(self._start)

    def replace(self, child: ChildProcess) -> "Future[ChildProcess]":
        """End a process and start another."""

        def work() -> ChildProcess:
            child.end()
            return self._start()

        return self._thread.submit(work)

    def end(self) -> None:
        """End the process that runs."""
        with self._guard:
            child, self._running = self._running, None
        if child is not None:
            child.end()

    def stop(self) -> None:
        """Kill the process, and let no other start; what waits for its answer does so no longer."""
        with self._guard:
            self.closed = True
            child = self._running
        if child is not None:
            child.kill()

    def close(self) -> None:
        """End the process, and start no other; nobody may wait for its answer."""
        self.stop()
        try:
            self._thread.submit(self.end)
        except RuntimeError:  # the interpreter is ending, and has ended the thread
            self.end()
        self._thread.shutdown(wait=False)

    def _start(self) -> ChildProcess:
        child = ChildProcess(self._limits)
        with self._guard:
            closed = self.closed
            self._running = child
        if closed:
            child.kill()
        try:
            child.load(self._files())
        except BaseException:
            self.end()
            raise
        return child
