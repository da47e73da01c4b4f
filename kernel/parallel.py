"""The same work for many things at the same time, on threads that do not keep a process from ending."""

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def for_each(items: Iterable[T], work: Callable[[T], object], *, threads: int, name: str) -> None:
    """Do ``work`` for each item and return when all are done.

    The threads are daemons: a peer that stays silent for minutes must not hold up a process that stops.

    Parameters
    ----------
    items
        Taken one by one, in their order.
    work
        What is done with each; after it has raised, no further item is begun.
    threads
        How many items at a time; with one, in the calling thread.
    name
        Name of the threads, with a number behind it.

    Raises
    ------
    BaseException
        The first that ``work`` raised.
    """
    waiting = iter(items)
    take = threading.Lock()
    raised: list[BaseException] = []

    def run() -> None:
        while not raised:
            with take:
                try:
                    item = next(waiting)
                except StopIteration:
                    return
            try:
                work(item)
            except BaseException as failure:  # noqa: BLE001 - raised again in the calling thread
                raised.append(failure)

    others = [threading.Thread(target=run, name=f"{name}-{number}", daemon=True) for number in range(1, threads)]
    for thread in others:
        thread.start()
    run()
    for thread in others:
        thread.join()
    if raised:
        raise raised[0]
