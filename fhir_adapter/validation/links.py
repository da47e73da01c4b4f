"""The types that a transaction's own links name (R4, http.html#trules): those of the entries with their ``fullUrl``.

A ``urn:uuid`` names no type, so only the transaction knows what it refers to. The rule of a reference asks here when
the reference itself does not name a type that is allowed.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

_NONE: Final[Mapping[str, str]] = {}
_LINKS: Final[ContextVar[Mapping[str, str]]] = ContextVar("links", default=_NONE)


def linked_type(reference: str) -> str:
    """Return the type of the entry that a reference names; empty outside of a transaction and for other references."""
    return _LINKS.get().get(reference, "")


@contextmanager
def linked(types: Mapping[str, str]) -> Iterator[None]:
    """Validate what follows as parts of one transaction.

    Parameters
    ----------
    types
        ``fullUrl`` of an entry -> type of its resource.
    """
    token = _LINKS.set(types)
    try:
        yield
    finally:
        _LINKS.reset(token)


def entry_types(bundle: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the types of a transaction's entries by their ``fullUrl``; a batch has no links between its entries."""
    entries = bundle.get("entry")
    if bundle.get("type") != "transaction" or not isinstance(entries, list):
        return _NONE
    found: dict[str, str] = {}
    for entry in entries:
        resource, url = (entry.get("resource"), entry.get("fullUrl")) if isinstance(entry, dict) else (None, None)
        kind = resource.get("resourceType") if isinstance(resource, dict) else None
        if isinstance(kind, str) and isinstance(url, str):
            found[url] = kind
    return found
