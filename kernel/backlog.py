"""What waits in the outbox: which delivery is next, what is parked, how old the oldest is. Only reads.

Order is kept for each patient and destination: of one patient's deliveries to one destination only the oldest may be
sent. One that is held until a later time holds the later ones of the same patient, and no others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, ScalarSelect, Select, and_, case, func, or_, select

from kernel.tables import destination_states, outbox

OVERDUE_AFTER: Final = timedelta(minutes=5)
"""A delivery that waits longer is overdue."""

_COLUMNS: Final = [
    column for column in outbox.c if column.name not in {"payload", "payload_blob", "problem_diagnostics"}
]
_DUE_SINCE: Final = func.coalesce(outbox.c.next_at, outbox.c.created_at, type_=outbox.c.created_at.type)


@dataclass(frozen=True, kw_only=True)
class QueuedDelivery:
    """A row of the outbox, without what it sends and what the peer said."""

    seq: int
    id: str
    destination: str
    idempotency_key: str
    subject: str
    patient: str | None
    status: str
    attempts: int
    #: Attempts that count towards parking.
    refusals: int
    #: It is not sent before; none for one that never left the order.
    next_at: datetime | None
    receipt: str | None
    category: str | None
    problem: str | None
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries are meant; a field that is none excludes nothing."""

    status: str | None = None
    destination: str | None = None
    #: Category of the last problem.
    category: str | None = None
    #: Queued at this time or later.
    since: datetime | None = None

    def conditions(self) -> Sequence[ColumnElement[bool]]:
        """Return the filter for a query of the outbox."""
        equal = (
            (outbox.c.status, self.status),
            (outbox.c.destination, self.destination),
            (outbox.c.problem_category, self.category),
        )
        given = [column == value for column, value in equal if value is not None]
        return given if self.since is None else [*given, outbox.c.created_at >= self.since]


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """What waits for one destination, and since when."""

    destination: str
    #: Status -> deliveries.
    counts: Mapping[str, int]
    #: Pending deliveries that have failed and wait for their next try.
    held: int = 0
    #: Pending deliveries that wait longer than :data:`OVERDUE_AFTER`.
    overdue: int = 0
    #: When the oldest pending and the oldest parked delivery were queued.
    oldest: Mapping[str, datetime] = field(default_factory=dict)
    #: Nothing is sent before, and why.
    paused_until: datetime | None = None
    problem: str | None = None
    #: Why one of the held deliveries failed.
    held_by: str | None = None

    @property
    def needs_attention(self) -> bool:
        """Whether a result does not arrive as it should."""
        return bool(self.counts.get("parked") or self.held or self.overdue or self.paused_until)


def listing(connection: Connection, wanted: DeliveryFilter, limit: int = 200) -> list[QueuedDelivery]:
    """Return deliveries, the oldest first.

    Parameters
    ----------
    connection
        A connection to read from.
    wanted
        Which.
    limit
        Largest number of rows to return.
    """
    found = select(*_COLUMNS).where(*wanted.conditions()).order_by(outbox.c.seq).limit(limit)
    return [_queued(row) for row in connection.execute(found)]


def of_subject(connection: Connection, subject: str) -> list[QueuedDelivery]:
    """Return the deliveries that carry ``subject``, in the order in which they were queued; 100 at most.

    Parameters
    ----------
    connection
        A connection to read from.
    subject
        A result's id, or ``kind:id`` of anything else.
    """
    found = select(*_COLUMNS).where(outbox.c.subject == subject).order_by(outbox.c.seq).limit(100)
    return [_queued(row) for row in connection.execute(found)]


def one(connection: Connection, identifier: str) -> QueuedDelivery | None:
    """Return a delivery; None when there is none of this id.

    Parameters
    ----------
    connection
        A connection to read from.
    identifier
        Its id.
    """
    row = connection.execute(select(*_COLUMNS).where(outbox.c.id == identifier)).first()
    return None if row is None else _queued(row)


def due(connection: Connection, destination: str, now: datetime, limit: int) -> list[QueuedDelivery]:
    """Return what may be sent now: of each patient the oldest pending delivery, unless it is held.

    Parameters
    ----------
    connection
        A connection to read from.
    destination
        Name of the destination.
    now
        The current time.
    limit
        Largest number of rows to return; those that are due longest come first.
    """
    may = or_(outbox.c.next_at.is_(None), outbox.c.next_at <= now)
    first = select(*_COLUMNS).where(outbox.c.seq.in_(_heads(destination)), may)
    return [_queued(row) for row in connection.execute(first.order_by(_DUE_SINCE, outbox.c.seq).limit(limit))]


