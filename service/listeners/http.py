"""The HTTP listener: where it listens, what it allows, and running it beside everything else."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from kernel.errors import Category, Problem
from service.listeners.header_limits import HeaderLimitProtocol

IDLE_S = 30
"""Seconds after which an idle HTTP connection is hung up."""

MOST_CONNECTIONS = 1000
"""HTTP connections at a time; more are answered 503."""


def listening_socket(host: str, port: int) -> socket.socket:
    """Bind the HTTP listener before anything is announced; port 0 takes a free one.

    Raises
    ------
    Problem
        ``unavailable`` when the port is taken.
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
    """uvicorn, which leaves signals to the program that it is a part of."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none: ``service.serving`` decides what a signal means."""
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
        """Where it listens."""
        host, port = self._bound.getsockname()[:2]
        return f"http://{host}:{port}"

    def open(self) -> None:
        """Serve from now on."""
        self._bound.listen(512)
        self._thread.start()

    def close(self) -> None:
        """Answer what is in hand and stop."""
        self._server.should_exit = True
        self._thread.join(timeout=30)
        self._bound.close()
