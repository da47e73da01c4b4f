"""A real HTTP server of models for tests: it speaks the Open Inference Protocol, and misbehaves on demand."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Received:
    """A request as it arrived."""

    path: str
    headers: Mapping[str, str]
    content: Any


def tensor(name: str, shape: list[int], data: Any, datatype: str = "FP64") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def declared(name: str, *shape: int, datatype: str = "FP64") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1, *shape]}


def weighed(content: Any) -> dict[str, Any]:
    """Answer as a model does that weighs the pulse and the pressure 0.05 each, less 9.5."""
    given = {one["name"]: one["data"] for one in content["inputs"]}
    logits = [(0.0 if a is None else 0.05 * a) + 0.05 * b - 9.5 for a, b in zip(*given.values(), strict=True)]
    return {"model_name": "risk", "model_version": "3", "outputs": [tensor("risk", [len(logits)], logits)]}


@dataclass
class ModelServer:
    """One model on a free port of loopback, until closed."""

    inputs: list[dict[str, Any]] = field(default_factory=lambda: [declared("pulse"), declared("systolic")])
    outputs: list[dict[str, Any]] = field(default_factory=lambda: [declared("risk")])
    versions: list[str] = field(default_factory=lambda: ["3"])
    #: The content of a request -> the answer.
    answer: Callable[[Any], Any] = weighed
    #: Writes the whole answer to a request of inference itself, in place of ``answer``.
    misbehave: Callable[[BaseHTTPRequestHandler], None] | None = None
    received: list[Received] = field(default_factory=list)

    def __post_init__(self) -> None:
        #: Ends whatever waits.
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def answered(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    """Write an answer."""
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - of the library
            return

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                return  # the client has gone

        def do_GET(self) -> None:
            server.received.append(Received(self.path, dict(self.headers), None))
            if not self.path.startswith("/v2/models/risk"):
                answered(self, 404, b"{}")
                return
            content = {
                "name": "risk",
                "versions": server.versions,
                "platform": "test",
                "inputs": server.inputs,
                "outputs": server.outputs,
            }
            answered(self, 200, json.dumps(content).encode())

        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.received.append(Received(self.path, dict(self.headers), content))
            if server.misbehave is not None:
                server.misbehave(self)
            else:
                answered(self, 200, json.dumps(server.answer(content)).encode())

    return Handler
