"""The hospital's FHIR server, where results are delivered (FHIR R4, http.html#transaction).

A transaction of conditional creates can be sent again safely. So a failure with an unknown outcome (no response, 5xx,
429) raises a Problem whose category is retried, and a request that the server refused raises one that is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import httpx
import orjson

from kernel.errors import Category, PeerProblem, Problem

_REDIRECTS: Final = (301, 302, 303, 307, 308)
"""None is followed: it leads to a login page, or a person must correct the address."""

_REFUSALS: Final[Mapping[int, Category]] = MappingProxyType(
    dict.fromkeys(_REDIRECTS, Category.NOT_FOUND)
    | {
        401: Category.FORBIDDEN,
        403: Category.FORBIDDEN,
        404: Category.NOT_FOUND,
        405: Category.UNSUPPORTED,
        407: Category.FORBIDDEN,
        408: Category.INTERRUPTED,
        409: Category.CONFLICT,
        410: Category.NOT_FOUND,
        412: Category.CONFLICT,
        425: Category.BUSY,
        429: Category.BUSY,
        501: Category.UNSUPPORTED,
    }
)
"""HTTP status -> category; other 4xx are incorrect, other 5xx unavailable."""

_NO_BODY: Final = frozenset({200, 201, 204})
"""With these an empty answer is a receipt, as ``Prefer: return=minimal`` asks for no body (http.html#ops)."""

_PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})
_BEGINNINGS: Final = b"<!doctype html", b"<html"
_BLANK: Final = b"\xef\xbb\xbf \t\r\n"
"""What may stand before the beginning of a page, the byte order mark of UTF-8 included."""

_WAIT_REQUESTS: Final = frozenset({429, 503})
"""With ``Retry-After`` these concern every request to the server (RFC 6585 section 4, RFC 9110 section 15.6.4)."""

UNCONNECTED: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
"""No request was sent, so that no single one can be the cause."""

_HEADERS: Final = {
    "Content-Type": "application/fhir+json",
    "Accept": "application/fhir+json",
    "Prefer": "return=minimal",
}


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Longest waits, in seconds."""

    connect: float = 5.0
    answer: float = 30.0


def http_client(requests: int) -> httpx.Client:
    """Return a client of one HTTP peer that keeps a connection for each of its requests.

    Parameters
    ----------
    requests
        How many it sends at a time.
    """
    limits = httpx.Limits(max_connections=requests + 1, max_keepalive_connections=requests + 1)
    return httpx.Client(trust_env=False, limits=limits)


class Upstream:
    """One FHIR server of the hospital.

    Parameters
    ----------
    base_url
        Its FHIR base URL.
    client
        Sends the requests; holds the credentials, where there are any.
    timeouts
        Longest waits for the server.
    """

    def __init__(self, base_url: str, client: httpx.Client, timeouts: Timeouts | None = None) -> None:
        self._base = base_url.rstrip("/")
        self._client = client
        waits = timeouts or Timeouts()
        self._timeout = httpx.Timeout(waits.answer, connect=waits.connect)

    def send(self, bundle: bytes) -> str:
        """Deliver a transaction Bundle.

        Parameters
        ----------
        bundle
            JSON; safe to send twice.

        Returns
        -------
        str
            Status and location of each entry from the server's response, or its status alone where it answered
            without a body; no PHI except logical ids.

        Raises
        ------
        Problem
            As :func:`refusal_of` for a refusal, and :func:`require_no_page`; ``unavailable`` when the server cannot be
            reached, or answers something that is no receipt.
        """
        response = self._request("POST", self._base, bundle)
        require_no_page(response, "the FHIR server")
        if not response.content and response.status_code in _NO_BODY:
            return str(response.status_code)
        try:
            entries = orjson.loads(response.content)["entry"]
            answers = [entry["response"] for entry in entries]
            places = [f"{answer['status']} {self._relative(answer.get('location', ''))}".strip() for answer in answers]
            sent = len(orjson.loads(bundle).get("entry", ()))
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as failure:
            raise PeerProblem(
                Category.UNAVAILABLE,
                "the FHIR server did not answer with a transaction response",
                diagnostics=response.text[:4000],
            ) from failure
        if len(places) != sent or not all(place.startswith("2") for place in places):
            raise PeerProblem(
                Category.UNAVAILABLE,
                "the FHIR server did not answer for every entry",
                diagnostics=response.text[:4000],
            )
        return ", ".join(places)

    def check(self) -> str:
        """Read the server's CapabilityStatement and return its FHIR version.

        Raises
        ------
        Problem
            As for :meth:`send`; ``unsupported`` when the server has no FHIR API or another version than R4.
        """
        response = self._request("GET", f"{self._base}/metadata")
        try:
            statement = orjson.loads(response.content)
            version = str(statement["fhirVersion"])
        except (orjson.JSONDecodeError, KeyError, TypeError) as failure:
            raise Problem(Category.UNSUPPORTED, "there is no FHIR API at this address") from failure
        if not version.startswith("4.0"):
            raise Problem(Category.UNSUPPORTED, "the server does not speak FHIR R4")
        return version

    def _request(self, method: str, url: str, content: bytes | None = None) -> httpx.Response:
        try:
            response = self._client.request(method, url, content=content, headers=_HEADERS, timeout=self._timeout)
        except httpx.HTTPError as failure:
            raise PeerProblem(
                Category.UNAVAILABLE,
                without_answer("the FHIR server", failure),
                diagnostics=str(failure),
                whole=isinstance(failure, UNCONNECTED),
            ) from failure
        status = response.status_code
        if 200 <= status < 300:
            return response
        raise refusal_of(response, "the FHIR server")

    def _relative(self, location: str) -> str:
        return location.removeprefix(self._base).lstrip("/")


def without_answer(peer: str, failure: httpx.HTTPError) -> str:
    """Return what became of a request without an answer.

    Parameters
    ----------
    peer
        How the peer is named, such as ``the FHIR server``.
    failure
        What httpx raised.
    """
    if isinstance(failure, httpx.ReadTimeout):
        return f"{peer} took the request and did not answer in time"
    return f"{peer} cannot be reached"


def refusal_of(response: httpx.Response, peer: str) -> PeerProblem:
    """Return the problem that an answer of an HTTP peer other than 2xx states.

    Parameters
    ----------
    response
        The answer.
    peer
        What the peer is, as the problem's sentence begins.
    """
    status, retry_after = response.status_code, response.headers.get("Retry-After", "")
    return PeerProblem(
        _REFUSALS.get(status, Category.UNAVAILABLE if status >= 500 else Category.INCORRECT),
        f"{peer} answered {status}",
        diagnostics=response.text[:4000],
        whole=status == 401 or (status in _WAIT_REQUESTS and bool(retry_after)),
        retry_after=retry_after,
    )


def require_no_page(response: httpx.Response, peer: str) -> None:
    """Refuse a web page as a receipt: a proxy between us and the peer answers 200 with its login page.

    Parameters
    ----------
    response
        An answer with 2xx.
    peer
        What the peer is, as the problem's sentence begins.

    Raises
    ------
    Problem
        ``not-found``, so that it is tried again until a person has corrected the way to the peer.
    """
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type in _PAGES or response.content[:64].lstrip(_BLANK).lower().startswith(_BEGINNINGS):
        detail = f"{peer} answered {response.status_code} with a web page, such as a login page, and no receipt"
        raise PeerProblem(Category.NOT_FOUND, detail, diagnostics=response.text[:4000])
