"""Addresses of other servers that something from outside names: read strictly, and matched against what a site lists.

A client or a model folder names them; the operator lists the hosts. What a listed name resolves to is up to whoever
runs that name.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from privacy.principal import is_loopback

_LONGEST: Final = 2000
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class Address:
    """What of a URL says to which server it leads."""

    scheme: str
    host: str
    port: int


def address_of(url: str) -> Address:
    """Read a URL that something from outside names.

    Raises
    ------
    ValueError
        Why it is not accepted; completes "the endpoint ...".
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in _PORTS or not host or not port or len(url) > _LONGEST:
        raise ValueError("must be an http or https URL")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("must be written in printable ASCII")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("must have no user, password or fragment")
    return Address(scheme=parts.scheme, host=host, port=port)


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """The servers to which something may be sent."""

    #: ``host``, ``host:port``, or ``*.domain``; in lower case.
    allowed: tuple[str, ...] = ()
    #: Host and port at which this server itself answers.
    own: frozenset[tuple[str, int]] = frozenset()

    def is_own(self, address: Address) -> bool:
        """Return whether an address is that of this server."""
        host, port = address.host, address.port
        return any(port == at and (host == name or (is_loopback(host) and is_loopback(name))) for name, at in self.own)

    def allows(self, address: Address) -> bool:
        """Return whether the site lists the host."""
        return any(matches(pattern, address) for pattern in self.allowed)


def matches(pattern: str, address: Address) -> bool:
    """Return whether an entry of a list of hosts means an address.

    Parameters
    ----------
    pattern
        ``host``, ``host:port``, or ``*.domain``; in lower case.
    address
        The address.
    """
    if pattern.startswith("*."):
        return address.host.endswith(pattern[1:])
    if pattern == address.host or pattern.strip("[]") == address.host:
        return True
    name, _, number = pattern.rpartition(":")
    return number == str(address.port) and name.strip("[]") == address.host


def own_address(url: str) -> tuple[str, int]:
    """Return host and port of a URL of this server."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
