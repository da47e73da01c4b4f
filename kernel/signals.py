"""Waking waiting threads without polling: a condition variable, and LISTEN/NOTIFY on PostgreSQL.

A waiter reads the generation of a channel, queries the database, and then waits for the generation to change. A signal
that is sent between the query and the wait has changed it already, so no wake-up is lost.
"""

import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

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
