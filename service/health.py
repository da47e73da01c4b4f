"""Liveness, readiness and counts of waiting work, for load balancers and Prometheus."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from fastapi import APIRouter, Response
from sqlalchemy import Connection, func, select

from inference import registry
from kernel import backlog
from kernel.backlog import Backlog
from kernel.clock import Clock
from kernel.db import Database
from kernel.errors import Problem
from kernel.jobs import Jobs
from kernel.tables import audit_head, inbox
from kernel.tables import jobs as jobs_table
from kernel.worker import running
from service.identity_holds import IdentityHolds
from service.results import Results
from service.triggers.enqueue import ASK_LATER

MESSAGE_STATES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "older": "in which something was older than what was stored",
        "ambiguous": "of which the identifier was that of several Patients",
        "held": "that contradict what is known of their patient and wait for a person",
        "rejected": "of which a person decided that they are not of their patient",
        "unmatched": "that correct or delete an Observation that was not stored, and wait for a person",
        "parked": "that could not be stored, such as for identifiers that contradict each other, and wait for a person",
        "not-production": "for training or debugging, which were stored apart",
    }
)
"""State of a row of the inbox that is counted in the metrics and in ``/health/ready`` -> what it means."""

_MESSAGES: Final = (
    select(inbox.c.state, func.count()).where(inbox.c.state.in_(tuple(MESSAGE_STATES))).group_by(inbox.c.state)
)


@dataclass(frozen=True, kw_only=True)
class HealthServices:
    """The components that health and metrics read."""

    clock: Clock
    database: Database
    jobs: Jobs
    results: Results
    holds: IdentityHolds
    heartbeat: Callable[[], object]
    """Saves a heartbeat of this process, or raises a Problem."""


def health_router(services: HealthServices) -> APIRouter:
    """Return the routes ``/health/live``, ``/health/ready`` and ``/metrics``.

    Parameters
    ----------
    services
        The components that they read.
    """
    router = APIRouter()

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        """Answer 200 while the process runs."""
        return {"status": "pass"}

    @router.get("/health/ready")
    def ready(response: Response) -> dict[str, Any]:
        """Answer 200 when a heartbeat was saved durably, 503 otherwise; warn when nothing runs jobs."""
        try:
            services.heartbeat()
        except Problem as problem:
            response.status_code = 503
            return {"status": "fail", "output": problem.detail}
        with services.database.read() as connection:
            waiting = services.jobs.counts(connection)
            found = backlog.backlogs(connection, services.clock.now())
            models = {row.name: "stopped" if row.stopped else row.status for row in registry.serving(connection)}
            future = _values_in_the_future(connection)
            in_doubt = services.holds.open_count(connection)
            messages = _counted(connection)
            workers = len(running(connection, services.clock.now()))
        waits = not workers or waiting.get("parked") or future or in_doubt or messages.get("unmatched")
        warns = waits or any(one.needs_attention for one in found)
        deliveries = {one.destination: _state(one, services.clock.now()) for one in found}
        state: dict[str, Any] = {"status": "warn" if warns else "pass", "workers": workers, "jobs": waiting}
        state |= {"deliveries": deliveries, "models": models}
        return state | {"values_in_the_future": future, "identity_in_doubt": in_doubt, "messages": messages}

    @router.get("/metrics")
    def metrics() -> Response:
        """Return counts in the Prometheus text format; labels are constant names, never a peer's data."""
        return Response("\n".join(_lines(services)) + "\n", media_type="text/plain; version=0.0.4")

    return router


def _counted(connection: Connection) -> dict[str, int]:
    """Return how many messages there are in each state of :data:`MESSAGE_STATES` that has any."""
    return {str(state): int(count) for state, count in connection.execute(_MESSAGES)}


def _values_in_the_future(connection: Connection) -> int:
    """Return how many models wait for a value of a patient whose time lies in the future: a clock is wrong."""
    waits = jobs_table.c.step == ASK_LATER, jobs_table.c.status == "waiting"
    return int(connection.execute(select(func.count()).select_from(jobs_table).where(*waits)).scalar_one())


