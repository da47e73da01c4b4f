"""Kind ``codes``: an Observation with one of the declared codes that comes, changes or goes, or a changed Patient."""

from collections.abc import Sequence

from fhir_adapter.store.search.index import patient_of
from inference.manifest import Trigger
from service.triggers.contract import Change, Decision, Resource, Rule, Run, codes_of, corrected, is_ai_asserted


def decide(trigger: Trigger, change: Change) -> Sequence[Decision]:
    """Run the model when an Observation, or one of its components, has one of the trigger's codes.

    An Observation that is deleted, that gets another code or that is moved to another patient runs the models that have
    a result about the patient who had it. A Patient whose birth date or sex changes runs the models that have a result
    already; a new address or telephone number runs nothing.

    Parameters
    ----------
    trigger
        Of a manifest; its ``codes`` count.
    change
        Of an Observation or a Patient, with the version before. An Observation that is labelled as asserted by AI
        triggers nothing.
    """
    if change.type == "Patient":
        return corrected(change)
    after = _patient(trigger, change.after)
    before = _patient(trigger, change.before)
    runs = [Run(patient=after)] if after else []
    return (*runs, Run(patient=before, again=True)) if before and before != after else runs


def _patient(trigger: Trigger, observation: Resource | None) -> str | None:
    """Return whom an Observation concerns, if the model reads it."""
    if observation is None or is_ai_asserted(observation):
        return None
    concepts = [part.get("code") for part in (observation, *observation.get("component", ()))]
    return None if codes_of(*concepts).isdisjoint(trigger.codes) else patient_of(dict(observation))


RULE = Rule(types=frozenset({"Observation", "Patient"}), decide=decide, reads_before=True)
