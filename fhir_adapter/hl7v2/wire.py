"""FHIR JSON with numbers exactly as they were sent: 37.10 stays 37.10."""

from decimal import Decimal
from typing import Any

import orjson


def dumps(resource: dict[str, Any]) -> bytes:
    """Serialise a resource whose decimals are :class:`~decimal.Decimal`.

    Parameters
    ----------
    resource
        A resource or a bundle.

    Returns
    -------
    bytes
        UTF-8 JSON; a decimal is written with all its digits and without an exponent.
    """
    return orjson.dumps(resource, default=_exactly)


def _exactly(value: object) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))
    raise TypeError(f"{type(value).__name__} has no place in a FHIR resource")
