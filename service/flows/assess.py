"""Run a model on what is stored of a patient.

assess   job -> the declared input -> runtime.predict -> publish => resources, deliveries, job "ask-later"
ask      job => job "assess"

A value whose time lies in the future is not used and not forgotten: the model is asked again when it can be used.
"""

from fhir_adapter.facts import subject as subject_of
from inference.contract import FactsInput, ModelInput, Outcome, SeriesInput, StudyInput
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.jobs import Job, Priority
from kernel.log import get_logger
from kernel.worker import Commit
from service.core import CoreServices, Models
from service.destinations.contract import ModelResult
from service.flows.identity_doubt import MessageDoubt, doubt_of_message
from service.flows.inputs import read_input
from service.flows.inputs.contract import InputRequest, NoInput, declined
from service.flows.owed import PUBLISH_FAILURE, failed
from service.flows.publish import Publisher
from service.triggers.contract import Run
from service.triggers.enqueue import ask_later
from service.triggers.enqueue import assess as enqueue_assess

_log = get_logger(__name__)


class AssessFlow:
    """From a patient to a published result.

    Parameters
    ----------
    core
        What every flow uses.
    models
        The models that run.
    publisher
        Publishes the results.
    """

    def __init__(self, core: CoreServices, models: Models, publisher: Publisher) -> None:
        self._core = core
        self._models = models
        self._publisher = publisher

    def assess(self, job: Job) -> Commit:
        """Read the declared input, run the model, and return the commit that publishes the result.

        The payload names the model, its version and the patient, and may name the document that made the model run.

        A job of the step :data:`service.flows.owed.PUBLISH_FAILURE` states why a run failed instead.

        A job that was asked for again (``service.operations.results``) names the result that this one replaces.

        Raises
        ------
        Problem
            ``busy`` when too much waits for the model; ``not-found`` when the model is no longer registered.
        """
        name, version, patient = (str(job.payload[key]) for key in ("model", "version", "patient"))
        with self._core.database.read() as connection:
            model = self._models.catalogue.to_run(connection, name, version)
            if model is None:
                raise Problem(Category.NOT_FOUND, f"model {name} {version} is not registered")
            subject = subject_of(connection, self._core.store, patient, self._core.identifier_order)
        if not subject.production:
            _log.info("patient_not_production", model=name)
            return lambda _tx: None
        document, doubt = job.payload.get("document"), self._doubt(job)
        request = InputRequest(model=model, subject=subject, at=self._core.clock.now(), document=document)
        given, outcome = self._answer(job, request, doubt)
        again = job.payload.get("again")
        replaced = () if again is None else (str(again),)
        model_result = ModelResult(
            outcome=outcome, manifest=model.manifest, document=request.document, supersedes=replaced
        )
        publish = self._publisher.publish(model_result)
        if doubt is not None:
            return doubt.unless_decided(self._core, publish)
        due = given.next_usable if isinstance(given, NoInput | FactsInput | SeriesInput | StudyInput) else None
        if due is None:
            return publish
        _log.warning("value_in_the_future", model=name, version=version, ask_again_at=due.isoformat())

        def commit(tx: Transaction) -> None:
            publish(tx)
            ask_later(tx, self._core.jobs, model.row, Run(patient=patient, document=document), due)

        return commit

    def _answer(
        self, job: Job, request: InputRequest, doubt: MessageDoubt | None
    ) -> tuple[ModelInput | NoInput, Outcome]:
        """Return what the model is given, and what it says or why it says nothing."""
        if job.step == PUBLISH_FAILURE:
            # A run that fails again must be a statement of its own: nothing that it would have read is known.
            return NoInput(reason=""), failed(request, job, (f"urn:uuid:{job.id}",))
        given = read_input(self._core, request) if doubt is None else doubt.given
        if isinstance(given, NoInput):
            return given, declined(request, given)
        return given, self._models.infer(request.model, given, urgent=job.priority == Priority.STAT)

    def _doubt(self, job: Job) -> MessageDoubt | None:
        """Return the doubt that the job states, unless a person has decided about it."""
        hold = job.payload.get("doubt")
        return None if hold is None else doubt_of_message(self._core, str(hold))

    def ask(self, job: Job) -> Commit:
        """Return the commit that asks the model now, if it is still registered to run."""
        name, version, patient = (str(job.payload[key]) for key in ("model", "version", "patient"))
        with self._core.database.read() as connection:
            model = self._models.catalogue.to_run(connection, name, version)
        if model is None:
            return lambda _tx: None
        row, run = model.row, Run(patient=patient, document=job.payload.get("document"))
        return lambda tx: enqueue_assess(tx, self._core.jobs, row, run)
