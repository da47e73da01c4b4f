"""Sends one request to a subscriber, and says what became of it.

The subscriber may be slow, broken or hostile: there is one limit on the whole exchange, however slowly the bytes come;
a redirect is an answer like any other and is not followed; of the answer only status and headers are read.
"""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import httpx

from fhir_adapter.subscriptions.notifications import FHIR_JSON, Outgoing

_CONNECT_S: Final = 5.0
GONE: Final = 410


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a subscriber answered."""

    #: Empty when it accepted the request; otherwise what went wrong, without a word of the answer.
    problem: str = ""
    #: ``Retry-After``, as it was written.
    retry_after: str = ""
    #: Whether it wants nothing more.
    is_gone: bool = False


def send(outgoing: Outgoing, headers: Sequence[tuple[str, str]], timeout_s: float) -> Answer:
    """Send a request.

    Parameters
    ----------
    outgoing
        The request.
    headers
        Further headers that the Subscription names.
    timeout_s
        Longest time of the whole exchange, in seconds.
    """
    try:
        return asyncio.run(_exchange(outgoing, headers, timeout_s))
    except TimeoutError:
        return Answer(problem=f"no answer within {timeout_s:.0f} seconds")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as failure:
        return Answer(problem=f"no answer ({type(failure).__name__})")


@cache
def _tls() -> ssl.SSLContext:
    """Return what certificates are checked with; to read it takes longer than a request."""
    return httpx.create_ssl_context(trust_env=False)


async def _exchange(outgoing: Outgoing, headers: Sequence[tuple[str, str]], timeout_s: float) -> Answer:
    ours = [("Accept", FHIR_JSON), ("Idempotency-Key", outgoing.key), ("User-Agent", "Ausculta")]
    if outgoing.body:
        ours.append(("Content-Type", FHIR_JSON))
    timeout = httpx.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s))
    async with (
        asyncio.timeout(timeout_s),
        httpx.AsyncClient(verify=_tls(), trust_env=False, timeout=timeout, follow_redirects=False) as client,
        client.stream(outgoing.method, outgoing.url, content=outgoing.body, headers=[*headers, *ours]) as response,
    ):
        if response.is_success:
            return Answer()
        asked = response.headers.get("retry-after", "")[:64]
        status = response.status_code
        return Answer(problem=f"it answered {status}", retry_after=asked, is_gone=status == GONE)
