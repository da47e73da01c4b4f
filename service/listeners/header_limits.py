"""HTTP connections that must get to the point.

uvicorn bounds how long a connection may idle between requests, but waits for ever for a request's headers and keeps
however many come. Here a connection that has not brought the headers of its next request in time is closed, and one
that brings too many is answered 431. Bodies have their own limits in the FHIR endpoint.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS_S: Final = 10.0
"""Seconds from a connection's opening, or a request's first byte, to the end of its headers."""


MOST_HEADERS: Final = 64 * 1024
"""Bytes of one request's headers."""

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class HeaderLimitProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with limits on the time that headers take, and on their size."""

    _waiting: asyncio.TimerHandle | None = None
    _brought = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the headers have become too many."""
        waited = self._waiting is not None
        super().data_received(data)
        if waited and self._waiting is not None:  # all of it was headers, and there are more to come
            self._brought += len(data)
            if self._brought > MOST_HEADERS:
                self.transport.write(_TOO_LARGE)
                self.transport.close()

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
        self._brought = 0
        self._waiting = self.loop.call_later(HEADERS_S, self._give_up)

    def _arrived(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self, *_: Any) -> None:
        self._waiting = None
        self.transport.close()
