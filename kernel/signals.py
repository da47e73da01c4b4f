"""Waking waiting threads without polling: a condition variable, and LISTEN/NOTIFY on PostgreSQL.

A waiter reads the generation of a channel, queries the database, and then waits for the generation to change. A signal
that is sent between the query and the wait has changed it already, so no wake-up is lost.
"""

import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from sqlalchemy.engine import URL

from kernel.log import get_logger

_log = get_logger(__name__)


class Signals:
    """Channels within one process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._generations: Counter[str] = Counter()
        self._closed = False

    def send(self, channels: Iterable[str]) -> None:
        """Increment the generation of each channel and wake its waiters."""
        with self._changed:
            self._generations.update(channels)
            self._changed.notify_all()

    def generation(self, channel: str) -> int:
        """Return how often ``channel`` has been signalled."""
        with self._changed:
            return self._generations[channel]

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
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._generations[channel] != since, timeout)

    def close(self) -> None:
        """Wake all waiters and end every later wait at once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


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
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, 1.0)
