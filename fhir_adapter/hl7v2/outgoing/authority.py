"""HD going out: who assigned a number, from the ``system`` of its FHIR Identifier (section 2A.3.36).

The reverse of :mod:`fhir_adapter.hl7v2.datatypes.hd`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from fhir_adapter.hl7v2.datatypes.hd import universal

_OWN: Final = "urn:ausculta:authority:"
_OID: Final = "urn:oid:"
_UUID: Final = "urn:uuid:"
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")


@dataclass(frozen=True, kw_only=True)
class Authority:
    """An assigning authority; the universal id and its type (table 0301) are given together or not at all."""

    #: HD.1.
    namespace: str = ""
    #: HD.2.
    universal_id: str = ""
    #: HD.3.
    universal_id_type: str = ""

    @property
    def parts(self) -> tuple[str, str, str]:
        """HD.1 to HD.3."""
        return self.namespace, self.universal_id, self.universal_id_type


def authority_of(system: str, configured: Sequence[str] = ()) -> Authority:
    """Return who assigned a number.

    Parameters
    ----------
    system
        Of the Identifier; may be empty.
    configured
        The namespaces and universal ids for which the site's settings give this system; the last of each counts.
    """
    namespaces = [name for name in configured if not universal(name)]
    namespace = namespaces[-1] if namespaces else ""
    for name in (*(universal(name) for name in reversed(configured)), system):
        if typed := _universal(name):
            return Authority(namespace=namespace, universal_id=typed[0], universal_id_type=typed[1])
    return Authority(namespace=namespace or unquote(system.removeprefix(_OWN)))


def _universal(uri: str) -> tuple[str, str] | None:
    """Return a universal id and its type; None for what is no URI or our own name of a namespace."""
    if uri.startswith(_OWN) or not _URI.fullmatch(uri):
        return None
    for prefix, kind in ((_OID, "ISO"), (_UUID, "UUID")):
        if uri.startswith(prefix):
            return uri.removeprefix(prefix), kind
    return uri, "URI"
