"""The composition root: every component is built here, in order, from one settings object, and nowhere else.

:func:`build` hands each component what it needs by argument; :meth:`Application.close` stops them in reverse.
"""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, timedelta
from enum import Enum
from functools import partial
from importlib.metadata import version
from types import MappingProxyType

from dicom_node.archive import Archive
from fhir_adapter.bulk.exports import EXPORT, REMOVE, Exports, failed
from fhir_adapter.patient_identity import IdentifierConventions, PatientIdentities
from fhir_adapter.rest.backend import Backend
from fhir_adapter.store.store import Store
from fhir_adapter.store.upgrade import prepare_database
from fhir_adapter.store.validate import Validator
from fhir_adapter.store.write import StoreWriter
from fhir_adapter.subscriptions.observer import NOTIFY, SUBSCRIPTION, Subscriptions
from fhir_adapter.subscriptions.secrets import sealer
from inference.catalogue import Catalogue
from inference.loading import load_registered
from inference.model_files import MODEL_FILES, ModelFiles
from inference.runtime import Runtime
from kernel.blobs import Blobs
from kernel.clock import Clock, Ids, RandomIds, SystemClock
from kernel.db import Database, Transaction
from kernel.errors import Problem
from kernel.inbox import Inbox
from kernel.jobs import Job, Jobs
from kernel.outbox import STEP as DELIVER
from kernel.outbox import Outbox
from kernel.worker import Step, Worker
from privacy.audit import AuditLog
from privacy.authorize import Authorizer, LoopbackAuthorizer
from privacy.checkpoints import FILE as CHECKPOINT_FILE
from privacy.checkpoints import Checkpoints
from privacy.keys import KeyRing
from privacy.pseudonyms import Pseudonyms
from service.addresses import endpoints, fhir_url, remote_hosts
from service.core import CoreServices, Models
from service.delivery import DeliveryFlow
from service.destinations import (
    ConfiguredDestination,
    Destination,
    SiteContext,
    build_destination,
    check_names,
    read_destinations,
)
from service.destinations.dicom import DicomSettings
from service.destinations.fhir import FhirSettings
from service.destinations.mllp import MllpSettings
from service.flows import hl7_message, imaging_study, owed
from service.flows.assess import AssessFlow
from service.flows.export import ExportFlow
from service.flows.hl7_message import Hl7MessageFlow
from service.flows.imaging_study import ImagingStudyFlow
from service.flows.notify import AT_A_TIME as SUBSCRIBERS
from service.flows.notify import NotifyFlow
from service.flows.patients import PatientMatching
from service.flows.publish import Publisher
from service.flows.result_context import ServerContext
from service.identity_holds import IdentityHolds
from service.operations import OperationContext
from service.operations.profiles import PROFILES
from service.registration import register_models
from service.results import Results
from service.settings import Settings
from service.triggers import ASSESS, Triggers
from service.triggers.cadence import CadenceFlow
from service.triggers.enqueue import ASK_LATER, REPEAT, SETTLE, START_CADENCES, start_cadences


class Role(Enum):
    """What a process does with an application."""

    LISTEN = "listen"
    #: Sign the audit log; one process of a server does.
    SIGN = "sign"
    WORK = "work"


