"""Kind ``schedule``: admission and discharge, and a cadence while a patient is admitted.

When a patient is admitted is said in :mod:`fhir_adapter.admission`. An event is a step from one stored version to the
next, so the same status stored twice is one event. An Encounter that is first stored as finished counts as a discharge
when it has just ended.
"""

from collections.abc import Sequence
from typing import Final

from fhir_adapter.admission import LATE_DISCHARGE, is_admitted, is_inpatient
from fhir_adapter.store.search.index import patient_of
from fhir_adapter.store.times import point
from inference.manifest import Trigger
from inference.manifest.records import EncounterEvent
from service.triggers.contract import Change, Decision, Repeat, Resource, Rule, Run, corrected

_ENDED: Final = frozenset({"finished", "cancelled", "entered-in-error"})


def decide(trigger: Trigger, change: Change) -> Sequence[Decision]:
    """Run the model at the declared events, and repeat it while the patient is admitted when it has a cadence.

    Parameters
    ----------
    trigger
        Of a manifest; its ``events`` and ``cadence_hours`` count.
    change
        Of an Encounter, with the version before.
    """
    if change.type == "Patient":
        return corrected(change)
    if change.after is None or change.patient is None:
        return ()
    decisions: list[Decision] = []
    if event_of(change) in trigger.events:
        decisions.append(Run(patient=change.patient))
    if trigger.cadence_hours is not None and is_admitted(change.after):
        decisions.append(Repeat(patient=change.patient))
    return decisions


def event_of(change: Change) -> EncounterEvent | None:
    """Return what a change of an Encounter means for the patient of its new version, None when nothing.

    An Encounter that is moved to another patient is a new one for that patient. One that is opened again after its end
    is no second admission.
    """
    after, before = change.after, change.before
    if after is None:
        return None
    if before is not None and patient_of(dict(before)) != change.patient:
        before = None
    was_admitted = before is not None and is_admitted(before)
    if is_admitted(after):
        return None if was_admitted or _status(before) == "finished" else "admission"
    if _status(after) != "finished" or not (was_admitted or is_inpatient(after)):
        return None
    is_new = _status(before) not in _ENDED if before is not None else _ended_lately(after, change)
    return "discharge" if is_new else None


def _status(encounter: Resource | None) -> str | None:
    return None if encounter is None else encounter.get("status")


def _ended_lately(encounter: Resource, change: Change) -> bool:
    """Tell a discharge whose admission was never sent from an Encounter of the past that is loaded."""
    ended = point(encounter.get("period", {}).get("end"))
    return ended is not None and change.at - ended <= LATE_DISCHARGE


RULE = Rule(types=frozenset({"Encounter", "Patient"}), decide=decide, reads_before=True)
