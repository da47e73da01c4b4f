"""The outcome of a unit of work that one thread waits for.

A ``concurrent.futures.Future`` makes a condition with two locks for each of them, and whoever completes it wakes the
waiting thread while it still holds one of the two. Here it is one lock, released once.
"""

import threading
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Outcome(Generic[T]):
    """Set once by one thread, awaited once by another."""

    __slots__ = ("_is_set", "_raised", "_result")

    def __init__(self) -> None:
        self._result: Any = None
        self._raised: BaseException | None = None
        self._is_set = threading.Lock()
        self._is_set.acquire()

    def set_result(self, result: T) -> None:
        """Let :meth:`wait` return ``result``."""
        self._result = result
        self._is_set.release()

    def set_exception(self, raised: BaseException) -> None:
        """Let :meth:`wait` raise ``raised``."""
        self._raised = raised
        self._is_set.release()

    def wait(self) -> T:
        """Wait until it is set, and return the result; raises what :meth:`set_exception` was given."""
        self._is_set.acquire()
        try:
            if self._raised is not None:
                raise self._raised
            result: T = self._result
        finally:
            self._raised = None  # else the exception, its frames and this object keep each other
        return result
