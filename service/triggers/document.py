"""Kind ``document``: a clinical document that is complete, as a DocumentReference or a DiagnosticReport with text.

A draft triggers nothing: its complete version is a change of its own. So a DocumentReference counts when its status is
``current`` and its docStatus is absent, ``final`` or ``amended``; a DiagnosticReport when it is ``final`` or a later
version of that, and has a conclusion or a presented form.
"""

from collections.abc import Sequence
from typing import Final

from fhir_adapter.store.search.index import patient_of
from inference.manifest import Trigger
from service.triggers.contract import Change, Decision, Resource, Rule, Run, codes_of, corrected, is_ai_asserted

_COMPLETE_DOCUMENT: Final = frozenset({None, "final", "amended"})
"""DocumentReference.docStatus; most senders leave it out."""
_COMPLETE_REPORT: Final = frozenset({"final", "amended", "corrected", "appended"})
"""DiagnosticReport.status."""


def decide(trigger: Trigger, change: Change) -> Sequence[Decision]:
    """Run the model on a new or changed document of one of the trigger's types.

    A document that is deleted, that is withdrawn or that is moved to another patient runs the models that have a result
    about the patient who had it, so that they say so.

    Parameters
    ----------
    trigger
        Of a manifest; its ``document_types`` count, and all types when it has none.
    change
        Of a DocumentReference or a DiagnosticReport, with the version before. One that is labelled as asserted by AI
        triggers nothing, nor does one that is about no patient, such as a model card.
    """
    if change.type == "Patient":
        return corrected(change)
    after, before = _patient(trigger, change.after), _patient(trigger, change.before)
    runs = [Run(patient=after, document=change.reference)] if after else []
    return (*runs, Run(patient=before, document=change.reference, again=True)) if before and before != after else runs


def _patient(trigger: Trigger, document: Resource | None) -> str | None:
    """Return whom a complete document of the trigger's types is about."""
    if document is None or is_ai_asserted(document) or not _is_complete(document):
        return None
    kind = document.get("type" if document["resourceType"] == "DocumentReference" else "code")
    if trigger.document_types and codes_of(kind).isdisjoint(trigger.document_types):
        return None
    return patient_of(dict(document))


def _is_complete(document: Resource) -> bool:
    if document["resourceType"] == "DocumentReference":
        return document.get("status") == "current" and document.get("docStatus") in _COMPLETE_DOCUMENT
    has_text = bool(document.get("conclusion") or document.get("presentedForm"))
    return has_text and document.get("status") in _COMPLETE_REPORT


RULE = Rule(types=frozenset({"DocumentReference", "DiagnosticReport", "Patient"}), decide=decide, reads_before=True)
