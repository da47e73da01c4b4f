"""What is stored of a resource now, or nothing: the question that both ways in ask before they write."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from fhir_adapter.resources.document import exact_values
from fhir_adapter.resources.store import Store
from kernel.errors import Category, Problem


def known(connection: Connection, store: Store, kind: str, resource_id: str) -> Mapping[str, Any] | None:
    """Return a resource as it is stored, its decimals exact; None when it is not there or has been deleted."""
    try:
        return exact_values(store.read(connection, kind, resource_id).content)
    except Problem as problem:
        if problem.category is Category.NOT_FOUND:
            return None
        raise
