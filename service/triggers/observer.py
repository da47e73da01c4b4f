"""What follows from a change of a resource: the jobs that run models, in the commit of the change."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import orjson

from fhir_adapter.production import is_production
from fhir_adapter.store.store import Store
from fhir_adapter.store.versions import StoredVersion
from inference.catalogue import Catalogue, DeclaredModel
from kernel.db import Transaction
from kernel.jobs import Jobs
from privacy.principal import Principal
from service.results import Results
from service.triggers import enqueue
from service.triggers.contract import Change, Decision, Repeat, Resource
from service.triggers.table import TRIGGERS, TYPES


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
    store
        Where the version before a change is read.
    settle_s
        Name of a model to the seconds in which values that arrive one by one settle; before what its manifest says.
    """

    def __init__(
        self, catalogue: Catalogue, jobs: Jobs, results: Results, store: Store, *, settle_s: Mapping[str, float]
    ) -> None:
        self._catalogue = catalogue
        self._jobs = jobs
        self._results = results
        self._store = store
        self._settle_s = settle_s

    def on_change(self, tx: Transaction, changes: Sequence[StoredVersion], principal: Principal) -> None:  # noqa: ARG002 - the hook's signature
        """Enqueue what the triggers of the models that serve decide on the changes.

        Parameters
        ----------
        tx
            The transaction that writes the changes.
        changes
            The versions that it writes; those of a type that no trigger looks at are passed over.
        principal
            Who made the changes; not used.
        """
        concerned = [change for change in changes if change.changed and change.type in TYPES]
        if not concerned:
            return
        models = self._catalogue.serving_in(tx)
        decided: dict[tuple[str, str, Decision], tuple[DeclaredModel, Decision, StoredVersion]] = {}
        for version in concerned:
            for model, decision in self._decide(tx, models, version):
                decided.setdefault((model.row.name, model.row.version, decision), (model, decision, version))
        for model, decision, version in sorted(decided.values(), key=_order):
            self._carry_out(tx, model, decision, version)

    def _decide(
        self, tx: Transaction, models: Sequence[DeclaredModel], version: StoredVersion
    ) -> list[tuple[DeclaredModel, Decision]]:
        rules = [(model, TRIGGERS[model.manifest.trigger.kind]) for model in models]
        rules = [(model, rule) for model, rule in rules if version.type in rule.types]
        if not rules:
            return []
        reads_before = any(rule.reads_before for _, rule in rules)
        change = Change(
            type=version.type,
            id=version.id,
            version=version.version,
            patient=version.patient,
            before=self._before(tx, version) if reads_before else None,
            after=_read(version),
            at=version.last_updated,
        )
        return [(model, decision) for model, rule in rules for decision in rule.decide(model.manifest.trigger, change)]

    def _before(self, tx: Transaction, version: StoredVersion) -> Resource | None:
        if version.version == 1:
            return None
        earlier = self._store.history(tx.connection, version.type, version.id, count=1, before=version.version)
        return _read(earlier[0]) if earlier else None

    def _carry_out(self, tx: Transaction, model: DeclaredModel, decision: Decision, version: StoredVersion) -> None:
        if isinstance(decision, Repeat):
            enqueue.repeat(tx, self._jobs, model.row.name, decision.patient, version.last_updated)
        elif model.manifest.trigger.kind == "study":
            for StudyInstanceUID in self._results.studies_of(tx.connection, model.row.name, decision.patient):
                enqueue.read_again(tx, self._jobs, model.row, StudyInstanceUID)
        elif not decision.again or model.row.name in self._results.models_of(tx.connection, decision.patient):
            settle_s = self._settle_s.get(model.row.name, float(model.manifest.trigger.settle_seconds or 0))
            if settle_s and model.manifest.trigger.kind == "codes":
                due = version.last_updated + timedelta(seconds=settle_s)
                enqueue.settle(tx, self._jobs, model.row, decision, due)
            else:
                enqueue.assess(tx, self._jobs, model.row, decision)


def _read(version: StoredVersion) -> Resource | None:
    """Return the resource; None for a deletion and for what is labelled as test data, which no model reads."""
    resource: Resource | None = orjson.loads(version.content) if version.content else None
    return resource if resource is None or is_production(resource) else None


def _order(one: tuple[DeclaredModel, Decision, StoredVersion]) -> tuple[str, ...]:
    """Order cadences before runs and by name, as every transaction takes their locks; runs stay in their order."""
    model, decision, _ = one
    return ("cadence", model.row.name, decision.patient) if isinstance(decision, Repeat) else ("run",)
