"""To which addresses this server sends notifications: those that the site allows, and never to itself.

A notification discloses patient data to an address that a client names. So the site lists the hosts, and a redirect is
not followed. What a listed name resolves to is up to whoever runs that name.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from privacy.principal import is_loopback

_LONGEST: Final = 2000
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """The addresses to which notifications may be sent."""

    #: ``host``, ``host:port``, or ``*.domain``; in lower case.
    allowed: tuple[str, ...] = ()
    #: Host and port at which this server itself answers.
    own: frozenset[tuple[str, int]] = frozenset()

    def fault(self, url: str) -> str:
        """Return why a URL cannot be an endpoint; empty when it can."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError:
            return "the endpoint is not a URL"
        if parts.scheme not in _PORTS or not host or not port or len(url) > _LONGEST:
            return "the endpoint must be an http or https URL"
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            return "the endpoint must be written in printable ASCII"
        if parts.username is not None or parts.password is not None or parts.fragment:
            return "the endpoint must have no user, password or fragment: credentials are sent in channel.header"
        if self._is_own(host, port):
            return "the endpoint is this server itself"
        if not any(_allows(pattern, host, port) for pattern in self.allowed):
            return "this server does not send notifications to this host (setting SUBSCRIPTION_HOSTS)"
        return ""

    def _is_own(self, host: str, port: int) -> bool:
        return any(port == at and (host == name or (is_loopback(host) and is_loopback(name))) for name, at in self.own)


def own_address(url: str) -> tuple[str, int]:
    """Return host and port of a URL of this server."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def _allows(pattern: str, host: str, port: int) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:])
    if pattern == host or pattern.strip("[]") == host:
        return True
    name, _, number = pattern.rpartition(":")
    return number == str(port) and name.strip("[]") == host
