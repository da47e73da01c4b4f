"""The jobs that triggers write; ``service.operations.results`` alone writes one of them too, to ask a model again."""

from datetime import datetime
from typing import Final

from inference.catalogue import Catalogue
from inference.registry import ModelRow
from kernel.db import Transaction
from kernel.jobs import Due, Jobs
from service.flows.lanes import lane_of
from service.triggers.contract import Run

ASSESS: Final = "assess"
"""The job step that runs a model on what is stored of a patient (``service.flows.assess``)."""

READ: Final = "read-study"
"""The job step that runs a model on an imaging study (``service.flows.imaging_study``)."""

REPEAT: Final = "scheduled-assess"
"""The job step that runs a model at its cadence (``service.triggers.cadence.CadenceFlow.repeat``)."""

ASK_LATER: Final = "ask-later"
"""The job step that asks a model when a value that lay in the future can be used (``service.flows.assess``)."""

SETTLE: Final = "settle"
"""The job step that asks a model when the values that came one by one have had time to arrive
(``service.flows.assess``)."""

START_CADENCES: Final = "start-cadences"
"""The job step that begins the cadence of patients who are admitted (``CadenceFlow.start``)."""


def assess(tx: Transaction, jobs: Jobs, model: ModelRow, run: Run) -> None:
    """Enqueue one run of a model version; while one waits for the same patient and document, another adds nothing.

    The run of a model in shadow goes to the background lane (:mod:`service.flows.lanes`).

    Parameters
    ----------
    tx
        The transaction of the change that causes it.
    jobs
        Where it is enqueued.
    model
        The version that runs.
    run
        What it runs on.
    """
    payload = _payload(model, run)
    jobs.enqueue(tx, ASSESS, payload, **lane_of(model, ":".join((ASSESS, *payload.values()))))


def state_doubt(tx: Transaction, jobs: Jobs, model: ModelRow, run: Run, hold: str) -> None:
    """Enqueue one run that states that the patient's identity is in doubt, in the order of the model's other runs.

    Parameters
    ----------
    tx
        The transaction that holds what is in doubt.
    jobs
        Where it is enqueued.
    model
        The version that states it.
    run
        What it would have run on.
    hold
        Id of the hold.
    """
    payload = _payload(model, run)
    lane = lane_of(model, ":".join((ASSESS, *payload.values())))
    lane["queueing_lock"] += f":{hold}"
    jobs.enqueue(tx, ASSESS, payload | {"doubt": hold}, **lane)


def _payload(model: ModelRow, run: Run) -> dict[str, str]:
    payload = {"model": model.name, "version": model.version, "patient": run.patient}
    return payload if run.document is None else payload | {"document": run.document}


def read_again(tx: Transaction, jobs: Jobs, model: ModelRow, StudyInstanceUID: str) -> None:
    """Enqueue one run of a model version on a study that it has read before.

    Parameters
    ----------
    tx
        The transaction of the change that causes it.
    jobs
        Where it is enqueued.
    model
        The version that runs.
    StudyInstanceUID
        The study.
    """
    payload = {"model": model.name, "version": model.version, "study": StudyInstanceUID}
    jobs.enqueue(tx, READ, payload, **lane_of(model, ":".join((READ, *payload.values()))))


def ask_later(tx: Transaction, jobs: Jobs, model: ModelRow, run: Run, due: datetime) -> None:
    """Enqueue the job that asks a model version later; of several times the earliest counts.

    It has a lock of its own: a job that waits for its time must not hold up the runs that are due.

    Parameters
    ----------
    tx, jobs, model, run
        As for :func:`assess`.
    due
        When the model is to be asked.
    """
    _at(tx, jobs, ASK_LATER, model, run, due)


def settle(tx: Transaction, jobs: Jobs, model: ModelRow, run: Run, due: datetime) -> None:
    """Enqueue the job that asks a model version when its values have settled; the time counts from the first of them.

    Parameters
    ----------
    tx, jobs, model, run
        As for :func:`assess`.
    due
        When the model is to be asked.
    """
    _at(tx, jobs, SETTLE, model, run, due)


def _at(tx: Transaction, jobs: Jobs, step: str, model: ModelRow, run: Run, due: datetime) -> None:
    payload = {"model": model.name, "version": model.version, "patient": run.patient}
    if run.document is not None:
        payload["document"] = run.document
    key = ":".join((step, *payload.values()))
    jobs.enqueue(tx, step, payload, lock=key, queueing_lock=key, due=Due(due, "earlier"))


def repeat(tx: Transaction, jobs: Jobs, model: str, patient: str, due: datetime) -> None:
    """Enqueue the next tick of a cadence, unless one waits or runs.

    Parameters
    ----------
    tx
        Any transaction.
    jobs
        Where it is enqueued.
    model
        Name of the model: the versions that serve are looked up at the tick.
    patient
        Reference of the patient. Two encounters of one patient share a cadence.
    due
        When the tick is due; the ticks that follow are counted from this time.
    """
    key = lock_cadence(tx, model, patient)
    if jobs.is_pending(tx.connection, key):
        return
    payload = {"model": model, "patient": patient, "due": due.isoformat()}
    jobs.enqueue(tx, REPEAT, payload, lock=key, queueing_lock=key, due=Due(due))


def lock_cadence(tx: Transaction, model: str, patient: str) -> str:
    """Lock a cadence until the transaction ends, and return the lock of its jobs.

    Whoever decides whether a cadence goes on holds this lock, so that a tick that ends it and a change that begins it
    never miss each other. It is taken before the locks of other jobs.

    Parameters
    ----------
    tx
        Any transaction.
    model
        Name of the model.
    patient
        Reference of the patient.
    """
    key = f"{REPEAT}:{model}:{patient}"
    tx.lock(key)
    return key


def start_cadences(tx: Transaction, jobs: Jobs) -> None:
    """Enqueue a look at the patients who are admitted, when a model that serves has a cadence.

    Parameters
    ----------
    tx
        The transaction after which a model may serve that did not before.
    jobs
        Where it is enqueued.
    """
    models = Catalogue().serving(tx.connection)
    if any(model.manifest.trigger.cadence_hours is not None for model in models):
        jobs.enqueue(tx, START_CADENCES, {}, lock=START_CADENCES, queueing_lock=START_CADENCES)
