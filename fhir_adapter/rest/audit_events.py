"""AuditEvents as resources: read and searched like other types, but stored in the audit log."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Row, false, func, or_, select, type_coerce

from fhir_adapter.store.search.comparisons import instant_matches
from fhir_adapter.store.search.query import Criterion, Cursor, Query
from fhir_adapter.store.search.shapes import Match, Own
from kernel.errors import Category, Problem
from kernel.tables import audit_log

_LOG = audit_log.c


@dataclass(frozen=True, kw_only=True)
class AuditPage:
    """One page of events."""

    #: Rows of the audit log.
    found: Sequence[Row[Any]]
    cursor: Cursor | None


def read_event(connection: Connection, event_id: str) -> Row[Any]:
    """Return one event's row of the audit log.

    Parameters
    ----------
    connection
        Open connection to the database.
    event_id
        Logical id of the AuditEvent.

    Raises
    ------
    Problem
        ``not-found`` when there is no such event.
    """
    row = connection.execute(select(audit_log).where(_LOG.id == event_id)).one_or_none()
    if row is None:
        raise Problem(Category.NOT_FOUND, "there is no such resource")
    return row


def find_events(connection: Connection, query: Query) -> AuditPage:
    """Return one page of the events that match a query, in the order of the log.

    Parameters
    ----------
    connection
        Open connection to the database.
    query
        Criteria, order, page size and, from the second page on, where the page starts.
    """
    descends = query.sort[0].descending
    statement = select(audit_log).where(*(_condition(criterion) for criterion in query.criteria))
    seq = type_coerce(_LOG.seq, BigInteger)
    if query.after is not None:
        statement = statement.where(seq < query.after.key if descends else seq > query.after.key)
    order = seq.desc() if descends else seq.asc()
    rows = connection.execute(statement.order_by(order).limit(query.count + 1)).all()
    found = rows[: query.count]
    more = len(rows) > query.count and found
    return AuditPage(found=found, cursor=Cursor(keys=(found[-1].seq,), key=found[-1].seq, as_of=0) if more else None)


def count_events(connection: Connection, query: Query) -> int:
    """Return how many events match a query.

    Parameters
    ----------
    connection, query
        As for :func:`find_events`.
    """
    statement = select(func.count()).select_from(audit_log).where(*(_condition(it) for it in query.criteria))
    return int(connection.execute(statement).scalar_one())


def _times(criterion: Criterion) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield prefix and ends of each date, whether of ``date`` or of ``_lastUpdated``."""
    shape = criterion.shape
    assert isinstance(shape, Match | Own)
    ends = [datetime.fromtimestamp(it, UTC) if isinstance(it, float) else it for it in criterion.arguments]
    for place, prefix in enumerate(shape.tests):
        yield prefix, (ends[2 * place], ends[2 * place + 1])


def _condition(criterion: Criterion) -> ColumnElement[bool]:
    texts = [code or "" for _, code in criterion.texts]
    match criterion.name:
        case "_id":
            return _LOG.id.in_(texts)
        case "action":
            return _LOG.action.in_(texts)
        case "patient":
            return _LOG.patient.in_(texts)
        case "entity":
            versions = [_LOG.entity.startswith(f"{text}/_history/", autoescape=True) for text in texts]
            return or_(_LOG.entity.in_(texts), _LOG.patient.in_(texts), *versions)
        case "_tag":
            return false()  # events have none
        case _:
            return or_(*(instant_matches(_LOG.recorded, prefix, *ends) for prefix, ends in _times(criterion)))
