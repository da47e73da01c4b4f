"""A model is asked about a patient's facts.

assess   job -> facts -> runtime.predict -> publish => resources, deliveries
"""

from fhir_adapter.facts import patient_facts
from fhir_adapter.facts import subject as subject_of
from fhir_adapter.resources.store import Store
from inference.contract import TabularInput
from inference.runtime import Runtime
from kernel.clock import Clock
from kernel.db import Database
from kernel.errors import Category, Problem
from kernel.jobs import Job
from kernel.worker import Commit
from service.catalogue import Catalogue
from service.destinations.contract import Finding
from service.flows.publish import Publisher


class AssessFlow:
    """From a patient to a published result.

    Parameters
    ----------
    database, clock
        The house's.
    store
        Where the facts are read.
    catalogue
        What each model reads.
    runtime
        The only door to a model.
    publisher
        What becomes of the answer.
    deadline_s
        How long a model may take.
    """

    def __init__(  # noqa: PLR0913 - wiring hands each component what it needs
        self,
        database: Database,
        clock: Clock,
        *,
        store: Store,
        catalogue: Catalogue,
        runtime: Runtime,
        publisher: Publisher,
        deadline_s: float,
    ) -> None:
        self._database = database
        self._clock = clock
        self._store = store
        self._catalogue = catalogue
        self._runtime = runtime
        self._publisher = publisher
        self._deadline_s = deadline_s

    def assess(self, job: Job) -> Commit:
        """Read what the model may know, ask it, and return the commit that publishes its answer.

        Raises
        ------
        Problem
            ``busy`` when too much waits for the model; ``not-found`` when the model is no longer registered.
        """
        name, version, patient = (str(job.payload[key]) for key in ("model", "version", "patient"))
        at = self._clock.now()
        with self._database.read() as connection:
            model = self._catalogue.one(connection, name, version)
            if model is None:
                raise Problem(Category.NOT_FOUND, f"model {name} {version} is not registered")
            subject = subject_of(connection, self._store, patient)
            facts = patient_facts(connection, self._store, patient, model.codes, at - model.lookback)
        given = TabularInput(subject=subject, facts=facts, at=at)
        outcome = self._runtime.predict(name, given, version=version, deadline_s=self._deadline_s)
        return self._publisher.publish(Finding(outcome=outcome, manifest=model.manifest))
