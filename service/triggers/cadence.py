"""A model that runs again and again while a patient is admitted: a chain of jobs, one for each model and patient.

    repeat   job -> is the patient admitted, does the model serve? => jobs "assess", and the next job of the chain
    start    job -> who is admitted? => the first job of each chain that is missing

The chain is named by the model without its version, so that a new version takes over the chain of the one before. It
ends by itself: a tick that finds no admitted patient or no version that serves enqueues nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, cast
from urllib.parse import urlencode

import orjson
from sqlalchemy import Connection

from fhir_adapter.admission import ADMITTED_STATUSES, is_admitted
from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.parse import parse
from inference import registry
from inference.catalogue import Catalogue, DeclaredModel
from kernel.clock import Clock
from kernel.db import Database, Transaction
from kernel.jobs import Job, Jobs
from kernel.worker import Commit
from service.triggers import enqueue
from service.triggers.contract import Run

_MOST: Final = 1_000_000
"""More patients than any hospital admits."""


class CadenceFlow:
    """The two steps of a cadence.

    Parameters
    ----------
    database, clock
        As everywhere.
    catalogue
        The models that run.
    jobs
        Where the chain goes on.
    """

    def __init__(self, database: Database, clock: Clock, catalogue: Catalogue, jobs: Jobs) -> None:
        self._database = database
        self._clock = clock
        self._catalogue = catalogue
        self._jobs = jobs

    def repeat(self, job: Job) -> Commit:
        """Return the commit of one tick; it reads and writes in one transaction, so that no change falls between."""
        model, patient = (str(job.payload[key]) for key in ("model", "patient"))
        due = datetime.fromisoformat(str(job.payload["due"]))
        return lambda tx: self._tick(tx, model, patient, due)

    def start(self, job: Job) -> Commit:  # noqa: ARG002 - every step has this form
        """Return the commit that begins the chains that are missing; a chain that exists is left as it is."""
        with self._database.read() as connection:
            names = sorted({model.row.name for model in _with_cadence(self._catalogue.serving(connection))})
            patients = sorted(admitted_patients(connection)) if names else []
        now = self._clock.now()

        def commit(tx: Transaction) -> None:
            for name in names:
                for patient in patients:
                    enqueue.repeat(tx, self._jobs, name, patient, now)

        return commit

    def _tick(self, tx: Transaction, name: str, patient: str, due: datetime) -> None:
        enqueue.lock_cadence(tx, name, patient)
        models = [model for model in _with_cadence(self._catalogue.serving(tx.connection)) if model.row.name == name]
        if not models or not admitted_patients(tx.connection, patient):
            return
        for model in models:
            enqueue.assess(tx, self._jobs, model.row, Run(patient=patient))
        # A stopped model has just been enqueued once more: its result states the reason, and then the chain ends.
        running = [model for model in models if not _is_stopped(tx.connection, model)]
        if running:
            enqueue.repeat(tx, self._jobs, name, patient, next_due(due, self._clock.now(), cadence_of(running)))


def next_due(due: datetime, now: datetime, cadence: timedelta) -> datetime:
    """Return the first tick after ``now``: those that were missed during an outage are left out.

    Parameters
    ----------
    due
        When the present tick was due.
    now
        When it is carried out; not before ``due``.
    cadence
        Time between two ticks.
    """
    return due + ((now - due) // cadence + 1) * cadence


def cadence_of(models: Sequence[DeclaredModel]) -> timedelta:
    """Return the cadence of the version whose results are delivered, else of the newest.

    Parameters
    ----------
    models
        One version at least, each with a cadence, in order of registration.
    """
    leading = next((model for model in models if model.row.status == "active"), models[-1])
    return timedelta(hours=float(cast("Decimal", leading.manifest.trigger.cadence_hours)))


def admitted_patients(connection: Connection, patient: str | None = None) -> frozenset[str]:
    """Return the references of the patients who are admitted now.

    Parameters
    ----------
    connection
        Where to read.
    patient
        Look at this patient only.
    """
    criteria = {"status": ",".join(ADMITTED_STATUSES)} | ({} if patient is None else {"patient": patient})
    found = find(connection, replace(parse("Encounter", urlencode(criteria)), count=_MOST)).found
    return frozenset(one.patient for one in found if one.patient and is_admitted(orjson.loads(one.content)))


def _with_cadence(models: Iterable[DeclaredModel]) -> list[DeclaredModel]:
    return [model for model in models if model.manifest.trigger.cadence_hours is not None]


def _is_stopped(connection: Connection, model: DeclaredModel) -> bool:
    row = registry.get(connection, model.row.name, model.row.version)
    return row is None or row.stopped
