"""Runs the real server as a separate process that can be killed and started again on the same ports."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import httpx
from sqlalchemy import NullPool, create_engine

PORTS: Final = range(20_000, 32_000)
"""Ports below the range that the kernel assigns to clients, so that no client gets one while the server is down."""

_TRIES: Final = 200


Read: TypeAlias = Callable[[str], Iterable[Any]]
"""A query -> its rows."""


class NotReady(Exception):
    """The server exited, or was not ready in time."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Ports of the three listeners."""

    http: int
    mllp: int
    dicom: int


def free_ports() -> Ports:
    """Return three free ports that the kernel will not assign to a client."""
    chosen: list[int] = []
    for port in random.SystemRandom().sample(PORTS, _TRIES):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        chosen.append(port)
        if len(chosen) == 3:
            return Ports(http=chosen[0], mllp=chosen[1], dicom=chosen[2])
    msg = "no free ports"
    raise OSError(msg)


class ServerProcess:
    """``ausculta serve`` in a folder.

    Parameters
    ----------
    folder
        Folder of its data directory and its log.
    settings
        Settings without their prefix, such as ``{"DICOM_STUDY_QUIET_S": "1"}``.
    environment
        Further environment variables, for a library to preload.
    program
        The command; by default the one that is installed beside this Python.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        program: Path | None = None,
    ) -> None:
        self._program = program or Path(sys.executable).parent / "ausculta"
        self.ports = free_ports()
        self.data = folder / "data"
        self.log = folder / "server.log"
        self.url = f"http://127.0.0.1:{self.ports.http}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUSCULTA_")}
        wanted = {
            "DATA_DIR": str(self.data),
            "HTTP_PORT": str(self.ports.http),
            "MLLP_PORT": str(self.ports.mllp),
            "DICOM_PORT": str(self.ports.dicom),
            "DICOM_STUDY_QUIET_S": "1",
            "LOG_LEVEL": "WARNING",
            **(settings or {}),
        }
        self._environment = inherited | {f"AUSCULTA_{name}": value for name, value in wanted.items()}
        self._preloaded = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and return immediately."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._program), "serve"],
                env=self._environment | self._preloaded,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=self.log.parent,
            )

    def wait_ready(self, timeout_s: float = 60.0) -> float:
        """Wait until the server reports that it is ready; return the seconds that this took.

        Raises
        ------
        NotReady
            The server exited or was not ready in time; the text is the end of its log.
        """
        started = time.monotonic()
        while time.monotonic() < started + timeout_s:
            if self._running().poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/health/ready", timeout=5.0).status_code == 200:
                    return time.monotonic() - started
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise NotReady(self.log.read_text(errors="replace")[-3000:])

    @contextmanager
    def snapshot(self) -> Iterator[Read]:
        """Read the database as it is at one moment."""
        url = self._environment.get("AUSCULTA_DATABASE_URL") or f"sqlite:///{self.data / 'ausculta.db'}"
        is_sqlite = url.startswith("sqlite")
        options = {} if is_sqlite else {"isolation_level": "REPEATABLE READ"}
        engine = create_engine(url, poolclass=NullPool, **options)
        try:
            with engine.connect() as connection:
                if is_sqlite:
                    connection.exec_driver_sql("BEGIN")
                yield connection.exec_driver_sql
                connection.rollback()
        finally:
            engine.dispose()

    def kill_one(self, role: str) -> None:
        """Kill one of its processes (SIGKILL), if there is one with that role."""
        with suppress(ProcessLookupError, FileNotFoundError):
            if (pid := self.processes().get(role)) is not None:
                os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill the first process (SIGKILL); the others end with it."""
        process = self._running()
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self, timeout_s: float = 40.0) -> int:
        """Terminate the process (SIGTERM) and return its exit code."""
        process = self._running()
        if process.poll() is None:
            process.terminate()
        return process.wait(timeout_s)

    def wait(self, timeout_s: float = 40.0) -> int:
        """Wait until the server ends by itself; return its exit code."""
        return self._running().wait(timeout_s)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running().pid

    def processes(self) -> dict[str, int]:
        """Return the processes of the server by their role; it is the name of their first thread."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return {_role(int(pid)): int(pid) for pid in children}

    def memory(self) -> int:
        """Return the bytes of memory of all its processes, shared ones in part (``Pss``)."""
        return sum(_memory(pid) for pid in (self.pid, *self.processes().values()))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another ``ausculta`` command on the same data."""
        return subprocess.run(
            [str(self._program), *arguments], env=self._environment, capture_output=True, text=True, check=False
        )

    def _running(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, "start() first"
        return self._process

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.alive:
            self.kill()


def _role(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    msg = "the kernel does not report the memory"
    raise OSError(msg)


@contextmanager
def serving(module: str, *words: str) -> Iterator[int]:
    """Run ``python -m module … PORT …`` until it answers ``/health/live``, and yield its port.

    Parameters
    ----------
    module
        The module that serves.
    words
        Its arguments; ``{port}`` stands for the port.
    """
    port = free_ports().http
    arguments = [word.format(port=port) for word in words]
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                httpx.get(f"http://127.0.0.1:{port}/health/live")
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()
