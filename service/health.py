"""Liveness, readiness and counts of waiting work, for load balancers and Prometheus."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import select

from inference import registry
from kernel.db import Database
from kernel.errors import Problem
from kernel.jobs import Jobs
from kernel.outbox import Outbox
from kernel.tables import audit_head
from service.results import Results


@dataclass(frozen=True, kw_only=True)
class HealthServices:
    """The components that health and metrics read."""

    database: Database
    jobs: Jobs
    outbox: Outbox
    results: Results
    heartbeat: Callable[[], object]
    """Saves the worker's heartbeat, or raises a Problem."""


def health_router(services: HealthServices) -> APIRouter:
    """Return the routes ``/health/live``, ``/health/ready`` and ``/metrics``.

    Parameters
    ----------
    services
        The components that they read.
    """
    router = APIRouter()

    @router.get("/health/live")
    def live() -> dict[str, str]:
        """Answer 200 while the process runs."""
        return {"status": "pass"}

    @router.get("/health/ready")
    def ready(response: Response) -> dict[str, Any]:
        """Answer 200 when the worker's heartbeat was saved durably, 503 otherwise."""
        try:
            services.heartbeat()
        except Problem as problem:
            response.status_code = 503
            return {"status": "fail", "output": problem.detail}
        with services.database.read() as connection:
            waiting = services.jobs.counts(connection)
            models = {row.name: "stopped" if row.stopped else row.status for row in registry.serving(connection)}
        return {"status": "warn" if waiting.get("parked") else "pass", "jobs": waiting, "models": models}

    @router.get("/metrics")
    def metrics() -> Response:
        """Return counts in the Prometheus text format; labels are constant names, never a peer's data."""
        return Response("\n".join(_lines(services)) + "\n", media_type="text/plain; version=0.0.4")

    return router


def _lines(services: HealthServices) -> Iterable[str]:
    with services.database.read() as connection:
        jobs = services.jobs.counts(connection)
        deliveries = services.outbox.counts(connection)
        counted: Counter[tuple[str, str]] = Counter()
        for (model, _version, kind), count in services.results.counts(connection).items():
            counted[model, kind] += count
        audited = connection.execute(select(audit_head.c.size)).scalar() or 0
    yield "# HELP ausculta_jobs Jobs by status."
    yield "# TYPE ausculta_jobs gauge"
    for status in ("waiting", "running", "parked"):
        yield f'ausculta_jobs{{status="{status}"}} {jobs.get(status, 0)}'
    yield "# HELP ausculta_deliveries Deliveries by destination and status."
    yield "# TYPE ausculta_deliveries gauge"
    for (destination, status), count in sorted(deliveries.items()):
        yield f'ausculta_deliveries{{destination="{destination}",status="{status}"}} {count}'
    yield "# HELP ausculta_results Results by model and kind."
    yield "# TYPE ausculta_results gauge"
    for (model, kind), count in sorted(counted.items()):
        yield f'ausculta_results{{model="{model}",kind="{kind}"}} {count}'
    yield "# HELP ausculta_audit_events Events in the audit log."
    yield "# TYPE ausculta_audit_events counter"
    yield f"ausculta_audit_events {audited}"
