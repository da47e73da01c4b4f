"""HD: the authority that assigns an identifier (section 2A.3.36) to the identifier's ``system`` (guide: HD[uri])."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

_OID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9]\d*))+")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_URI: Final = re.compile(r"(?:urn:[a-z0-9][a-z0-9-]+:|https?://)[!#-;=?-\[\]_a-z~]+")


def universal(identifier: str) -> str:
    """Return a universal id as a URI; empty when it is not an OID, a UUID or a URI."""
    if _OID.fullmatch(identifier):
        return f"urn:oid:{identifier}"
    if _UUID.fullmatch(identifier):
        return f"urn:uuid:{identifier.lower()}"
    return identifier if _URI.fullmatch(identifier) else ""


def system(namespace: str, identifier: str, systems: Mapping[str, str], default: str) -> str:
    """Return the system of identifiers that an authority assigns.

    Parameters
    ----------
    namespace, identifier
        HD.1 and HD.2; either may be empty.
    systems
        The configured system of a namespace or universal id; it takes precedence.
    default
        Namespace to use when both are empty.
    """
    if not namespace and not identifier:
        namespace = default
    for named in (namespace, identifier):
        if named and named in systems:
            return systems[named]
    return universal(identifier) or f"urn:ausculta:authority:{quote(namespace or identifier, safe='')}"
