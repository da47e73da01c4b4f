"""The EHR: one FHIR transaction of conditional creates, so that a repeated delivery finds what the first one made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from fhir_adapter.ehr.upstream import Upstream, http_client
from fhir_adapter.results import for_ehr, identified
from fhir_adapter.store.document import encode
from inference.contract import Subject
from service.destinations.contract import Destination, ModelResult, Rendered, SiteContext
from service.destinations.table import HTTP_REQUESTS, DestinationTable


@dataclass(frozen=True, kw_only=True)
class FhirSettings:
    """Address of a FHIR server."""

    url: str
    parallel: int = HTTP_REQUESTS


def read(table: DestinationTable) -> FhirSettings:
    """Read the keys of kind ``fhir``: ``url``, its base URL, and ``parallel``, the requests at a time."""
    return FhirSettings(url=table.url("url"), parallel=table.parallel(HTTP_REQUESTS))


def build(name: str, settings: FhirSettings, site: SiteContext) -> "FhirDestination":
    """Build a destination of kind ``fhir``.

    Parameters
    ----------
    name
        Name of the instance, unique among the destinations.
    settings
        Its checked settings.
    site
        Gives our FHIR base URL.
    """
    client = http_client(settings.parallel)
    made = FhirDestination(name, client, address=settings.url, public_url=site.public_url)
    made.parallel = settings.parallel
    return made


class FhirDestination(Destination):
    """Writes results back to the hospital's own FHIR server.

    Parameters
    ----------
    name
        Of this instance.
    client
        Sends the HTTP requests.
    address
        Its base URL.
    public_url
        Our FHIR base URL, under which it finds the inputs of a result.
    """

    def __init__(self, name: str, client: httpx.Client, *, address: str, public_url: str) -> None:
        self.name = name
        self.address = address
        self._client = client
        self._upstream = Upstream(address, client)
        self._public_url = public_url

    def render(self, result: str, model_result: ModelResult, resources: Sequence[dict[str, Any]]) -> Sequence[Rendered]:
        """Render the result as one transaction Bundle.

        Parameters as for :meth:`service.destinations.contract.Destination.render`.
        """
        bundle = for_ehr(resources, model_result.outcome.subject, self._public_url)
        return [Rendered(idempotency_key=f"{result}:fhir", payload=encode(bundle))]

    def completed(self, payload: bytes, subject: Callable[[], Subject | None]) -> bytes:
        """Name the patient; parameters as for :meth:`service.destinations.contract.Destination.completed`."""

        def identifier() -> tuple[str, str] | None:
            patient = subject()
            return None if patient is None else patient.identifier

        return identified(payload, identifier)

    def send(self, payload: bytes, idempotency_key: str) -> str:  # noqa: ARG002 - conditional creates carry it
        """POST the transaction; parameters as for :meth:`service.destinations.contract.Destination.send`."""
        return self._upstream.send(payload)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
