"""Which servers models may call: none, but those that the operator lists."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kernel.errors import Category, Problem
from privacy.addresses import Address, Hosts, address_of, matches
from privacy.principal import is_loopback

_PLACE = "model.yaml.runner.url"


@dataclass(frozen=True, kw_only=True)
class RemoteHosts(Hosts):
    """The servers that models may call, and the tokens that they ask for."""

    #: Entry of a list of hosts -> bearer token (RFC 6750).
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)

    def require(self, url: str) -> Address:
        """Return the address of a server that a model folder names, once the model may call it.

        Raises
        ------
        Problem
            ``incorrect`` when it is no URL that can be called; ``forbidden`` when the operator does not list its host.
        """
        try:
            address = address_of(url)
        except ValueError as wrong:
            raise Problem(Category.INCORRECT, f"{_PLACE} {wrong}") from None
        if "?" in url:
            raise Problem(Category.INCORRECT, f"{_PLACE} must have no query")
        if address.scheme != "https" and not is_loopback(address.host):
            raise Problem(Category.INCORRECT, f"{_PLACE} must be an https URL; http is for loopback addresses alone")
        if self.is_own(address):
            raise Problem(Category.INCORRECT, f"{_PLACE} is this server itself")
        if not self.allows(address):
            detail = "names a host that models may not call: the operator lists hosts in the setting REMOTE_MODEL_HOSTS"
            raise Problem(Category.FORBIDDEN, f"{_PLACE} {detail}")
        return address

    def token(self, address: Address) -> str:
        """Return the bearer token for a server; empty when it asks for none."""
        return next((token for pattern, token in self.tokens.items() if matches(pattern, address)), "")


NO_HOSTS = RemoteHosts()
"""No model may call a server."""
