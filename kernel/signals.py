"""Waking waiting threads without polling: a condition variable in each process, and what carries it to the others.

Processes that share a SQLite file have a socket each; those that share a PostgreSQL database have LISTEN/NOTIFY.

A waiter reads the generation of a channel, queries the database, and then waits for the generation to change. A signal
that is sent between the query and the wait has changed it already, so no wake-up is lost.
"""

import os
import socket
import threading
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import URL

from kernel.log import get_logger

_log = get_logger(__name__)


class _Channel:
    """How often it was signalled, and who waits for the next signal."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.generation = 0


class Signals:
    """Channels within one process."""

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}
        self._closed = False

    def send(self, channels: Iterable[str]) -> None:
        """Increment the generation of each channel and wake its waiters."""
        for name in channels:
            channel = self._channel(name)
            with channel.changed:
                channel.generation += 1
                channel.changed.notify_all()

    def generation(self, channel: str) -> int:
        """Return how often ``channel`` has been signalled."""
        return self._channel(channel).generation

    def wait(self, channel: str, since: int, timeout: float) -> None:
        """Wait until ``channel`` is signalled, :meth:`close` is called, or the time is over.

        Parameters
        ----------
        channel
            The channel's name.
        since
            The generation that the caller has seen; a newer one ends the wait at once.
        timeout
            Longest wait, in seconds.
        """
        waited = self._channel(channel)
        with waited.changed:
            waited.changed.wait_for(lambda: self._closed or waited.generation != since, timeout)

    def close(self) -> None:
        """Wake all waiters and end every later wait at once."""
        self._closed = True
        self.send(list(self._channels))

    def _channel(self, name: str) -> _Channel:
        found = self._channels.get(name)
        return self._channels.setdefault(name, _Channel()) if found is None else found


class LocalSignals(Signals):
    """Channels that the processes of this machine share.

    A process that waits has a datagram socket in a folder; a datagram wakes its waiters of every channel, and says
    nothing else. A process that never waits has none.

    Parameters
    ----------
    folder
        The folder of the sockets; made when it is not there.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._address = _Folder(folder)
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.settimeout(0)
        self._name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._receiver: socket.socket | None = None
        self._opening = threading.Lock()

    def send(self, channels: Iterable[str]) -> None:
        """Increment the generation of each channel and wake its waiters, in each process."""
        channels = tuple(channels)
        super().send(channels)
        if channels:
            for name in os.listdir(self._folder):  # noqa: PTH208 - names are enough, and paths cost
                if name != self._name:
                    self._wake(name)

    def generation(self, channel: str) -> int:
        """Return how often ``channel`` has been signalled since this process first asked."""
        if self._receiver is None:
            self._open()
        return super().generation(channel)

    def close(self) -> None:
        """Wake the waiters of this process and end every later wait at once."""
        self._closed = True
        super().send(list(self._channels))
        with self._opening:
            if self._receiver is not None:
                with suppress(OSError):
                    self._receiver.shutdown(socket.SHUT_RDWR)
                (self._folder / self._name).unlink(missing_ok=True)
        self._sender.close()
        self._address.close()

    def _wake(self, name: str) -> None:
        try:
            self._sender.sendto(b"", self._address.of(name))
        except BlockingIOError:
            pass  # it has not yet read what woke it before
        except ConnectionRefusedError:  # its process died; a new one has another name
            (self._folder / name).unlink(missing_ok=True)
        except OSError as failure:
            _log.warning("process_not_woken", failure=failure)

    def _open(self) -> None:
        with self._opening:
            if self._receiver is not None or self._closed:
                return
            receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            receiver.bind(self._address.of(self._name))
            threading.Thread(target=self._listen, args=(receiver,), name="database-listener", daemon=True).start()
            self._receiver = receiver

    def _listen(self, receiver: socket.socket) -> None:
        with receiver:
            while not self._closed:
                receiver.recv(1)
                super().send(list(self._channels))


class _Folder:
    """Addresses of the sockets in a folder, whose path may be longer than an address."""

    LONGEST: Final = 70
    """Bytes; an address holds 104 (macOS) or 108, with the name of the socket."""

    def __init__(self, folder: Path) -> None:
        self._path = str(folder)
        self._opened: int | None = None
        if len(os.fsencode(folder)) > self.LONGEST:
            self._opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._path = f"/proc/self/fd/{self._opened}"

    def of(self, name: str) -> str:
        """Return the address of the socket with a name."""
        return f"{self._path}/{name}"

    def close(self) -> None:
        """Close the folder."""
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None


class PostgresSignals(Signals):
    """Channels that all processes on the same PostgreSQL database share."""

    def __init__(self, url: URL) -> None:
        super().__init__()
        self._dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._listener = threading.Thread(target=self._listen, name="database-listener", daemon=True)
        self._connection: Any = None
        self._listener.start()

    def close(self) -> None:
        """Stop listening, wake all waiters and end every later wait at once."""
        super().close()
        self._listener.join(timeout=5)

    def _listen(self) -> None:
        import psycopg  # noqa: PLC0415 - an optional driver

        while not self._closed:
            with suppress(psycopg.Error), psycopg.connect(self._dsn, autocommit=True) as connection:
                connection.execute("LISTEN ausculta")
                while not self._closed:
                    for notice in connection.notifies(timeout=0.5, stop_after=1):
                        self.send([notice.payload])
            if not self._closed:
                _log.warning("listener_reconnects")
                self.wait("reconnect", self.generation("reconnect"), 1.0)
