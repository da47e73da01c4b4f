"""The EHR: one FHIR transaction of conditional creates, so that a repeated delivery finds what the first one made."""

from collections.abc import Sequence
from typing import Any, ClassVar

import httpx

from fhir_adapter.ehr.upstream import Upstream
from fhir_adapter.results import for_ehr
from fhir_adapter.store.document import encode
from service.destinations.contract import Destination, ModelResult, Rendered


class EhrDestination(Destination):
    """Writes results back to the hospital's own FHIR server.

    Parameters
    ----------
    client
        Speaks HTTP to it.
    address
        Its base URL.
    public_url
        Our FHIR base URL, by which it can reach what a result rests on.
    """

    name: ClassVar[str] = "ehr"

    def __init__(self, client: httpx.Client, *, address: str, public_url: str) -> None:
        self.address = address
        self._client = client
        self._upstream = Upstream(address, client)
        self._public_url = public_url

    def render(self, result: str, model_result: ModelResult, resources: Sequence[dict[str, Any]]) -> Sequence[Rendered]:
        """Say the result as one transaction Bundle."""
        bundle = for_ehr(resources, model_result.outcome.subject, self._public_url)
        return [Rendered(idempotency_key=f"{result}:fhir", payload=encode(bundle))]

    def send(self, payload: bytes) -> str:
        """POST the transaction."""
        return self._upstream.send(payload)

    def close(self) -> None:
        """Hang up."""
        self._client.close()
