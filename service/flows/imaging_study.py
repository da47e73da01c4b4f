"""DICOM in: an instance is kept and answered; a study at rest is read by the models of its modality.

accept    instance => file, index row, the study's one waiting job, pushed back every few seconds; 0x0000
complete  job -> is the study at rest? => revision, one read job per model; else the same job when it may be
read      job -> the declared input -> runtime.predict -> publish => resources, deliveries
fail      job that was parked -> publish => the reason in the place of the result
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection

from dicom_node.archive import Archive, Arrival, StoredInstance
from dicom_node.encoding import read_index_attributes
from dicom_node.listener.association import ReceivedInstance
from dicom_node.results import MADE_CLASSES, made_of
from dicom_node.study import StudyState, describe, open_revision, study_state
from fhir_adapter.facts import subject as subject_of
from inference.catalogue import DeclaredModel
from inference.contract import ModelInput, NotAvailable, Outcome
from kernel.blobs import Digest
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.jobs import Due, Job, Priority
from kernel.log import get_logger
from kernel.worker import Commit
from privacy import balp
from privacy.principal import SERVER
from service.core import CoreServices, Models
from service.destinations.contract import ModelResult
from service.flows.identity_doubt import doubt_of_study, hold_study
from service.flows.imaging_context import imaging_context
from service.flows.inputs import read_input
from service.flows.inputs.contract import InputRequest, NoInput, StudyFiles, declined, source_of
from service.flows.lanes import lane_of
from service.flows.owed import PUBLISH_FAILURE, failed
from service.flows.patients import PatientMatching
from service.flows.publish import Publisher
from service.flows.set_aside import with_choice, with_set_aside
from service.results import LIVE
from service.triggers import enqueue

COMPLETE: Final = "complete-study"
READ: Final = enqueue.READ
"""The job steps of this flow."""

STALE_S: Final = 180.0
"""An association that brought nothing for so many seconds counts as ended; the listener itself ends it well before."""

_FORMER: Final = 20
"""Newest results about a study among which those of a former patient are looked for."""


class ImagingStudyFlow:
    """The path of a study.

    Parameters
    ----------
    core
        What every flow uses.
    archive
        Where instances lie.
    models
        The models that run.
    patients
        Finds or creates the patient a study belongs to.
    publisher
        Publishes the results.
    quiet_s
        How long a study rests before it is read.
    """

    def __init__(
        self,
        core: CoreServices,
        archive: Archive,
        models: Models,
        patients: PatientMatching,
        publisher: Publisher,
        *,
        quiet_s: float,
    ) -> None:
        self._core = core
        self._archive = archive
        self._models = models
        self._patients = patients
        self._publisher = publisher
        self._quiet_s = quiet_s

    def digest(self) -> Digest:
        """Return what computes the address of a DICOM file while it arrives."""
        return self._archive.digest()

    def accept(self, received: ReceivedInstance) -> None:
        """Keep an instance durably; the DICOM listener answers 0x0000 when this returns.

        An object that this server made, and that a PACS sends back, is acknowledged and not kept.

        Raises
        ------
        Problem
            As :meth:`dicom_node.archive.Archive.add` does.
        """
        now = self._core.clock.now()
        if self._made_here(received):
            self._core.database.write(lambda tx: self._record(tx, received, now, "DICOM instance of our own"))
            return

        def on_commit(tx: Transaction, arrival: Arrival) -> None:
            stored = arrival.stored
            if not arrival.is_expected:  # else the study's job waits, and finds the instance
                self._look_again(tx, stored.StudyInstanceUID, stored.received_at)
            what = "DICOM instance, reconciled" if arrival.is_reconciled else "DICOM instance"
            self._record(tx, received, stored.received_at, what)

        self._archive.add(received, on_commit=on_commit)

    def _made_here(self, received: ReceivedInstance) -> bool:
        if received.SOPClassUID not in MADE_CLASSES:
            return False
        attributes = read_index_attributes(received.encoded, received.TransferSyntaxUID)
        with self._core.database.read() as connection:
            results = self._core.results.ids_of_study(connection, attributes.StudyInstanceUID)
        return attributes.SOPInstanceUID == received.SOPInstanceUID and received.SOPInstanceUID in made_of(results)

    def _record(self, tx: Transaction, received: ReceivedInstance, at: datetime, what: str) -> None:
        entity = f"urn:oid:{received.SOPInstanceUID}"
        event = balp.received(received.principal, entity=entity, patient=None, at=at, what=what)
        self._core.audit.record(tx, event)

    def association_closed(self, association: str) -> None:
        """Record that an association has ended: its studies may now come to rest."""
        self._core.database.write(lambda tx: self._archive.closed(tx, association))

    def listener_starts(self, tx: Transaction) -> None:
        """End the associations that a former run of this listener left open, and look at their studies again.

        Only the process that opens the listener calls this, before it accepts connections.
        """
        for StudyInstanceUID in self._archive.forget_associations(tx):
            self._look_again(tx, StudyInstanceUID, self._core.clock.now())

    def complete(self, job: Job) -> Commit:
        """Open a study's next revision once it has come to rest, and enqueue its models; else check later."""
        StudyInstanceUID = str(job.payload["study"])
        now = self._core.clock.now()
        with self._core.database.read() as connection:
            state = study_state(connection, StudyInstanceUID, now, quiet_s=self._quiet_s, stale_s=STALE_S)
            if state is StudyState.RECEIVING:
                last = self._archive.last_received(connection, StudyInstanceUID)
                is_quiet = last + timedelta(seconds=self._quiet_s) <= now  # then an association is open
                return lambda tx: self._look_again(tx, StudyInstanceUID, now if is_quiet else last)
            if state is not StudyState.COMPLETE:
                return lambda _tx: None
            instances = self._archive.instances(connection, StudyInstanceUID)
            models = self._readers(connection, instances)

        def commit(tx: Transaction) -> None:
            revision = open_revision(tx, StudyInstanceUID, instances=len(instances), now=now)
            if revision is None:  # another instance has come meanwhile
                self._look_again(tx, StudyInstanceUID, now)
                return
            for model in models:
                self._enqueue_read(tx, model, StudyInstanceUID, revision)

        return commit

    def read(self, job: Job) -> Commit:
        """Run the model on what its manifest selects from the study; return the commit that publishes the result.

        A job of the step :data:`service.flows.owed.PUBLISH_FAILURE` states why a run failed instead.

        Raises
        ------
        Problem
            ``not-found`` when the model version is not registered.
        """
        name, version, StudyInstanceUID = (str(job.payload[key]) for key in ("model", "version", "study"))
        with self._core.database.read() as connection:
            model = self._models.catalogue.to_run(connection, name, version)
            instances = self._archive.instances(connection, StudyInstanceUID)
            if model is None:
                raise Problem(Category.NOT_FOUND, f"model {name} {version} is not registered")
            earlier = self._core.results.replaced_by(connection, model.row, StudyInstanceUID)
            # Empty but for a run that was asked for again (service.operations.results).
            earlier += tuple({str(job.payload[key]) for key in ("again",) if key in job.payload} - set(earlier))
        files = self._files(instances)
        self._correct_patient(instances)
        patient = self._patients.of_study(files.study)
        if not patient.subject.production:
            get_logger(__name__).info("patient_not_production", model=name)
            return lambda _tx: None
        request = InputRequest(model=model, subject=patient.subject, at=self._core.clock.now(), files=files)
        reference = patient.subject.reference
        with self._core.database.read() as connection:
            doubt = doubt_of_study(self._core, connection, files, reference)
        refused = None if doubt is None else doubt.given
        given, outcome = self._answer(job, request, files, refused)
        outcome = with_set_aside(outcome, files.study)
        if refused is None:
            outcome = with_choice(outcome, files.study, model.manifest.input)
        if (
            isinstance(outcome, NotAvailable)
            and "again" not in job.payload
            and self._is_said(outcome, StudyInstanceUID)
        ):
            return lambda tx: hold_study(self._core, tx, files, reference, doubt)
        imaging = imaging_context(files, model.manifest.input, given, in_doubt=refused is not None)
        model_result = ModelResult(outcome=outcome, manifest=model.manifest, imaging=imaging, supersedes=earlier)
        publish = self._publisher.publish(model_result)
        withdrawals = self._withdrawals(
            request, StudyInstanceUID, "the study is of another patient" if refused is None else refused.reason
        )

        def commit(tx: Transaction) -> None:
            self._patients.create_if_missing(tx, patient, SERVER)
            hold_study(self._core, tx, files, reference, doubt)
            publish(tx)
            for withdraw in withdrawals:
                withdraw(tx)

        return commit

    def _correct_patient(self, instances: Sequence[StoredInstance]) -> None:
        """Correct the patient by the header that a PACS has corrected last."""
        with self._core.database.read() as connection:
            replaced = self._archive.replaced(connection, instances[0].StudyInstanceUID)
        if not replaced:
            return
        last = replaced[-1].SOPInstanceUID
        newest, *former = (
            describe([(one.blob, self._core.blobs.get(one.blob))])
            for one in (*instances, *replaced)
            if one.SOPInstanceUID == last
        )
        self._patients.correct(newest, former)

    def _withdrawals(self, request: InputRequest, StudyInstanceUID: str, reason: str) -> list[Commit]:
        """Return what tells the destinations of a former patient of the study that it is no longer theirs."""
        name, files = request.model.row.name, request.files
        assert files is not None
        with self._core.database.read() as connection:
            about_study = self._core.results.newest(connection, limit=_FORMER, model=name, study=StudyInstanceUID)
            former = {one.subject for one in about_study if one.kind == "prediction" and one.state in LIVE}
            subjects = [
                subject_of(connection, self._core.store, subject, self._core.identifier_order)
                for subject in sorted(former - {request.subject.reference})
            ]
        moved = NoInput(reason=reason, sources=files.sources)
        return [
            self._publisher.publish(
                ModelResult(outcome=declined(replace(request, subject=subject), moved), manifest=request.model.manifest)
            )
            for subject in subjects
        ]

    def _answer(
        self, job: Job, request: InputRequest, files: StudyFiles, refused: NoInput | None
    ) -> tuple[ModelInput | NoInput, Outcome]:
        """Return what the model is given, and what it says or why it says nothing."""
        if job.step == PUBLISH_FAILURE:
            return NoInput(reason="", sources=files.sources), failed(request, job, files.sources)
        given = refused or read_input(self._core, request)
        if isinstance(given, NoInput):
            return given, declined(request, given)
        return given, self._models.infer(request.model, given, urgent=job.priority == Priority.STAT)

    def _is_said(self, outcome: NotAvailable, StudyInstanceUID: str) -> bool:
        """Return whether the newest result about the study gives the same reason: another image changed nothing."""
        name = outcome.model.name
        with self._core.database.read() as connection:
            newest = self._core.results.newest(connection, limit=1, model=name, study=StudyInstanceUID)
        return any(
            (one.kind, one.reason, one.subject) == (outcome.kind, outcome.reason, outcome.subject.reference)
            and (one.version, one.digest, one.status)
            == (outcome.model.version, outcome.model.digest, outcome.model.status)
            and one.state in LIVE
            for one in newest
        )

    def _files(self, instances: Sequence[StoredInstance]) -> StudyFiles:
        addresses = {instance.SOPInstanceUID: instance.blob for instance in instances}

        def read(SOPInstanceUID: str) -> bytes:
            """Read the version that the index named, whatever has replaced it meanwhile."""
            return self._core.blobs.get(addresses[SOPInstanceUID])

        arrived = sorted(instances, key=lambda instance: (instance.received_at, instance.SOPInstanceUID))
        return StudyFiles(
            study=describe(
                ((instance.blob, read(instance.SOPInstanceUID)) for instance in arrived), zone=self._core.zone
            ),
            sources=tuple(source_of(instance.SOPInstanceUID, instance.blob) for instance in instances),
            open_instance=lru_cache(maxsize=1)(read),  # the model and the result mostly read the same one
        )

    def _readers(self, connection: Connection, instances: Sequence[StoredInstance]) -> list[DeclaredModel]:
        modalities = {instance.Modality for instance in instances}
        return [
            model
            for model in self._models.catalogue.serving(connection)
            if model.manifest.trigger.kind == "study" and modalities & model.manifest.input.modalities
        ]

    def _look_again(self, tx: Transaction, StudyInstanceUID: str, since: datetime) -> None:
        """Check whether the study is at rest when it may have been so since this time."""
        key = f"{COMPLETE}:{StudyInstanceUID}"
        self._core.jobs.enqueue(
            tx,
            COMPLETE,
            {"study": StudyInstanceUID},
            lock=key,
            queueing_lock=key,
            due=Due(since + timedelta(seconds=self._quiet_s), "move"),
        )

    def _enqueue_read(self, tx: Transaction, model: DeclaredModel, StudyInstanceUID: str, revision: int) -> None:
        payload = {
            "model": model.row.name,
            "version": model.row.version,
            "study": StudyInstanceUID,
            "revision": revision,
        }
        key = f"{READ}:{model.row.name}:{model.row.version}:{StudyInstanceUID}"
        self._core.jobs.enqueue(tx, READ, payload, **lane_of(model.row, key))
