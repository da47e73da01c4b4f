"""FHIR JSON with numbers exactly as they were sent: 37.10 stays 37.10."""

from typing import Any

from fhir_adapter.store.document import encode


def dumps(resource: dict[str, Any]) -> bytes:
    """Serialise a resource whose decimals are :class:`~decimal.Decimal`.

    Parameters
    ----------
    resource
        A resource or a bundle.

    Returns
    -------
    bytes
        UTF-8 JSON; a decimal is written with all its digits.
    """
    return encode(resource)
