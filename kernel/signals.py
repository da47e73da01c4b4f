"""Waking those who wait, without polling: a condition variable, joined by LISTEN/NOTIFY on PostgreSQL.

A waiter notes the generation of a channel, looks at the database, and then waits for the generation to move on. A
signal sent between the look and the wait has moved it already, so no wake-up is lost.
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
        """Move the generation of each channel on and wake its waiters."""
        with self._changed:
            self._generations.update(channels)
            self._changed.notify_all()

    def generation(self, channel: str) -> int:
        """Return how often ``channel`` was signalled so far."""
        with self._changed:
            return self._generations[channel]

    def wait(self, channel: str, since: int, timeout: float) -> None:
        """Return when ``channel`` has moved past ``since``, on :meth:`close`, or after ``timeout`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._generations[channel] != since, timeout)

    def close(self) -> None:
        """Wake everybody for good."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class PostgresSignals(Signals):
    """Channels that every process on the same PostgreSQL database shares."""

    def __init__(self, url: URL) -> None:
        super().__init__()
        self._dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._listener = threading.Thread(target=self._listen, name="database-listener", daemon=True)
        self._connection: Any = None
        self._listener.start()

    def close(self) -> None:
        """Stop listening and wake everybody for good."""
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