def next_attempt(connection: Connection, destination: str) -> datetime | None:
    """Return when something for a destination may be sent next; None when nothing waits.

    Parameters
    ----------
    connection
        A connection to read from.
    destination
        Name of the destination.
    """
    earliest = select(func.min(_DUE_SINCE, type_=outbox.c.created_at.type))
    due_at = connection.execute(earliest.where(outbox.c.seq.in_(_heads(destination)))).scalar()
    paused = paused_until(connection, destination)
    return due_at if due_at is None or paused is None else max(due_at, paused)


def paused_until(connection: Connection, destination: str) -> datetime | None:
    """Return until when nothing is sent to a destination; None when it is not paused.

    Parameters
    ----------
    connection
        A connection to read from.
    destination
        Name of the destination.
    """
    found = select(destination_states.c.paused_until).where(destination_states.c.name == destination)
    until: datetime | None = connection.execute(found).scalar()
    return until


def failing_patients(connection: Connection, destination: str, besides: str | None) -> int:
    """Return for how many other patients something failed since the destination last accepted anything.

    Parameters
    ----------
    connection
        A connection to read from.
    destination
        Name of the destination.
    besides
        The patient who is not counted.
    """
    accepted: ScalarSelect[Any] = (
        select(destination_states.c.accepted_at).where(destination_states.c.name == destination).scalar_subquery()
    )
    since = or_(accepted.is_(None), outbox.c.changed_at > accepted)
    held = outbox.c.destination == destination, outbox.c.status == "pending", outbox.c.next_at.is_not(None), since
    patient = func.coalesce(outbox.c.patient, "")
    count = select(func.count(func.distinct(patient))).where(*held, patient != (besides or ""))
    return int(connection.execute(count).scalar_one())


def backlogs(connection: Connection, now: datetime) -> list[Backlog]:
    """Return what waits for each destination that anything was ever sent to, by name.

    Parameters
    ----------
    connection
        A connection to read from.
    now
        The current time.
    """
    late = and_(outbox.c.status == "pending", outbox.c.created_at < now - OVERDUE_AFTER)
    columns = outbox.c.destination, outbox.c.status
    held = and_(outbox.c.status == "pending", outbox.c.next_at.is_not(None))
    grouped = select(
        *columns,
        func.count().label("deliveries"),
        func.count(case((held, 1))).label("held"),
        func.max(case((held, outbox.c.problem_detail))).label("held_by"),
        func.count(case((late, 1))).label("overdue"),
        func.min(outbox.c.created_at, type_=outbox.c.created_at.type).label("oldest"),
    ).group_by(*columns)
    rows = connection.execute(grouped).all()
    states = {row.name: row for row in connection.execute(select(destination_states))}
    names = sorted({row.destination for row in rows} | set(states))
    waiting = {row.destination for row in rows if row.status == "pending"}
    return [
        _backlog(name, [row for row in rows if row.destination == name], states.get(name) if name in waiting else None)
        for name in names
    ]


def _backlog(name: str, rows: Sequence[Row[Any]], state: Row[Any] | None) -> Backlog:
    counts = {row.status: row.deliveries for row in rows}
    return Backlog(
        destination=name,
        counts=counts,
        held=sum(row.held for row in rows),
        overdue=sum(row.overdue for row in rows),
        oldest={row.status: row.oldest for row in rows if row.status in {"pending", "parked"}},
        paused_until=None if state is None else state.paused_until,
        problem=None if state is None else state.problem_detail,
        held_by=next((row.held_by for row in rows if row.held_by), None),
    )


def _heads(destination: str) -> Select[Any]:
    waiting = outbox.c.destination == destination, outbox.c.status == "pending"
    return select(func.min(outbox.c.seq)).where(*waiting).group_by(outbox.c.patient)


def _queued(row: Row[Any]) -> QueuedDelivery:
    fields = row._asdict()
    problem = {"category": fields.pop("problem_category"), "problem": fields.pop("problem_detail")}
    return QueuedDelivery(**fields, **problem)
