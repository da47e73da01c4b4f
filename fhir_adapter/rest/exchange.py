"""One HTTP request and its answer, read from and written to ASGI directly.

Starlette's ``Request`` and ``Response`` build a URL, query parameters and headers as objects of their own. A FHIR
request needs few of them, and they would cost more than reading a resource does.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from fhir_adapter.rest.outcome import HttpProblem
from kernel.errors import Category

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._~%-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")
_LARGE: Final = 2**20
"""A body above this size is joined in a thread, in bytes."""
_MAY_NAME_FORMAT: Final = re.compile(rb"(?:\A|&)(?:[^=&%]*%|_format)")
"""A query that may hold ``_format``, as it is or with escaped characters in its name."""


class HttpRequest:
    """A request of a FHIR API.

    Parameters
    ----------
    scope, receive
        As ASGI gives them.
    path
        The path below that of the API, without the slash between them.
    """

    __slots__ = ("_receive", "_scope", "headers", "method", "path")

    def __init__(self, scope: Scope, receive: Receive, path: str) -> None:
        self._scope = scope
        self._receive = receive
        self.path = path
        self.method: str = scope["method"]
        #: Header names in lower case; of several headers of one name the first one.
        self.headers: Mapping[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])
        }

    @property
    def query(self) -> str:
        """What follows the question mark."""
        try:
            return str(self._scope["query_string"].decode())
        except UnicodeDecodeError as failure:
            raise HttpProblem(400, Category.INCORRECT, "the address is not UTF-8") from failure

    @property
    def format(self) -> str:
        """The parameter ``_format``, empty when absent."""
        query = self._scope["query_string"]
        if not query or not _MAY_NAME_FORMAT.search(query):
            return ""
        return QueryParams(query).get("_format", "")

    @property
    def pretty(self) -> bool:
        """Whether the parameter ``_pretty`` asks for line breaks."""
        query = self._scope["query_string"]
        return b"_pretty" in query and QueryParams(query).get("_pretty", "") == "true"

    @property
    def base(self) -> str:
        """URL of the API, as the client named it; raises 400 for a ``Host`` that is no address."""
        host = self.headers.get("host", "")
        if not host:
            name, port = self._scope.get("server") or ("localhost", 80)
            host = f"{name}:{port}"
        elif not _HOST.fullmatch(host):
            raise HttpProblem(400, Category.INCORRECT, "the header Host is not an address")
        below = self._scope["path"].removesuffix(self.path).rstrip("/")
        return f"{self._scope.get('scheme', 'http')}://{host}{below}"

    @property
    def client(self) -> str:
        """Address of the client, empty when it is not known."""
        client = self._scope.get("client")
        return str(client[0]) if client else ""

    @property
    def server(self) -> str:
        """Address at which the client reached this server, empty when it is not known."""
        server = self._scope.get("server")
        return str(server[0] or "") if server else ""

    async def body(self, limit: int, seconds: float) -> bytes | None:
        """Return the body; None when it is longer than the limit.

        Parameters
        ----------
        limit
            Most bytes.
        seconds
            Longest time for the whole body to arrive.

        Raises
        ------
        TimeoutError
            When it takes longer.
        starlette.requests.ClientDisconnect
            When the client disconnects before its end.
        """
        parts: list[bytes] = []
        length = 0
        async with asyncio.timeout(seconds):
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                part = message.get("body", b"")
                length += len(part)
                if length > limit:
                    return None
                parts.append(part)
                if not message.get("more_body", False):
                    break
        if length > _LARGE:  # to copy it takes milliseconds
            return await run_in_threadpool(b"".join, parts)
        return parts[0] if len(parts) == 1 else b"".join(parts)


_ALWAYS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""An answer may hold data about a patient: no cache keeps it, and no page of another site reads it."""


@dataclass(frozen=True, kw_only=True)
class HttpAnswer:
    """An answer."""

    status: int
    body: bytes = b""
    #: Media type of the body; none is stated without one.
    media_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The body in parts, instead of ``body``, and its size.
    content: Iterator[bytes] | None = None
    size: int = 0

    async def send(self, send: Send, request_id: str) -> None:
        """Send the answer.

        Parameters
        ----------
        send
            As ASGI gives it.
        request_id
            Goes back as ``X-Request-Id``.
        """
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()]
        if self.status not in {204, 304}:
            headers.append((b"content-length", b"%d" % (len(self.body) if self.content is None else self.size)))
        if self.media_type:
            headers.append((b"content-type", self.media_type.encode("latin-1")))
        headers.append((b"x-request-id", request_id.encode("latin-1")))
        headers += _ALWAYS
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if self.content is None:
            await send({"type": "http.response.body", "body": self.body})
            return
        while part := await run_in_threadpool(next, self.content, b""):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