@dataclass(frozen=True, kw_only=True)
class Application(CoreServices):
    """Every component of a running Ausculta, but for its listeners (``service.listeners``)."""

    settings: Settings
    fhir: Backend
    keys: KeyRing
    pseudonyms: Pseudonyms
    checkpoints: Checkpoints
    archive: Archive
    catalogue: Catalogue
    runtime: Runtime
    destinations: Mapping[str, Destination]
    hl7_messages: Hl7MessageFlow
    imaging_studies: ImagingStudyFlow
    worker: Worker
    authorizer: Authorizer
    operations: OperationContext
    notifications: NotifyFlow

    def start(self, *roles: Role, loaded: Callable[[], None] = lambda: None) -> None:
        """Start what the process does: the worker, the signing of the audit log, the loading of models.

        The state of a listener is left alone: it belongs to the process that opens the listener.

        Parameters
        ----------
        *roles
            What this process does; everything when none is named.
        loaded
            Called in another thread when what the first requests need is loaded.
        """
        wanted = frozenset(roles or Role)
        if Role.SIGN in wanted:
            self.checkpoints.start()
        if Role.WORK in wanted:
            self.database.write(lambda tx: start_cadences(tx, self.jobs))
            self.database.write(self.notifications.start)
        self.worker.start()
        threading.Thread(target=self._warm_up, args=(wanted, loaded), name="warm-up", daemon=True).start()

    def _warm_up(self, roles: Set[Role], loaded: Callable[[], None]) -> None:
        """Load what the first message and the first patient would otherwise wait for."""
        self.writer.warm_up()
        if Role.WORK in roles:
            self.runtime.warm_up()
        loaded()

    def close(self) -> None:
        """Finish the running jobs and close every component, last built first."""
        self.worker.stop()
        self.runtime.close()
        for destination in self.destinations.values():
            destination.close()
        self.checkpoints.stop()
        self.database.close()


