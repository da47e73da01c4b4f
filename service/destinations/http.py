"""What the destinations that speak HTTP share: their client."""

from typing import Final

import httpx

HTTP_REQUESTS: Final = 16
"""How many requests are sent to one HTTP server at a time, unless the settings say otherwise."""


def http_client(requests: int) -> httpx.Client:
    """Return a client that keeps a connection for each of its requests.

    Parameters
    ----------
    requests
        How many it sends at a time.
    """
    limits = httpx.Limits(max_connections=requests + 1, max_keepalive_connections=requests + 1)
    return httpx.Client(trust_env=False, limits=limits)
