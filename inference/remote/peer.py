"""Requests to a server of models: one limit on the whole exchange, one on the length of the answer, no redirects.

The server may be slow, broken or hostile. None of its words are repeated: they may hold what it was sent.
"""

import asyncio
import ssl
from functools import cache
from typing import Any, Final

import httpx
import orjson

from kernel.errors import Category, Problem

LARGEST_ANSWER: Final = 4 * 2**20
"""Bytes of an answer."""
_CONNECT_S: Final = 5.0
_BUSY: Final = frozenset({429, 503})
_UNCONNECTED: Final = (httpx.ConnectError, httpx.ConnectTimeout)


class RequestRefused(Problem):
    """The server refused a request, and may accept fewer items."""


class Peer:
    """A server of models.

    Parameters
    ----------
    url
        Its base URL.
    token
        Bearer token; empty for none.
    """

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url.rstrip("/")
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "Ausculta",
            **authorization,
        }

    def get(self, path: str, seconds: float) -> Any:
        """Ask, and return the JSON of the answer.

        Parameters
        ----------
        path
            Below the base URL.
        seconds
            Longest time of the whole exchange.

        Raises
        ------
        TimeoutError
            When there is no whole answer in time.
        Problem
            As :meth:`post`.
        """
        return self._ask("GET", path, None, seconds)

    def post(self, path: str, content: Any, seconds: float) -> Any:
        """Send JSON, and return the JSON of the answer.

        Parameters
        ----------
        path
            Below the base URL.
        content
            What is sent.
        seconds
            Longest time of the whole exchange.

        Raises
        ------
        TimeoutError
            When there is no whole answer in time.
        Problem
            ``busy`` when the server says so; ``unavailable`` when it cannot be reached; :class:`RequestRefused` when it
            refuses the request; ``not-found`` when it knows no such model; ``fault`` for every other answer than JSON
            with status 200.
        """
        return self._ask("POST", path, orjson.dumps(content), seconds)

    def _ask(self, method: str, path: str, body: bytes | None, seconds: float) -> Any:
        try:
            answer = asyncio.run(self._exchange(method, f"{self.url}{path}", body, max(0.0, seconds)))
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout):
            raise TimeoutError from None
        except _UNCONNECTED as failure:
            if _is_of_tls(failure):
                raise _problem(Category.FAULT, "has a certificate that is not trusted here", failure) from failure
            raise _problem(Category.UNAVAILABLE, "cannot be reached", failure) from failure
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as failure:
            raise _problem(Category.FAULT, "ended the connection before its answer", failure) from failure
        try:
            return orjson.loads(answer)
        except orjson.JSONDecodeError:
            raise _problem(Category.FAULT, "gave an answer that is not JSON") from None  # it would hold the answer

    async def _exchange(self, method: str, url: str, body: bytes | None, seconds: float) -> bytes:
        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        timeout = httpx.Timeout(seconds, connect=min(_CONNECT_S, seconds))
        async with (
            asyncio.timeout(seconds),
            httpx.AsyncClient(verify=_tls(), trust_env=False, timeout=timeout, follow_redirects=False) as client,
            client.stream(method, url, content=body, headers=headers) as response,
        ):
            _require_success(response.status_code)
            return await _bounded(response)


def _require_success(status: int) -> None:
    if status == httpx.codes.OK:
        return
    if status in _BUSY:
        raise _problem(Category.BUSY, "is busy")
    if 300 <= status < 400:
        raise _problem(Category.FAULT, "answered with a redirect, which is not followed")
    if status in {401, 403}:
        raise _problem(Category.FAULT, f"refused this server ({status}): see the setting REMOTE_MODEL_TOKENS")
    if status == httpx.codes.NOT_FOUND:
        raise _problem(Category.NOT_FOUND, "is not known to its server (404)")
    if 400 <= status < 500:
        raise RequestRefused(Category.FAULT, f"the remote model refused the request ({status})")
    raise _problem(Category.FAULT, f"failed ({status})")


async def _bounded(response: httpx.Response) -> bytes:
    """Return the body, as it was sent, up to the largest that is read."""
    found = bytearray()
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _problem(Category.FAULT, "gave an answer that is compressed")
    async for part in response.aiter_raw():
        found += part
        if len(found) > LARGEST_ANSWER:
            raise _problem(Category.FAULT, f"gave an answer of more than {LARGEST_ANSWER} bytes")
    return bytes(found)


def _is_of_tls(failure: BaseException | None) -> bool:
    while failure is not None and not isinstance(failure, ssl.SSLError):
        failure = failure.__cause__ or failure.__context__
    return failure is not None


@cache
def _tls() -> ssl.SSLContext:
    """Return what certificates are checked with: what the operating system trusts, so that a site can add its own."""
    return ssl.create_default_context()


def _problem(category: Category, detail: str, failure: BaseException | None = None) -> Problem:
    """Return a problem without a word of the server; of a failure only its type is kept."""
    diagnostics = "" if failure is None else type(failure).__name__
    return Problem(category, f"the remote model {detail}", diagnostics=diagnostics)
