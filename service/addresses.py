"""Addresses: where this server is reached, and which servers it may send something to."""

from fhir_adapter.subscriptions.endpoints import Endpoints
from inference.remote.permitted import RemoteHosts
from privacy.addresses import own_address
from service.settings import Settings


def endpoints(settings: Settings) -> Endpoints:
    """Return to which addresses notifications may be sent."""
    return Endpoints(allowed=settings.subscription_hosts, own=_own_addresses(settings))


def remote_hosts(settings: Settings) -> RemoteHosts:
    """Return which servers models may call."""
    return RemoteHosts(
        allowed=settings.remote_model_hosts, tokens=settings.remote_model_tokens, own=_own_addresses(settings)
    )


def _own_addresses(settings: Settings) -> frozenset[tuple[str, int]]:
    return frozenset({own_address(fhir_url(settings)), (settings.http_host, settings.http_port)})


def fhir_url(settings: Settings) -> str:
    """Return the base URL under which others reach this server's FHIR API."""
    root = settings.public_url or f"http://{settings.http_host}:{settings.http_port}"
    return f"{root.rstrip('/')}/fhir"
