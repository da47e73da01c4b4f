"""The components that every flow uses: time, ids, the database, inbox, outbox and jobs, the audit, the FHIR store."""

import time
from dataclasses import dataclass, replace
from datetime import timedelta, tzinfo

from fhir_adapter.patient_identity import Order
from fhir_adapter.store.store import Store
from fhir_adapter.store.write import StoreWriter
from fhir_adapter.subscriptions.observer import Subscriptions
from inference.catalogue import Catalogue, DeclaredModel
from inference.contract import ModelInput, Outcome
from inference.runtime import Runtime
from kernel.blobs import Blobs
from kernel.clock import Clock, Ids
from kernel.db import Database
from kernel.inbox import Inbox
from kernel.jobs import Jobs
from kernel.outbox import Outbox
from privacy.audit import AuditLog
from service.identity_holds import IdentityHolds
from service.results import Results


@dataclass(frozen=True, kw_only=True)
class CoreServices:
    """The components that more than one flow needs."""

    clock: Clock
    ids: Ids
    database: Database
    blobs: Blobs
    jobs: Jobs
    inbox: Inbox
    outbox: Outbox
    audit: AuditLog
    store: Store
    writer: StoreWriter
    results: Results
    subscriptions: Subscriptions
    zone: tzinfo
    """Time zone of the site: of DICOM times that state no offset."""
    holds: IdentityHolds
    clock_tolerance: timedelta
    """How far a sender's time may lie in the future and still count as now."""
    identifier_order: Order
    """Which identifiers of a patient are trusted most."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """The registered models and the runtime that runs them."""

    catalogue: Catalogue
    runtime: Runtime
    deadline_s: float
    """How long a model may take."""

    def infer(self, model: DeclaredModel, model_input: ModelInput, *, urgent: bool = False) -> Outcome:
        """Run one version of a model; one that is replaced meanwhile completes what began with it.

        Parameters
        ----------
        model
            The version, as it was when the work began.
        model_input
            What it is given.
        urgent
            Whether it runs before what is not.

        Raises
        ------
        Problem
            As :meth:`inference.runtime.Runtime.predict` does.
        """
        row, started = model.row, time.perf_counter()
        outcome = self.runtime.predict(
            row.name,
            model_input,
            version=row.version,
            deadline_s=self.deadline_s,
            urgent=urgent,
            begun_as=row.status,
        )
        return replace(outcome, latency_ms=(time.perf_counter() - started) * 1000)