def prepare(settings: Settings, *, clock: Clock | None = None) -> None:
    """Make ready what the processes of a server share: the folder, the keys, the schema, the models; safe to repeat.

    Parameters
    ----------
    settings
        Checked settings.
    clock
        For tests; the system's otherwise.

    Raises
    ------
    Problem
        When the data folder, the key file or the database cannot be used.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    KeyRing.open_or_create(settings.data_dir / "keys.json")
    database = Database.open(settings.database)
    try:
        prepare_database(database)
        model_files = ModelFiles(settings.data_dir / MODEL_FILES)
        register_models(database, model_files, settings.model_dirs, clock or SystemClock())
    finally:
        database.close()


def build(
    settings: Settings, *, clock: Clock | None = None, ids: Ids | None = None, authorizer: Authorizer | None = None
) -> Application:
    """Prepare, and build the application: :func:`prepare` and :func:`compose`.

    Parameters
    ----------
    settings
        Checked settings.
    clock, ids
        For tests; the system's otherwise.
    authorizer
        Decides who may do what; the policy of the setting ``AUTH`` otherwise.

    Returns
    -------
    Application
        Built; :meth:`Application.start` makes it work.

    Raises
    ------
    Problem
        When the data folder, the key file or the database cannot be used.
    """
    prepare(settings, clock=clock)
    return compose(settings, clock=clock, ids=ids, authorizer=authorizer)


def compose(
    settings: Settings, *, clock: Clock | None = None, ids: Ids | None = None, authorizer: Authorizer | None = None
) -> Application:
    """Build the application on what :func:`prepare` has made ready.

    Parameters
    ----------
    settings, clock, ids, authorizer
        As for :func:`build`.

    Raises
    ------
    Problem
        When the key file or the database cannot be used.
    """
    clock, ids, authorizer = clock or SystemClock(), ids or RandomIds(), authorizer or LoopbackAuthorizer()
    keys = KeyRing.open_or_create(settings.data_dir / "keys.json")
    pseudonyms = Pseudonyms(keys.derive("pseudonyms"))
    database = Database.open(settings.database)
    model_files = ModelFiles(settings.data_dir / MODEL_FILES)

    catalogue = Catalogue()
    core = build_core_services(settings, keys, database, catalogue, clock, ids)
    archive = Archive(database, core.blobs, clock, listener=dicom_listener(settings))
    load = partial(load_registered, remote_hosts=remote_hosts(settings))
    runtime = Runtime(database, model_files, device=settings.device, load=load)
    models = Models(catalogue=catalogue, runtime=runtime, deadline_s=settings.model_deadline_s)

    destinations = build_destinations(settings)
    context = ServerContext(clock=clock, software_version=version("ausculta"), zone=core.zone)
    publisher = Publisher(core, list(destinations.values()), context)
    identities = PatientIdentities(identifier_conventions(settings), pseudonyms)
    patients = PatientMatching(core, identities)
    hl7_messages = Hl7MessageFlow(core, pseudonyms, identities, settings.time_zone)
    imaging_studies = ImagingStudyFlow(core, archive, models, patients, publisher, quiet_s=settings.dicom_study_quiet_s)
    cadences = CadenceFlow(database, clock, catalogue, core.jobs)
    assess = AssessFlow(core, models, publisher)
    notifications = NotifyFlow(
        core, keys.cipher(), base=fhir_url(settings), retry_days=settings.subscription_retry_days
    )
    exports = Exports(core.jobs, clock, ids, settings.data_dir / "exports", keys.cipher())
    exporting = ExportFlow(database, core.store, exports, core.writer.types)
    steps: dict[str, Step] = {
        hl7_message.CONVERT: hl7_messages.convert,
        imaging_study.COMPLETE: imaging_studies.complete,
        imaging_study.READ: imaging_studies.read,
        ASSESS: assess.assess,
        ASK_LATER: assess.ask,
        SETTLE: assess.ask,
        REPEAT: cadences.repeat,
        START_CADENCES: cadences.start,
        owed.PUBLISH_FAILURE: lambda job: (imaging_studies.read if "study" in job.payload else assess.assess)(job),
        EXPORT: exporting.export,
        REMOVE: exporting.remove,
        DELIVER: DeliveryFlow(core, destinations, refusals_in_a_row=settings.refusals_in_a_row).deliver,
        NOTIFY: notifications.notify,
    }
    return Application(
        **vars(core),
        settings=settings,
        fhir=Backend(database, core.store, core.writer, core.audit, authorizer, clock, exports=exports),
        keys=keys,
        pseudonyms=pseudonyms,
        checkpoints=Checkpoints(database, core.audit, settings.data_dir / CHECKPOINT_FILE),
        archive=archive,
        catalogue=catalogue,
        runtime=runtime,
        destinations=destinations,
        hl7_messages=hl7_messages,
        imaging_studies=imaging_studies,
        worker=build_worker(core, steps, settings.worker_threads, receivers=len(destinations) + SUBSCRIBERS),
        authorizer=authorizer,
        operations=operation_context(settings, core, model_files, authorizer),
        notifications=notifications,
    )


def build_worker(core: CoreServices, steps: Mapping[str, Step], threads: int, *, receivers: int = 0) -> Worker:
    """Build the worker; an HL7 v2 message whose conversion is parked is marked so, and a missing result is explained.

    Parameters
    ----------
    core
        Whose jobs it runs.
    steps
        Step name -> what runs it.
    threads
        How many jobs run at a time; none at all with 0.
    receivers
        How many destinations there are, and subscribers that are sent something at a time. Each may occupy one thread
        while it does not answer, so each adds one.
    """
    threads = threads and threads + receivers

    def parked(tx: Transaction, job: Job, problem: Problem) -> None:
        if job.step == hl7_message.CONVERT:
            core.inbox.mark(tx, str(job.payload["message"]), "parked")
        if job.step == EXPORT:
            failed(tx, core.jobs, str(job.payload["export"]), core.clock.now())
        owed.parked(tx, core.jobs, job, problem)

    return Worker(core.database, core.jobs, steps, core.clock, core.ids, threads=threads, on_parked=parked)


def operation_context(
    settings: Settings, core: CoreServices, model_files: ModelFiles, authorizer: Authorizer
) -> OperationContext:
    """Return what operations use.

    Parameters
    ----------
    settings
        Say which servers models may call.
    core
        The components that they change and record with.
    model_files
        The files of registered models.
    authorizer
        Decides who may carry them out.
    """
    return OperationContext(
        clock=core.clock,
        database=core.database,
        audit=core.audit,
        jobs=core.jobs,
        outbox=core.outbox,
        model_files=model_files,
        authorizer=authorizer,
        inbox=core.inbox,
        holds=core.holds,
        remote_hosts=remote_hosts(settings),
    )


def identifier_conventions(settings: Settings) -> IdentifierConventions:
    """Return what the settings say about identifiers."""
    return IdentifierConventions(
        default_authority=settings.default_assigning_authority,
        systems=settings.identifier_systems,
        rank=settings.identifier_rank,
    )


def build_core_services(
    settings: Settings, keys: KeyRing, database: Database, catalogue: Catalogue, clock: Clock, ids: Ids
) -> CoreServices:
    """Build the components that every flow uses.

    Parameters
    ----------
    settings
        Checked settings; gives the data folder in which blobs are kept.
    keys
        Encrypts jobs, messages, deliveries and blobs, and signs the audit log.
    database
        Migrated to the current schema.
    catalogue
        The registered models; decides which resources trigger which model.
    clock, ids
        Current time and new identifiers.
    """
    cipher = keys.cipher()
    jobs, audit = Jobs(clock, ids, cipher), AuditLog(keys, clock, ids)
    results, store, blobs = Results(), Store(), Blobs(settings.data_dir / "blobs", cipher, database)
    triggers = Triggers(catalogue, jobs, results, store, settle_s=settings.settle_s)
    subscriptions = Subscriptions(jobs, endpoints(settings), clock, fhir_url(settings))
    return CoreServices(
        clock=clock,
        ids=ids,
        database=database,
        blobs=blobs,
        jobs=jobs,
        inbox=Inbox(clock, ids, cipher),
        outbox=Outbox(clock, ids, cipher, jobs, blobs),
        audit=audit,
        store=store,
        writer=StoreWriter(
            Validator(settings.data_dir / PROFILES),
            audit,
            (triggers, subscriptions),
            clock,
            ids,
            stored_as={SUBSCRIPTION: sealer(cipher)},
        ),
        subscriptions=subscriptions,
        results=results,
        zone=settings.time_zone or UTC,
        holds=IdentityHolds(clock, ids, cipher),
        clock_tolerance=timedelta(seconds=settings.clock_tolerance_s),
        identifier_order=identifier_conventions(settings).order(),
    )


def build_destinations(settings: Settings) -> Mapping[str, Destination]:
    """Build the destinations that the settings name: the shortcuts first, then the ``[[destination]]`` tables.

    Raises
    ------
    Problem
        ``incorrect``, naming the destination and the key that is missing or malformed, or the name that is not unique.
    """
    site = SiteContext(
        public_url=fhir_url(settings),
        ae_title=settings.dicom_ae_title,
        zone=settings.time_zone or UTC,
        authorities=_authorities(settings.identifier_systems),
    )
    configured = (*_shortcuts(settings), *read_destinations(settings.destination))
    check_names(configured)
    return MappingProxyType({one.name: build_destination(one, site) for one in configured})


def _authorities(systems: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
    names: dict[str, list[str]] = {}
    for name, system in systems.items():
        names.setdefault(system, []).append(name)
    return names


def _shortcuts(settings: Settings) -> Iterator[ConfiguredDestination]:
    """Yield the destinations that have a setting of their own: ``ehr``, ``engine`` and ``pacs``."""
    if settings.ehr_url:
        yield ConfiguredDestination(name="ehr", kind="fhir", settings=FhirSettings(url=settings.ehr_url))
    if settings.interface_engine is not None:
        engine = settings.interface_engine
        yield ConfiguredDestination(
            name="engine", kind="mllp", settings=MllpSettings(host=engine.host, port=engine.port)
        )
    if settings.pacs is not None:
        pacs = settings.pacs
        yield ConfiguredDestination(
            name="pacs",
            kind="dicom",
            settings=DicomSettings(host=pacs.host, port=pacs.port, ae_title=pacs.ae_title),
        )


def dicom_listener(settings: Settings) -> str:
    """Return the name of the DICOM listener among all that share the database: machine, host and port."""
    return f"{socket.gethostname()}/{settings.dicom_host}:{settings.dicom_port}"
