"""The headers of a Subscription, which may hold credentials: they are stored sealed, and never read back in clear.

``channel.header`` is stored as ``Name: sealed:…``. The seal is bound to the endpoint, so that it cannot be copied into
a Subscription with another one; a client that changes the endpoint sends the header again.
"""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Final

from fhir_adapter.store.document import Document, Json, reread
from fhir_adapter.store.problems import Invalid, Issue
from kernel.blobs import Cipher
from kernel.errors import Problem

MOST_HEADERS: Final = 10
_LONGEST: Final = 4096
_SEALED: Final = "sealed:"
_HEADER: Final = re.compile(r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):[ \t]*(?P<value>[\x21-\x7e][\t\x20-\x7e]*)")
_OURS: Final = frozenset(
    {
        *("accept", "connection", "content-encoding", "content-length", "content-type", "expect", "host"),
        *("idempotency-key", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
_WHERE: Final = "Subscription.channel.header"


def sealer(cipher: Cipher) -> Callable[[Document], Document]:
    """Return the function that seals the headers of a Subscription before it is stored."""

    def seal(document: Document) -> Document:
        channel = document.plain["channel"]
        headers = channel.get("header", ())
        if not headers:
            return document
        endpoint = channel.get("endpoint", "")
        sealed = [_sealed(cipher, line, endpoint) for line in headers]
        return reread({**document.exact, "channel": {**document.exact["channel"], "header": sealed}})

    return seal


def opened(cipher: Cipher, resource: Json) -> tuple[tuple[str, str], ...]:
    """Return names and values of the headers of a stored Subscription.

    Parameters
    ----------
    cipher
        Opens what :func:`sealer` has sealed.
    resource
        The Subscription as it is stored.
    """
    channel = resource["channel"]
    return tuple(_opened(cipher, line, channel.get("endpoint", "")) for line in channel.get("header", ()))


def _sealed(cipher: Cipher, line: str, endpoint: str) -> str:
    match = _HEADER.fullmatch(line) if len(line) <= _LONGEST else None
    if match is None or match["name"].lower() in _OURS:
        text = "a header is 'Name: value' of printable ASCII, and none that this server sends itself"
        raise Invalid([Issue(code="value", text=text, expression=_WHERE)])
    if match["value"].startswith(_SEALED):
        try:
            _opened(cipher, line, endpoint)
        except (Problem, ValueError, binascii.Error) as failure:
            text = "a sealed header holds for the endpoint that it was sent with only: send it again in clear"
            raise Invalid([Issue(code="value", text=text, expression=_WHERE)]) from failure
        return line
    hidden = cipher.seal(match["value"].encode(), _context(match["name"], endpoint))
    return f"{match['name']}: {_SEALED}{base64.b64encode(hidden).decode()}"


def _opened(cipher: Cipher, line: str, endpoint: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    hidden = base64.b64decode(value.removeprefix(_SEALED), validate=True)
    return name, cipher.open(hidden, _context(name, endpoint)).decode()


def _context(name: str, endpoint: str) -> bytes:
    return f"Subscription.channel.header|{name.lower()}|{endpoint}".encode()
