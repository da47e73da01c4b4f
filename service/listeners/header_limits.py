"""Limits on the headers of HTTP requests.

uvicorn limits how long a connection may be idle between requests, but neither the time that a request's headers take
nor their size. Here a connection that has not sent the headers of its next request in time is closed, and one that
sends too many is answered 431. Bodies have their own limits in the FHIR endpoint.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.listeners.joined_writes import join_writes

HEADERS_S: Final = 10.0
"""Longest time from the opening of a connection, or the first byte of a request, to the end of its headers."""


MOST_HEADERS: Final = 64 * 1024
"""Largest size of one request's headers, in bytes."""

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class HeaderLimitProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with limits on the duration and the size of headers."""

    #: When the headers must have ended; None while none are awaited.
    _until: float | None = None
    #: One timer for all requests of the connection: it is set again only when it has run.
    _timer: asyncio.TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._until = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; answer 431 when the headers are too large."""
        waited = self._until is not None
        super().data_received(data)
        if waited and self._until is not None:  # all of the bytes were headers, and the headers have not ended
            self._header_bytes += len(data)
            if self._header_bytes > MOST_HEADERS:
                self.transport.write(_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        """Start the timer for a request's headers."""
        self._start_timer()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the timer: the headers are complete."""
        self._until = None
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        join_writes(cycle)
        super()._start_asgi_task(cycle, app)

    def _start_timer(self) -> None:
        self._header_bytes = 0
        self._until = self.loop.time() + HEADERS_S
        if self._timer is None:
            self._timer = self.loop.call_later(HEADERS_S, self._look)

    def _look(self) -> None:
        """Close the connection when the headers have taken too long."""
        self._timer = None
        if self._until is None:
            return
        left = self._until - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left, self._look)
        else:
            self.transport.close()
