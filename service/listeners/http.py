"""The HTTP listener: its socket, its limits, and running it in a thread."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from kernel.errors import Category, Problem
from service.listeners.header_limits import HeaderLimitProtocol

IDLE_S = 30
"""Seconds after which an idle HTTP connection is closed."""

MOST_CONNECTIONS = 1000
"""Largest number of HTTP connections at the same time; requests on further ones are answered 503."""


def listening_socket(host: str, port: int) -> socket.socket:
    """Bind the socket of the HTTP listener.

    Parameters
    ----------
    host
        IPv4 or IPv6 address, or a host name.
    port
        Port to bind; 0 takes a free one.

    Raises
    ------
    Problem
        ``unavailable`` when the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as failure:
        bound.close()
        detail = f"HTTP_PORT {port} cannot be listened on: {failure.strerror}"
        raise Problem(Category.UNAVAILABLE, detail) from failure
    return bound


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals: ``service.serving`` handles them."""
        yield


def http_server(app: FastAPI) -> HttpServer:
    """Return the HTTP server, not yet running."""
    config = uvicorn.Config(
        app,
        http=HeaderLimitProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_keep_alive=IDLE_S,
        limit_concurrency=MOST_CONNECTIONS,
        backlog=512,
        timeout_graceful_shutdown=20,
        lifespan="off",
    )
    return HttpServer(config)


class HttpListener:
    """The HTTP listener on a thread of its own, for the demonstration and for tests."""

    def __init__(self, app: FastAPI, bound: socket.socket) -> None:
        self._bound = bound
        self._server = http_server(app)
        self._thread = threading.Thread(target=self._server.run, args=([bound],), name="http-listener", daemon=True)

    @property
    def url(self) -> str:
        """Base URL of the listener."""
        host, port = self._bound.getsockname()[:2]
        return f"http://{host}:{port}"

    def open(self) -> None:
        """Start serving."""
        self._bound.listen(512)
        self._thread.start()

    def close(self) -> None:
        """Complete the running requests and stop."""
        self._server.should_exit = True
        self._thread.join(timeout=30)
        self._bound.close()
