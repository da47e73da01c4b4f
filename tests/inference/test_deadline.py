"""Threads for the functions of a model: used again, limited in number, and never two functions on one."""

import threading

import pytest

from inference import deadline
from inference.deadline import Overdue, Threads


def threads(most: int) -> Threads:
    return Threads(most, monotonic=lambda: 0.0)


def test_functions_one_after_the_other_share_a_thread() -> None:
    pool = threads(2)
    assert len({pool.run(threading.get_ident, 60.0) for _ in range(10)}) == 1
    assert pool.run(threading.get_ident, 60.0) != threading.get_ident()


def test_a_function_that_is_overdue_keeps_its_thread_and_its_place() -> None:
    pool, go_on, ended = threads(2), threading.Event(), threading.Event()

    def hang() -> None:
        go_on.wait(60)
        ended.set()

    with pytest.raises(Overdue):
        pool.run(hang, 0.0)
    first = pool.run(threading.get_ident, 60.0)
    assert pool.run(threading.get_ident, 60.0) == first
    with pytest.raises(Overdue):
        pool.run(hang, 0.0)
    with pytest.raises(Overdue):  # both places are taken
        pool.run(threading.get_ident, 0.0)
    go_on.set()
    assert ended.wait(60)


def test_one_function_more_than_there_are_places_waits_for_one() -> None:
    pool, started, go_on = threads(1), threading.Event(), threading.Event()

    def first() -> None:
        started.set()
        assert go_on.wait(60)

    callers = [threading.Thread(target=pool.run, args=(first, 60.0))]
    callers[0].start()
    assert started.wait(60)
    found: list[int] = []
    callers.append(threading.Thread(target=lambda: found.append(pool.run(lambda: 2, 60.0))))
    callers[1].start()
    go_on.set()
    for caller in callers:
        caller.join(60)
    assert found == [2]


def test_closing_ends_the_threads_that_wait_and_one_that_runs_after_its_function() -> None:
    pool, started, go_on = threads(2), threading.Event(), threading.Event()
    waits = pool.run(threading.current_thread, 60.0)

    def hang() -> None:
        started.set()
        assert go_on.wait(60)

    with pytest.raises(Overdue):
        pool.run(hang, 0.0)
    assert started.wait(60)
    assert pool.run(threading.current_thread, 60.0) is not waits
    pool.close()
    go_on.set()
    waits.join(60)
    assert not waits.is_alive()


def test_what_a_function_raises_is_raised_and_its_thread_goes_on() -> None:
    pool = threads(1)

    def fail() -> None:
        raise ValueError(str(threading.get_ident()))

    with pytest.raises(ValueError, match=r"\d") as raised:
        pool.run(fail, 60.0)
    assert pool.run(threading.get_ident, 60.0) == int(str(raised.value))


def test_a_thread_without_a_function_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "LONGEST_IDLE_S", 0.01)
    pool = threads(1)
    thread = pool.run(threading.current_thread, 60.0)
    thread.join(60)
    assert not thread.is_alive()
    assert pool.run(threading.current_thread, 60.0) is not thread
