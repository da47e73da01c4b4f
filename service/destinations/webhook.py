"""A webhook: the FHIR transaction of a result, POSTed with a signature over its bytes.

``Idempotency-Key`` is the same at every repetition. ``X-Ausculta-Signature`` is ``sha256=`` and the HMAC-SHA256
(RFC 2104) of the body in hexadecimal, under the secret that both sides hold.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from fhir_adapter.ehr.upstream import UNCONNECTED, http_client, refusal_of, require_no_page, without_answer
from fhir_adapter.results import for_ehr
from fhir_adapter.store.document import encode
from kernel.errors import Category, PeerProblem
from service.destinations.contract import Destination, ModelResult, Rendered, SiteContext
from service.destinations.table import HTTP_REQUESTS, DestinationTable

SIGNATURE: Final = "X-Ausculta-Signature"
_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)


@dataclass(frozen=True, kw_only=True)
class WebhookSettings:
    """Address of a webhook, and the secret shared with it."""

    url: str
    secret: str = field(repr=False)
    parallel: int = HTTP_REQUESTS


def read(table: DestinationTable) -> WebhookSettings:
    """Read the keys of kind ``webhook``: ``url``, ``secret`` and ``parallel``, the requests at a time."""
    return WebhookSettings(url=table.url("url"), secret=table.text("secret"), parallel=table.parallel(HTTP_REQUESTS))


def build(name: str, settings: WebhookSettings, site: SiteContext) -> "WebhookDestination":
    """Build a destination of kind ``webhook``.

    Parameters
    ----------
    name
        Name of the instance, unique among the destinations.
    settings
        Its checked settings.
    site
        Gives our FHIR base URL.
    """
    made = WebhookDestination(name, http_client(settings.parallel), settings, public_url=site.public_url)
    made.parallel = settings.parallel
    return made


class WebhookDestination(Destination):
    """Posts results to an HTTP server that is no FHIR server.

    Parameters
    ----------
    name
        Of this instance.
    client
        Sends the requests; follows no redirect.
    settings
        Its URL and the secret.
    public_url
        Our FHIR base URL.
    """

    def __init__(self, name: str, client: httpx.Client, settings: WebhookSettings, *, public_url: str) -> None:
        self.name = name
        self.address = settings.url
        self._client = client
        self._secret = settings.secret.encode()
        self._public_url = public_url

    def render(self, result: str, model_result: ModelResult, resources: Sequence[dict[str, Any]]) -> Sequence[Rendered]:
        """Render the result as one transaction Bundle.

        Parameters as for :meth:`service.destinations.contract.Destination.render`.
        """
        subject = model_result.outcome.subject
        ours = f"{self._public_url.rstrip('/')}/{subject.reference}"
        bundle = for_ehr(resources, subject, self._public_url, unidentified=ours)
        return [Rendered(idempotency_key=f"{result}:webhook", payload=encode(bundle))]

    def send(self, payload: bytes, idempotency_key: str) -> str:
        """POST the Bundle; any 2xx is the receipt, unless a web page comes with it.

        Parameters as for :meth:`service.destinations.contract.Destination.send`.

        Raises
        ------
        Problem
            ``unavailable`` when the webhook cannot be reached; for an answer other than 2xx as
            :func:`fhir_adapter.ehr.upstream.refusal_of`, for a web page as
            :func:`fhir_adapter.ehr.upstream.require_no_page`.
        """
        headers = {
            "Content-Type": "application/fhir+json",
            "Idempotency-Key": idempotency_key,
            SIGNATURE: f"sha256={hmac.new(self._secret, payload, hashlib.sha256).hexdigest()}",
        }
        try:
            response = self._client.post(self.address, content=payload, headers=headers, timeout=_TIMEOUT)
        except httpx.HTTPError as failure:
            detail = without_answer("the webhook", failure)
            raise PeerProblem(
                Category.UNAVAILABLE, detail, diagnostics=str(failure), whole=isinstance(failure, UNCONNECTED)
            ) from failure
        if not response.is_success:
            raise refusal_of(response, "the webhook")
        require_no_page(response, "the webhook")
        return str(response.status_code)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
