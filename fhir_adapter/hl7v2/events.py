"""The table ``resource_events``: which event made what is stored of a resource. Every read and write of it is here."""

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, select

from fhir_adapter.hl7v2.order import Events, ResourceEvent
from kernel.db import Transaction
from kernel.statements import StatementOfMany, upsert
from kernel.tables import resource_events

_EVENTS: Final = resource_events.c
_OF: Final = StatementOfMany(
    lambda ids: select(resource_events).where(_EVENTS.type == bindparam("of_type"), _EVENTS.id.in_(ids))
)
_PUT: Final = upsert(resource_events)
_COLUMNS: Final = tuple(column.name for column in resource_events.columns)


def read_events(connection: Connection, events: Iterable[ResourceEvent]) -> Events:
    """Return what is stored of the resources of some events.

    Parameters
    ----------
    connection
        Where to read.
    events
        Their resources count.
    """
    by_type: dict[str, list[str]] = {}
    for event in events:
        by_type.setdefault(event.type, []).append(event.id)
    rows = [row for kind, ids in by_type.items() for row in _OF.run(connection, ids, {"of_type": kind})]
    found = [ResourceEvent(*row) for row in rows]  # its fields are the columns, in their order
    return {event.key: event for event in found}


def is_stated(connection: Connection, kind: str, resource_id: str) -> bool:
    """Return whether a message has said anything of a resource.

    Parameters
    ----------
    connection
        Where to read.
    kind
        Resource type, such as ``Patient``.
    resource_id
        Logical id of the resource.
    """
    return bool(_OF.run(connection, [resource_id], {"of_type": kind}))


def write_events(tx: Transaction, events: Sequence[ResourceEvent]) -> None:
    """Store the newest event of each resource.

    Parameters
    ----------
    tx
        The transaction that stores the resources.
    events
        At most one for each resource and source.
    """
    tx.send_rows(_PUT, _COLUMNS, [event[: len(_COLUMNS)] for event in events])
