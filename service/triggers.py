"""Which models a change triggers, written as jobs of the same commit as the change."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from fhir_adapter.store.versions import StoredVersion
from inference.catalogue import Catalogue, DeclaredModel
from kernel.db import Transaction
from kernel.jobs import Jobs
from privacy.principal import Principal
from service.flows.lanes import lane_of
from service.results import Results

ASSESS: Final = "assess"
"""The job step that runs a model on a patient's facts (``service.flows.assess``)."""

_AI_ASSERTED: Final = "AIAST"


class Triggers:
    """Turns changed resources into jobs that run models.

    Parameters
    ----------
    catalogue
        The models that run, with their declarations.
    jobs
        Where the jobs are enqueued.
    results
        Which models have a result about a patient.
    """

    def __init__(self, catalogue: Catalogue, jobs: Jobs, results: Results) -> None:
        self._catalogue = catalogue
        self._jobs = jobs
        self._results = results

    def on_change(self, tx: Transaction, changes: Sequence[StoredVersion], principal: Principal) -> None:  # noqa: ARG002 - the hook's signature
        """Enqueue one job for each model and patient that the changes concern.

        Parameters
        ----------
        tx
            The transaction that writes the changes.
        changes
            The versions that it writes; only those of Observation and Patient that changed count.
        principal
            Who made the changes; not used.
        """
        concerned = [change for change in changes if change.type in {"Observation", "Patient"} and change.changed]
        if not concerned:
            return
        models = [model for model in self._catalogue.serving(tx.connection) if model.manifest.trigger.kind == "codes"]
        enqueued: set[tuple[str, str, str]] = set()
        for change in concerned:
            resource = orjson.loads(change.content) if change.content else {}
            if change.type == "Observation":
                self._enqueue(tx, models_for(models, resource), patient_of(resource), enqueued)
            elif change.version > 1:
                self._enqueue_again(tx, models, f"Patient/{change.id}", enqueued)

    def _enqueue_again(
        self, tx: Transaction, models: Sequence[DeclaredModel], patient: str, enqueued: set[tuple[str, str, str]]
    ) -> None:
        """Enqueue the models that have a result already: a new date of birth may allow what was declined."""
        with_result = self._results.models_of(tx.connection, patient)
        self._enqueue(tx, [model for model in models if model.row.name in with_result], patient, enqueued)

    def _enqueue(
        self, tx: Transaction, models: Iterable[DeclaredModel], patient: str | None, enqueued: set[tuple[str, str, str]]
    ) -> None:
        if patient is None:
            return
        for model in models:
            run = (model.row.name, model.row.version, patient)
            if run in enqueued:
                continue
            enqueued.add(run)
            key = "assess:" + ":".join(run)
            payload = {"model": model.row.name, "version": model.row.version, "patient": patient}
            self._jobs.enqueue(tx, ASSESS, payload, **lane_of(model.row, key))


def models_for(models: Iterable[DeclaredModel], observation: dict[str, Any]) -> list[DeclaredModel]:
    """Return the models that the codes of an Observation, or of its components, trigger.

    Parameters
    ----------
    models
        The models to choose from, with their declared trigger codes.
    observation
        A FHIR R4 Observation as JSON; one that is labelled as asserted by AI (``AIAST``) triggers no model.
    """
    labels = observation.get("meta", {}).get("security", ())
    if any(label.get("code") == _AI_ASSERTED for label in labels):
        return []
    codes = set(codes_of(observation))
    return [model for model in models if codes & set(model.manifest.trigger.codes)]


def codes_of(observation: dict[str, Any]) -> Iterable[str]:
    """Return every code of an Observation and of its components."""
    for part in (observation, *observation.get("component", ())):
        for coding in part.get("code", {}).get("coding", ()):
            if "code" in coding:
                yield coding["code"]


def patient_of(observation: dict[str, Any]) -> str | None:
    """Return the reference of the patient an Observation is about."""
    reference = observation.get("subject", {}).get("reference", "")
    return reference if reference.startswith("Patient/") else None
