"""What one thread waits for and another sets."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from kernel.outcome import Outcome


def test_a_result_that_is_set_before_or_after_the_wait_is_returned() -> None:
    before: Outcome[int] = Outcome()
    before.set_result(1)
    assert before.wait() == 1
    after: Outcome[int] = Outcome()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(after.wait)
        after.set_result(2)
        assert waiting.result(10) == 2


def test_an_exception_is_raised_where_it_is_awaited() -> None:
    outcome: Outcome[int] = Outcome()
    threading.Thread(target=lambda: outcome.set_exception(KeyError("x"))).start()
    with pytest.raises(KeyError):
        outcome.wait()


def test_an_outcome_and_its_exception_do_not_keep_each_other() -> None:
    class Failure(Exception):
        pass

    outcome: Outcome[int] = Outcome()
    failure = Failure()
    kept = weakref.ref(failure)
    outcome.set_exception(failure)
    del failure
    gc.disable()
    try:
        with pytest.raises(Failure):
            outcome.wait()
        del outcome
        assert kept() is None
    finally:
        gc.enable()
