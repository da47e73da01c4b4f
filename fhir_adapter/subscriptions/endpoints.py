"""To which addresses this server sends notifications: those that the site allows, and never to itself.

A notification discloses patient data to an address that a client names. So the site lists the hosts, and a redirect is
not followed.
"""

from dataclasses import dataclass

from privacy.addresses import Hosts, address_of


@dataclass(frozen=True, kw_only=True)
class Endpoints(Hosts):
    """The addresses to which notifications may be sent."""

    def fault(self, url: str) -> str:
        """Return why a URL cannot be an endpoint; empty when it can."""
        try:
            address = address_of(url)
        except ValueError as wrong:
            hint = ": credentials are sent in channel.header" if "password" in str(wrong) else ""
            return f"the endpoint {wrong}{hint}"
        if self.is_own(address):
            return "the endpoint is this server itself"
        if not self.allows(address):
            return "this server does not send notifications to this host (setting SUBSCRIPTION_HOSTS)"
        return ""
