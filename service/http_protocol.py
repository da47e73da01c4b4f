"""HTTP connections that must get to the point.

uvicorn bounds how long a connection may idle between requests, but waits for ever for a request's headers. Here a
connection that has not brought the headers of its next request in time is closed, so that clients who send a byte now
and then hold nothing. Bodies have their own limit in the FHIR endpoint.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS_S: Final = 10.0
"""Seconds from a connection's opening, or a request's first byte, to the end of its headers."""


class PunctualProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with a limit on the time that headers take."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._arrived()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin to wait for a request's headers."""
        self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Wait no longer: the headers are here."""
        self._arrived()
        super().on_headers_complete()

    def _wait(self) -> None:
        self._arrived()
        self._waiting = self.loop.call_later(HEADERS_S, self._give_up)

    def _arrived(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self, *_: Any) -> None:
        self._waiting = None
        self.transport.close()
