"""A job that is parked owes a result: the reason is published in its place.

parked   job that cannot be done => job "publish-failure" in the same commit
"""

from dataclasses import replace
from typing import Final

from inference.contract import NotAvailable
from kernel.db import Transaction
from kernel.errors import Problem
from kernel.jobs import Job, Jobs
from service.flows.inputs.contract import InputRequest, NoInput, declined
from service.triggers import ASSESS
from service.triggers.enqueue import READ

PUBLISH_FAILURE: Final = "publish-failure"
"""The job step that publishes why a model was not run."""

OWING: Final = frozenset({ASSESS, READ})
"""The job steps that end in a result."""


def parked(tx: Transaction, jobs: Jobs, job: Job, problem: Problem) -> None:
    """Enqueue the job that publishes why a result is missing, if the parked job owed one.

    Parameters
    ----------
    tx
        The transaction that parks the job.
    jobs
        Where it is enqueued.
    job
        The parked job.
    problem
        Why it is parked.
    """
    if job.step in OWING:
        jobs.enqueue(tx, PUBLISH_FAILURE, {**job.payload, "failure": problem.detail}, lock=job.lock)


def failed(request: InputRequest, job: Job, sources: tuple[str, ...]) -> NotAvailable:
    """Return the outcome of a run whose job is parked.

    Parameters
    ----------
    request
        For which model, patient and time.
    job
        Of the step :data:`PUBLISH_FAILURE`.
    sources
        Versions of what the model would have read.
    """
    reason = f"the run of the model failed: {job.payload['failure']}"
    return replace(declined(request, NoInput(reason=reason, sources=sources)), kind="failed")
