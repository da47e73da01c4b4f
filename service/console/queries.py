"""What the pages read from the database; the page of one result is in :mod:`service.console.result_page`."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from sqlalchemy import BigInteger, Connection, Row, Select, select, type_coerce

from inference import registry
from inference.registry import ModelRow
from kernel import backlog
from kernel.errors import Category, Problem
from kernel.inbox import unmatched
from kernel.jobs import Job
from kernel.tables import audit_checkpoints, audit_head, audit_log, outbox, workers
from kernel.worker import running
from service.console import reading
from service.console.records import (
    AuditPage,
    AuditRow,
    DeliveryShown,
    JobShown,
    ModelShown,
    Overview,
    QueuePage,
    ResultRow,
    Traffic,
    WorkerShown,
)
from service.console.services import ConsoleData
from service.results import StoredResult

RESULTS_A_PAGE: Final = 50
EVENTS_A_PAGE: Final = 100
ROWS_OF_A_QUEUE: Final = 200

Json: TypeAlias = dict[str, Any]

_DELIVERY: Final = [column for column in outbox.c if column.name not in {"payload", "problem_diagnostics"}]


def result_urn(result: str) -> str:
    """Name a result as audit events do."""
    return f"urn:ausculta:result:{result}"


def overview(data: ConsoleData, *, patient: str | None = None, before: int | None = None) -> Overview:
    """Read the newest results and the state of everything.

    Parameters
    ----------
    data
        The components that the console reads.
    patient
        Only results about this one, as a reference.
    before
        Only results older than the one with this sequence number.
    """
    with data.database.read() as connection:
        rows = data.results.newest(connection, limit=RESULTS_A_PAGE + 1, subject=patient, before=before)
        found = rows[:RESULTS_A_PAGE]
        about = deliveries_about(connection, [row.id for row in found])
        return Overview(
            results=tuple(result_row(row, about[row.id]) for row in found),
            traffic=_traffic(data, connection),
            models=models_in(data, connection),
            older=found[-1].seq if len(rows) > len(found) else None,
        )


def stored_result(data: ConsoleData, result_id: str) -> StoredResult:
    """Return a stored result.

    Parameters
    ----------
    data
        The components that the console reads.
    result_id
        Id of the result.

    Raises
    ------
    Problem
        ``not-found`` when there is none of that id.
    """
    with data.database.read() as connection:
        row = data.results.one(connection, result_id)
    if row is None:
        raise Problem(Category.NOT_FOUND, "there is no such result")
    return row


def queue(data: ConsoleData) -> QueuePage:
    """Read what is under way and what is stuck."""
    with data.database.read() as connection:
        backlogs = backlog.backlogs(connection, data.clock.now())
        paused = {one.destination: one.paused_until for one in backlogs}
        return QueuePage(
            traffic=_traffic(data, connection),
            parked=_jobs(data, connection, "parked"),
            backlogs=tuple(backlogs),
            parked_deliveries=_deliveries(connection, "parked", {}),
            running=_jobs(data, connection, "running"),
            waiting=_jobs(data, connection, "waiting"),
            pending_deliveries=_deliveries(connection, "pending", paused),
            workers=_workers(data, connection),
            unmatched=unmatched(connection),
        )


def models(data: ConsoleData) -> tuple[ModelShown, ...]:
    """Read every registered model version."""
    with data.database.read() as connection:
        return models_in(data, connection)


def model(data: ConsoleData, name: str, version: str) -> ModelShown:
    """Read one model version.

    Parameters
    ----------
    data
        The components that the console reads.
    name, version
        The model and its version, as registered.

    Raises
    ------
    Problem
        ``not-found`` when this version is not registered.
    """
    for found in models(data):
        if (found.name, found.version) == (name, version):
            return found
    raise Problem(Category.NOT_FOUND, "there is no such model version")


def audit(data: ConsoleData, *, patient: str | None = None, before: int | None = None) -> AuditPage:
    """Read the newest events of the audit log; parameters as for :func:`overview`."""
    seq = type_coerce(audit_log.c.seq, BigInteger)
    wanted = select(audit_log).order_by(seq.desc()).limit(EVENTS_A_PAGE + 1)
    if patient is not None:
        wanted = wanted.where(audit_log.c.patient == patient)
    if before is not None:
        wanted = wanted.where(seq < before)
    with data.database.read() as connection:
        events = events_in(connection, wanted)
        size = connection.execute(select(audit_head.c.size)).scalar() or 0
        checkpoint = select(audit_checkpoints).order_by(audit_checkpoints.c.size.desc()).limit(1)
        signed = connection.execute(checkpoint).first()
    return AuditPage(
        size=size,
        signed_size=0 if signed is None else signed.size,
        signed_at=None if signed is None else signed.signed_at,
        events=events[:EVENTS_A_PAGE],
        older=events[EVENTS_A_PAGE - 1].seq if len(events) > EVENTS_A_PAGE else None,
    )


def result_row(row: StoredResult, deliveries: Sequence[DeliveryShown]) -> ResultRow:
    """Return a stored result in one line.

    Parameters
    ----------
    row
        The result.
    deliveries
        Its deliveries.
    """
    return ResultRow(
        seq=row.seq,
        id=row.id,
        at=row.computed_at,
        model=row.model,
        version=row.version,
        status=row.status,
        available=row.kind == "prediction",
        kind=row.kind,
        summary=row.summary if row.reason is None else row.reason,
        patient=row.subject,
        deliveries=tuple(deliveries),
    )


def _traffic(data: ConsoleData, connection: Connection) -> Traffic:
    deliveries: dict[str, dict[str, int]] = {name: {} for name in data.destinations}
    for (destination, status), count in sorted(data.outbox.counts(connection).items()):
        deliveries.setdefault(destination, {})[status] = count
    return Traffic(jobs=data.jobs.counts(connection), deliveries=deliveries)


def deliveries_about(connection: Connection, about: Sequence[str]) -> Mapping[str, list[DeliveryShown]]:
    """Read the deliveries of results, by the result's id.

    Parameters
    ----------
    connection
        Where to read.
    about
        Ids of the results.
    """
    found: dict[str, list[DeliveryShown]] = defaultdict(list)
    wanted = select(*_DELIVERY).where(outbox.c.subject.in_(about)).order_by(outbox.c.destination, outbox.c.seq)
    for row in connection.execute(wanted):
        found[row.subject].append(_delivery(row, None))
    return found


def _deliveries(
    connection: Connection, status: str, paused: Mapping[str, datetime | None]
) -> tuple[DeliveryShown, ...]:
    wanted = select(*_DELIVERY).where(outbox.c.status == status).order_by(outbox.c.seq).limit(ROWS_OF_A_QUEUE)
    return tuple(_delivery(row, paused.get(row.destination)) for row in connection.execute(wanted))


def _delivery(row: Row[Any], paused_until: datetime | None) -> DeliveryShown:
    next_at = max((at for at in (row.next_at, paused_until) if at is not None), default=None)
    return DeliveryShown(
        id=row.id,
        destination=row.destination,
        status=row.status,
        attempts=row.attempts,
        receipt=row.receipt,
        category=row.problem_category,
        detail=row.problem_detail,
        created_at=row.created_at,
        changed_at=row.changed_at,
        result=row.subject,
        next_at=next_at,
    )


def _jobs(data: ConsoleData, connection: Connection, status: str) -> tuple[JobShown, ...]:
    return tuple(_job(job) for job in data.jobs.listing(connection, status, ROWS_OF_A_QUEUE))


def _job(job: Job) -> JobShown:
    return JobShown(
        id=job.id,
        step=job.step,
        about={name: str(value) for name, value in job.payload.items()},
        status=job.status,
        attempts=job.attempts,
        category=None if job.problem is None else str(job.problem.category),
        detail=None if job.problem is None else job.problem.detail,
        scheduled_at=job.scheduled_at,
        created_at=job.created_at,
        changed_at=job.changed_at,
    )


def _workers(data: ConsoleData, connection: Connection) -> tuple[WorkerShown, ...]:
    alive = {row.id for row in running(connection, data.clock.now())}
    working = select(workers).where(workers.c.threads > 0).order_by(workers.c.host, workers.c.pid)
    return tuple(
        WorkerShown(
            host=row.host, pid=row.pid, threads=row.threads, heartbeat_at=row.heartbeat_at, alive=row.id in alive
        )
        for row in connection.execute(working)
    )


def models_in(data: ConsoleData, connection: Connection) -> tuple[ModelShown, ...]:
    """Read every registered model version.

    Parameters
    ----------
    data
        The components that the console reads.
    connection
        Where to read.
    """
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for (name, version, kind), count in data.results.counts(connection).items():
        counts[name, version][kind] = count
    return tuple(
        _model(data, connection, row, counts[row.name, row.version]) for row in registry.everything(connection)
    )


def _model(data: ConsoleData, connection: Connection, row: ModelRow, counts: Mapping[str, int]) -> ModelShown:
    declared = data.catalogue.one(connection, row.name, row.version)
    predictions = counts.get("prediction", 0)
    return ModelShown(
        name=row.name,
        version=row.version,
        title=row.title,
        owner=row.owner,
        intended_use=row.intended_use,
        digest=row.digest,
        status=row.status,
        stopped=row.stopped,
        stop_reason=row.stop_reason,
        demonstration=declared is not None and declared.manifest.demonstration,
        added_at=row.added_at,
        changed_at=row.changed_at,
        changed_by=row.changed_by,
        predictions=predictions,
        refusals=sum(counts.values()) - predictions,
        card=None if declared is None else row.identity().card,
    )


def events_in(connection: Connection, wanted: Select[Any]) -> tuple[AuditRow, ...]:
    """Read events of the audit log.

    Parameters
    ----------
    connection
        Where to read.
    wanted
        Rows of the table ``audit_log``, in order.
    """
    return tuple(reading.audit_row(row, json.loads(row.event)) for row in connection.execute(wanted))
