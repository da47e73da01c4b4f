"""A model is asked about a patient's facts.

assess   job -> facts -> runtime.predict -> publish => resources, deliveries
"""

from fhir_adapter.facts import patient_facts
from fhir_adapter.facts import subject as subject_of
from inference.contract import TabularInput
from kernel.errors import Category, Problem
from kernel.jobs import Job
from kernel.worker import Commit
from service.destinations.contract import Finding
from service.flows.publish import Publisher
from service.ground import Ground, Models


class AssessFlow:
    """From a patient to a published result.

    Parameters
    ----------
    ground
        What every flow stands on.
    models
        Whom to ask.
    publisher
        What becomes of the answer.
    """

    def __init__(self, ground: Ground, models: Models, publisher: Publisher) -> None:
        self._ground = ground
        self._models = models
        self._publisher = publisher

    def assess(self, job: Job) -> Commit:
        """Read what the model may know, ask it, and return the commit that publishes its answer.

        Raises
        ------
        Problem
            ``busy`` when too much waits for the model; ``not-found`` when the model is no longer registered.
        """
        name, version, patient = (str(job.payload[key]) for key in ("model", "version", "patient"))
        at = self._ground.clock.now()
        with self._ground.database.read() as connection:
            model = self._models.catalogue.one(connection, name, version)
            if model is None:
                raise Problem(Category.NOT_FOUND, f"model {name} {version} is not registered")
            subject = subject_of(connection, self._ground.store, patient)
            facts = patient_facts(connection, self._ground.store, patient, model.codes, at - model.lookback)
        given = TabularInput(subject=subject, facts=facts, at=at)
        outcome = self._models.ask(model, given)
        return self._publisher.publish(Finding(outcome=outcome, manifest=model.manifest))
