"""Reads the body of a request within its limits of type, size and time, and decodes it where it is compressed."""

import zlib
from collections.abc import Mapping
from typing import Final

from starlette.concurrency import run_in_threadpool

from fhir_adapter.rest.exchange import HttpRequest
from fhir_adapter.rest.headers import check_content_type
from fhir_adapter.rest.outcome import HttpProblem
from fhir_adapter.rest.routes import Route
from kernel.errors import Category

CLOSE: Final[Mapping[str, str]] = {"Connection": "close"}
"""Of an answer that is given before the body was read."""
_LARGE: Final = 16 * 1024
"""A compressed body of more bytes is decoded in a thread."""
_GZIP: Final = 16 + zlib.MAX_WBITS


async def read_body(request: HttpRequest, route: Route, limit: int, seconds: float) -> bytes:
    """Return the decoded body of a request.

    Parameters
    ----------
    request
        The request.
    route
        What it asks for.
    limit
        Most bytes, as they arrive and decoded.
    seconds
        Longest time for the body to arrive.

    Raises
    ------
    HttpProblem
        415 for another media type or encoding, 413 for too many bytes, 408 when they take too long, 400 for bytes that
        are not gzip.
    """
    check_content_type(request.headers.get("content-type", ""), route.media_types)
    is_compressed = _is_gzip(request.headers.get("content-encoding", ""))
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:12]) > limit:
        raise _too_large(limit)
    try:
        body = await request.body(limit, seconds)
    except TimeoutError as failure:
        raise HttpProblem(408, Category.INTERRUPTED, "the body took too long to arrive", headers=CLOSE) from failure
    if body is None:
        raise _too_large(limit)
    if not is_compressed:
        return body
    return decoded(body, limit) if len(body) <= _LARGE else await run_in_threadpool(decoded, body, limit)


def decoded(body: bytes, limit: int) -> bytes:
    """Decode gzip (RFC 1952); no more than the limit is ever decoded.

    Parameters
    ----------
    body
        One or several members.
    limit
        Most bytes of the result.

    Raises
    ------
    HttpProblem
        413 for a result with more bytes, 400 for what is not gzip or not complete.
    """
    parts: list[bytes] = []
    left = limit
    members = 0
    try:
        while body or not members:
            members += 1
            member = zlib.decompressobj(_GZIP)
            part = member.decompress(body, left + 1)
            left -= len(part)
            if left < 0:
                raise _too_large(limit)
            if not member.eof or members > _MOST_MEMBERS:
                raise _not_gzip()
            parts.append(part)
            body = member.unused_data
    except zlib.error as failure:
        raise _not_gzip() from failure
    return b"".join(parts)


_MOST_MEMBERS: Final = 100
"""The rest of the body is copied for each member."""


def _is_gzip(encoding: str) -> bool:
    """Return whether the body is compressed; raises 415 for another encoding than gzip."""
    named = encoding.strip().lower()
    if named in {"", "identity"}:
        return False
    if named in {"gzip", "x-gzip"}:
        return True
    raise HttpProblem(
        415, Category.UNSUPPORTED, "a body may be encoded with gzip alone", headers={"Accept-Encoding": "gzip", **CLOSE}
    )


def _not_gzip() -> HttpProblem:
    return HttpProblem(400, Category.INCORRECT, "the body is not complete gzip")


def _too_large(limit: int) -> HttpProblem:
    return HttpProblem(413, Category.INCORRECT, f"the body is larger than {limit} bytes", headers=CLOSE)
