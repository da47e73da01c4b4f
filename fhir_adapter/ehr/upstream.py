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

_REFUSALS: Final[Mapping[int, Category]] = MappingProxyType(
    {
        401: Category.FORBIDDEN,
        403: Category.FORBIDDEN,
        404: Category.NOT_FOUND,
        405: Category.UNSUPPORTED,
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

ASK_TO_WAIT: Final = frozenset({429, 503})
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
            Status and location of each entry from the server's response; no PHI except logical ids.

        Raises
        ------
        Problem
            ``busy``, ``unavailable`` or ``interrupted`` when a later attempt may succeed; any other category when the
            server refused the bundle.
        """
        response = self._request("POST", self._base, bundle)
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
                "the FHIR server cannot be reached",
                diagnostics=str(failure),
                whole=isinstance(failure, UNCONNECTED),
            ) from failure
        status = response.status_code
        if 200 <= status < 300:
            return response
        category = _REFUSALS.get(status, Category.UNAVAILABLE if status >= 500 else Category.INCORRECT)
        asked = response.headers.get("Retry-After", "")
        raise PeerProblem(
            category,
            f"the FHIR server answered {status}",
            diagnostics=response.text[:4000],
            whole=status == 401 or (status in ASK_TO_WAIT and bool(asked)),
            retry_after=asked,
        )

    def _relative(self, location: str) -> str:
        return location.removeprefix(self._base).lstrip("/")
