"""Kind ``codes``: an Observation with one of the declared codes, or a changed Patient."""

from collections.abc import Sequence

from inference.manifest import Trigger
from service.triggers.contract import Change, Decision, Rule, Run, codes_of, is_ai_asserted


def decide(trigger: Trigger, change: Change) -> Sequence[Decision]:
    """Run the model when an Observation, or one of its components, has one of the trigger's codes.

    A Patient that changes runs the models that have a result already: a new date of birth may allow what was declined.

    Parameters
    ----------
    trigger
        Of a manifest; its ``codes`` count.
    change
        Of an Observation or a Patient. An Observation that is labelled as asserted by AI triggers nothing.
    """
    if change.patient is None:
        return ()
    if change.type == "Patient":
        return (Run(patient=change.patient, again=True),) if change.version > 1 else ()
    observation = change.after
    if observation is None or is_ai_asserted(observation):
        return ()
    concepts = [part.get("code") for part in (observation, *observation.get("component", ()))]
    return () if codes_of(*concepts).isdisjoint(trigger.codes) else (Run(patient=change.patient),)


RULE = Rule(types=frozenset({"Observation", "Patient"}), decide=decide)
