"""A supervisor: starts processes, starts again the one that died, and stops them in order.

The supervisor itself has no threads, no connections and no data, so that a fork of it is sound at any time. Each
process gets one end of a pipe that only the supervisor writes to: when the supervisor dies, however it dies, the pipe
ends, and so do its processes. Nothing that was acknowledged is lost by that, and a new supervisor finds ports and locks
free.
"""

import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, Final, TypeAlias

from kernel.errors import Category, Problem
from kernel.log import get_logger, name_process

Ready: TypeAlias = Callable[[Mapping[str, int]], None]
"""Called by a process once it works, with what the supervisor is to announce."""

SHORTEST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
"""Between the death of a process and its next start."""
LONG_LIFE_S: Final = 60.0
"""A process that ran for so long has started well: its next death counts as the first."""
STOP_S: Final = 60.0
"""How long a process may take to stop before it is killed."""
ORPHANED: Final = 70
"""Exit code of a process whose supervisor died."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_FORK: Final = multiprocessing.get_context("fork")
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Role:
    """What one process does.

    Parameters
    ----------
    name
        In the log and in the list of processes.
    run
        Works until SIGTERM, which it handles itself.
    """

    name: str
    run: Callable[[Ready], None]


@dataclass(kw_only=True)
class _Child:
    role: Role
    deaths: int = 0
    started_at: float = 0.0
    start_again_at: float | None = None
    process: ForkProcess | None = None
    #: Says what the process announces, or why it cannot start.
    said: Connection | None = None
    ready: bool = field(default=False)


def pause_before(deaths: int) -> float:
    """Return the pause before the next start after so many deaths in a row, in seconds: 0.5, 1, 2, … at most 30."""
    return min(SHORTEST_PAUSE_S * 2.0 ** (min(deaths, 16) - 1), LONGEST_PAUSE_S)


class Supervisor:
    """Runs groups of processes.

    Parameters
    ----------
    groups
        Started in this order, stopped in the reverse order; the processes of one group at the same time.
    monotonic
        Seconds that never go back.
    """

    def __init__(self, groups: Sequence[Sequence[Role]], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._groups = [[_Child(role=role) for role in group] for group in groups]
        self._monotonic = monotonic
        self._lifeline = os.pipe()
        self._stopping = False

    def run(self, announce: Callable[[Mapping[str, int]], None]) -> None:
        """Run until SIGTERM or SIGINT.

        Parameters
        ----------
        announce
            Called once, when every process works, with what they said; not at all when it is stopped before.

        Raises
        ------
        Problem
            When a process cannot start; the others are stopped before.
        """
        with self._signals() as awakened:
            try:
                said = self._start_all(awakened)
                if not self._stopping:
                    announce(said)
                while not self._stopping:
                    self._look(awakened)
            finally:
                self._stop_all()

    @contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """Let SIGTERM and SIGINT end :meth:`run`; yield what becomes readable when one arrives."""
        reading, writing = socket.socketpair()
        writing.setblocking(False)  # noqa: FBT003 - the standard library's way
        before = {name: signal.signal(name, lambda *_: self.stop()) for name in _SIGNALS}
        previous = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            with reading, writing:
                yield reading
        finally:
            signal.set_wakeup_fd(previous)
            for name, handler in before.items():
                signal.signal(name, handler)

    def stop(self) -> None:
        """End :meth:`run`."""
        self._stopping = True

    def _start_all(self, awakened: socket.socket) -> dict[str, int]:
        said: dict[str, int] = {}
        for group in self._groups:
            for child in group:
                self._start(child)
        while not self._stopping and (starting := [child for child in self._children() if not child.ready]):
            wait([awakened, *(child.said for child in starting if child.said is not None)])
            for child in starting:
                said |= self._heard(child)
        return said

    def _heard(self, child: _Child) -> dict[str, int]:
        """Return what a process that starts has said so far; raises when it cannot start."""
        assert child.said is not None
        if not child.said.poll():
            return {}
        try:
            message = json.loads(child.said.recv_bytes())
        except EOFError:
            detail = f"the process {child.role.name} ended while it started"
            raise Problem(Category.FAULT, detail) from None
        if "problem" in message:
            raise Problem(Category(message["category"]), message["problem"])
        child.ready = True
        announced: dict[str, int] = message["announced"]
        return announced

    def _start(self, child: _Child) -> None:
        child.said, says = _FORK.Pipe(duplex=False)
        child.process = _FORK.Process(target=_run, args=(child.role, says, self._lifeline), name=child.role.name)
        # A process that is to stop before it has its own handler must not answer with that of the supervisor.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        child.process.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        says.close()
        child.started_at, child.start_again_at, child.ready = self._monotonic(), None, False

    def _look(self, awakened: socket.socket) -> None:
        """Wait until a process dies or is due to start again, and see to it."""
        pauses = [child.start_again_at for child in self._children() if child.start_again_at is not None]
        timeout = max(0.0, min(pauses) - self._monotonic()) if pauses else None
        wait([awakened, *(child.process.sentinel for child in self._children() if child.process is not None)], timeout)
        for child in self._children():
            if self._stopping:
                return
            if child.process is not None and not child.process.is_alive():
                self._died(child)
            if child.start_again_at is not None and child.start_again_at <= self._monotonic():
                self._start(child)
                _log.info("process_started", role=child.role.name, pid=child.process.pid if child.process else None)

    def _died(self, child: _Child) -> None:
        assert child.process is not None
        now = self._monotonic()
        lived = now - child.started_at
        child.deaths = 1 if lived > LONG_LIFE_S else child.deaths + 1
        child.start_again_at = now + pause_before(child.deaths)
        _log.error(
            "process_died",
            role=child.role.name,
            pid=child.process.pid,
            exit_code=child.process.exitcode,
            deaths=child.deaths,
        )
        self._forget(child)

    def _stop_all(self) -> None:
        for group in reversed(self._groups):
            running = [child for child in group if child.process is not None]
            for child in running:
                assert child.process is not None
                child.process.terminate()
            until = time.monotonic() + STOP_S
            for child in running:
                assert child.process is not None
                child.process.join(max(0.0, until - time.monotonic()))
                if child.process.is_alive():
                    _log.error("process_killed", role=child.role.name)
                    child.process.kill()
                    child.process.join()
                self._forget(child)
        for end in self._lifeline:
            os.close(end)

    @staticmethod
    def _forget(child: _Child) -> None:
        if child.process is not None:
            child.process.close()
        if child.said is not None:
            child.said.close()
        child.process = child.said = None

    def _children(self) -> Iterable[_Child]:
        return (child for group in self._groups for child in group)


def run_once(name: str, work: Callable[[], None]) -> bool:
    """Do something in a process of its own and wait for its end; return whether it is done, and was not stopped.

    Parameters
    ----------
    name
        Of the process.
    work
        What it does.

    Raises
    ------
    Problem
        As ``work`` raises it; ``fault`` when the process died.
    """

    def run(ready: Ready) -> None:
        work()
        ready({})

    supervisor = Supervisor([[Role(name=name, run=run)]])
    done = False

    def end(_said: Mapping[str, int]) -> None:
        nonlocal done
        done = True
        supervisor.stop()

    supervisor.run(end)
    return done


def _run(role: Role, says: Connection, lifeline: tuple[int, int]) -> None:
    """Be the process of a role."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the supervisor stops them in order
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    name_process(role.name)
    with suppress(OSError):  # a system that has no such file; elsewhere top and ps show the role
        Path("/proc/self/comm").write_text(role.name, encoding="ascii")
    reading, writing = lifeline
    os.close(writing)
    threading.Thread(target=_end_with, args=(reading,), name="supervisor-watch", daemon=True).start()

    def say(message: dict[str, Any]) -> None:
        with suppress(OSError):  # the supervisor stops already
            says.send_bytes(json.dumps(message).encode())

    try:
        role.run(lambda announced: say({"announced": dict(announced)}))
    except Problem as problem:
        say({"problem": problem.detail, "category": str(problem.category)})
        _log.error("process_failed", role=role.name, failure=problem)
        sys.exit(2)
    except Exception as failure:  # noqa: BLE001 - the trace may hold PHI
        _log.error("process_failed", role=role.name, failure=failure)
        sys.exit(1)


def _end_with(lifeline: int) -> None:
    """End this process at once when the supervisor is gone."""
    os.read(lifeline, 1)
    os._exit(ORPHANED)
