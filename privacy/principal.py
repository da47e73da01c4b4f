"""The principal: who sends a request, made by each listener from connection and credentials before it reads a body.

An AE title, the sending application of an HL7 v2 message and a name typed at a terminal are claims of the client that
nothing verifies; only ``AUTH=smart`` authenticates a client.
"""

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Principal:
    """The identity of a caller, from the connection and the credentials."""

    #: Client id, AE title, HL7 application, or the person who gave a command.
    client: str
    #: Address of the peer; empty when the action comes from this process.
    client_address: str
    #: Name of this server.
    server: str = "Ausculta"
    #: ``X-Request-Id``, or its equivalent in other protocols (MSH-10, the association, a job).
    request_id: str = ""
    #: Address at which the peer reached this server.
    server_address: str = ""
    #: The person for whom the client acts; empty when there is none or it is not known.
    user: str = ""
    #: Roles of that person.
    roles: frozenset[str] = frozenset()
    #: SMART scopes that were granted, such as ``patient/Observation.rs``.
    scopes: frozenset[str] = frozenset()
    #: Code of HL7 v3 PurposeOfUse, such as ``TREAT``; empty when not stated.
    purpose_of_use: str = ""
    #: The tenant whose data the action concerns.
    tenant: str = "default"

    @property
    def is_local(self) -> bool:
        """Whether the action comes from this process or from this machine."""
        return not self.client_address or is_loopback(self.client_address)


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Return whether a host name or an address is a loopback address.

    Parameters
    ----------
    host
        Without a port; an IPv6 address without brackets.
    """
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


SERVER: Final = Principal(client="Ausculta", client_address="")
"""This server itself, which writes and delivers results."""
