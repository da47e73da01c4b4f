"""A subscriber on loopback: keeps what it is sent, and answers as a test says."""

import json
import socket
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"


@dataclass(frozen=True, kw_only=True)
class Received:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        """``type`` of a notification."""
        return named(self.status, "type")["valueCode"]

    @property
    def status(self) -> dict[str, Any]:
        return self.json["entry"][0]["resource"]

    @property
    def numbers(self) -> list[int]:
        return [
            int(named(part, "event-number", "part")["valueString"])
            for part in self.status["parameter"]
            if part["name"] == "notification-event"
        ]


def named(resource: dict[str, Any], name: str, where: str = "parameter") -> dict[str, Any]:
    return next(part for part in resource[where] if part["name"] == name)


class Subscriber:
    """An HTTP server that answers ``status`` with ``headers`` and ``answer``."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.answer = b""
        subscriber = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                subscriber.received.append(
                    Received(method=self.command, path=self.path, headers=dict(self.headers.items()), body=body)
                )
                self.send_response(subscriber.status)
                for name, value in subscriber.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(subscriber.answer)))
                self.end_headers()
                try:
                    self.wfile.write(subscriber.answer)
                except OSError:
                    subscriber.cut_off.set()

            do_POST = do_PUT = do_GET = handle_one

            def log_message(self, *_: Any) -> None:
                pass

        self.cut_off = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def take(self) -> list[Received]:
        """Return what came since the last time."""
        taken, self.received = self.received, []
        return taken

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Dripping:
    """A server that sends one byte of an endless header at a time, or closes without an answer."""

    def __init__(self, *, closes: bool = False) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/hook"
        self.requests = 0
        self._stopped = threading.Event()
        self._closes = closes
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.requests += 1
            threading.Thread(target=self._drip, args=(connection,), daemon=True).start()

    def _drip(self, connection: socket.socket) -> None:
        with connection:
            if self._closes:
                return
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not self._stopped.wait(0.05):
                    connection.sendall(b"x")
            except OSError:
                return

    def close(self) -> None:
        self._stopped.set()
        self._socket.close()


def rest_hook(url: str, criteria: str, **channel: Any) -> dict[str, Any]:
    """Return a Subscription of R4 itself."""
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": criteria,
        "channel": {"type": "rest-hook", "endpoint": url, "payload": "application/fhir+json", **channel},
    }


def on_topic(url: str, topic: str, content: str = "id-only", *filters: str, **extensions: int) -> dict[str, Any]:
    """Return a Subscription of the R5 backport."""
    asked = rest_hook(url, topic)
    asked["channel"]["_payload"] = {"extension": [{"url": f"{BACKPORT}backport-payload-content", "valueCode": content}]}
    if filters:
        asked["_criteria"] = {
            "extension": [{"url": f"{BACKPORT}backport-filter-criteria", "valueString": it} for it in filters]
        }
    if extensions:
        asked["channel"]["extension"] = [
            {
                "url": f"{BACKPORT}backport-{name.replace('_', '-')}",
                "valuePositiveInt" if name == "max_count" else "valueUnsignedInt": value,
            }
            for name, value in extensions.items()
        ]
    return asked