def _state(one: Backlog, now: datetime) -> dict[str, Any]:
    counts = {"pending": one.counts.get("pending", 0), "parked": one.counts.get("parked", 0)}
    ages = {f"oldest_{status}_s": _age(at, now) for status, at in one.oldest.items()}
    paused = {} if one.paused_until is None else {"paused_until": one.paused_until.isoformat()}
    said = one.held_by if one.paused_until is None else one.problem
    output = {} if said is None else {"output": said}
    return counts | {"held": one.held, "overdue": one.overdue} | ages | paused | output


def _age(at: datetime, now: datetime) -> int:
    return max(0, int((now - at).total_seconds()))


def _ages(found: Iterable[Backlog], now: datetime) -> Iterable[str]:
    found = list(found)
    yield "# HELP ausculta_deliveries_overdue Deliveries that wait too long, by destination."
    yield "# TYPE ausculta_deliveries_overdue gauge"
    for one in found:
        yield f'ausculta_deliveries_overdue{{destination="{one.destination}"}} {one.overdue}'
    yield "# HELP ausculta_delivery_oldest_seconds Age of the oldest delivery, by destination and status."
    yield "# TYPE ausculta_delivery_oldest_seconds gauge"
    for one in found:
        for status in ("pending", "parked"):
            age = _age(one.oldest.get(status, now), now)
            yield f'ausculta_delivery_oldest_seconds{{destination="{one.destination}",status="{status}"}} {age}'
    yield "# HELP ausculta_destination_paused Whether nothing is sent to a destination for now."
    yield "# TYPE ausculta_destination_paused gauge"
    for one in found:
        yield f'ausculta_destination_paused{{destination="{one.destination}"}} {int(one.paused_until is not None)}'


def _messages(states: Mapping[str, int]) -> Iterable[str]:
    for state, meaning in MESSAGE_STATES.items():
        name = f"ausculta_messages_{state.replace('-', '_')}"
        yield f"# HELP {name} HL7 v2 messages {meaning}."
        yield f"# TYPE {name} gauge"
        yield f"{name} {states.get(state, 0)}"


def _lines(services: HealthServices) -> Iterable[str]:
    with services.database.read() as connection:
        jobs = services.jobs.counts(connection)
        now = services.clock.now()
        found = backlog.backlogs(connection, now)
        counted: Counter[tuple[str, str]] = Counter()
        for (model, _version, kind), count in services.results.counts(connection).items():
            counted[model, kind] += count
        states = _counted(connection)
        future = _values_in_the_future(connection)
        in_doubt = services.holds.open_count(connection)
        workers = len(running(connection, now))
        audited = connection.execute(select(audit_head.c.size)).scalar() or 0
    yield "# HELP ausculta_jobs Jobs by status."
    yield "# TYPE ausculta_jobs gauge"
    for status in ("waiting", "running", "parked"):
        yield f'ausculta_jobs{{status="{status}"}} {jobs.get(status, 0)}'
    yield "# HELP ausculta_workers Processes that run jobs."
    yield "# TYPE ausculta_workers gauge"
    yield f"ausculta_workers {workers}"
    yield "# HELP ausculta_values_in_the_future Models that wait for a value whose time lies in the future."
    yield "# TYPE ausculta_values_in_the_future gauge"
    yield f"ausculta_values_in_the_future {future}"
    yield "# HELP ausculta_identity_in_doubt Contradictions about a patient's identity that wait for a person."
    yield "# TYPE ausculta_identity_in_doubt gauge"
    yield f"ausculta_identity_in_doubt {in_doubt}"
    yield "# HELP ausculta_deliveries Deliveries by destination and status."
    yield "# TYPE ausculta_deliveries gauge"
    for one in found:
        for status, count in sorted(one.counts.items()):
            yield f'ausculta_deliveries{{destination="{one.destination}",status="{status}"}} {count}'
    yield from _ages(found, now)
    yield "# HELP ausculta_results Results by model and kind."
    yield "# TYPE ausculta_results gauge"
    for (model, kind), count in sorted(counted.items()):
        yield f'ausculta_results{{model="{model}",kind="{kind}"}} {count}'
    yield from _messages(states)
    yield "# HELP ausculta_audit_events Events in the audit log."
    yield "# TYPE ausculta_audit_events counter"
    yield f"ausculta_audit_events {audited}"
