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


class _TooLargeError(Exception):
    """The headers of a request are too large."""


class HeaderLimitProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with limits on the duration and the size of headers."""

    #: When the headers must have ended; None while none are awaited.
    _until: float | None = None
    #: One timer for all requests of the connection: it is set again only when it has run.
    _timer: asyncio.TimerHandle | None = None
    #: Bytes of the address and the headers that are complete.
    _header_bytes = 0
    #: Bytes that arrived while the headers were not complete.
    _unparsed = 0
    #: Nothing more is read: the request was refused, or will be when the answers before it are written.
    _refused = False

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
        if self._refused:
            return
        waited = self._until is not None
        super().data_received(data)
        if waited and self._until is not None:  # all of the bytes were headers, and the headers have not ended
            self._unparsed += len(data)
            if self._unparsed > MOST_HEADERS:
                self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        """Refuse what was received, after the answers to the requests before it.

        An answer is known by its place: a client takes the first one for that to its first request. While an answer is
        owed, the connection therefore ends with it, and the request that is refused gets none.
        """
        if self._refused:
            return
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            self.flow.pause_reading()
        elif max(self._header_bytes, self._unparsed) > MOST_HEADERS:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        else:
            super().send_400_response(msg)

    def on_url(self, url: bytes) -> None:
        """Count the bytes of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count the bytes of a header, with its colon, space and line end.

        Parameters
        ----------
        name, value
            As they were sent.
        """
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_message_begin(self) -> None:
        """Start the timer for a request's headers."""
        self._start_timer()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the timer: the headers are complete."""
        self._until = None
        super().on_headers_complete()

    def _count(self, number: int) -> None:
        self._header_bytes += number
        if self._header_bytes > MOST_HEADERS:
            raise _TooLargeError  # httptools ends with it, and send_400_response answers

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        join_writes(cycle)
        super()._start_asgi_task(cycle, app)

    def _start_timer(self) -> None:
        self._header_bytes = self._unparsed = 0
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
