"""Work for many things at the same time: all of it is done, and its threads let a process end."""

import subprocess
import sys
import threading

import pytest

from kernel.parallel import for_each

SILENT = """
import threading
from kernel.parallel import for_each

begun = threading.Barrier(5)

def never_answered(_item):
    begun.wait()
    threading.Event().wait()

send = lambda: for_each(range(4), never_answered, threads=4, name="send")
threading.Thread(target=send, daemon=True).start()
begun.wait()
"""


def test_all_items_are_done_so_many_at_a_time() -> None:
    together = threading.Barrier(4)
    done: list[int] = []

    def work(item: int) -> None:
        together.wait(10)
        done.append(item)

    for_each(range(12), work, threads=4, name="send")
    assert sorted(done) == list(range(12))


def test_one_thread_is_the_callers_and_keeps_the_order() -> None:
    done: list[tuple[int, int]] = []
    for_each(range(3), lambda item: done.append((item, threading.get_ident())), threads=1, name="send")
    assert done == [(item, threading.get_ident()) for item in range(3)]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_failure_is_raised_and_nothing_new_is_begun(threads: int) -> None:
    begun: list[int] = []
    failed = threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            failed.set()
            raise RuntimeError("away")
        failed.wait(10)

    with pytest.raises(RuntimeError, match="away"):
        for_each(range(100), work, threads=threads, name="send")
    assert len(begun) < 100


def test_a_process_ends_while_its_peers_stay_silent() -> None:
    ended = subprocess.run([sys.executable, "-c", SILENT], timeout=30, check=False)
    assert ended.returncode == 0
