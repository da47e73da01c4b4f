"""Kind ``document``: a clinical document that is complete, as a DocumentReference or a DiagnosticReport with text.

A draft triggers nothing: its complete version is a change of its own. So a DocumentReference counts when its status is
``current`` and its docStatus is absent, ``final`` or ``amended``; a DiagnosticReport when it is ``final`` or a later
version of that, and has a conclusion or a presented form.
"""

from collections.abc import Sequence
from typing import Final

from inference.manifest import Trigger
from service.triggers.contract import Change, Decision, Resource, Rule, Run, codes_of, is_ai_asserted

_COMPLETE_DOCUMENT: Final = frozenset({None, "final", "amended"})
"""DocumentReference.docStatus; most senders leave it out."""
_COMPLETE_REPORT: Final = frozenset({"final", "amended", "corrected", "appended"})
"""DiagnosticReport.status."""


def decide(trigger: Trigger, change: Change) -> Sequence[Decision]:
    """Run the model on a new or changed document of one of the trigger's types.

    Parameters
    ----------
    trigger
        Of a manifest; its ``document_types`` count, and all types when it has none.
    change
        Of a DocumentReference or a DiagnosticReport. One that is labelled as asserted by AI triggers nothing, nor does
        one that is about no patient, such as a model card.
    """
    document = change.after
    if document is None or change.patient is None or is_ai_asserted(document) or not _is_complete(document):
        return ()
    kind = document.get("type" if change.type == "DocumentReference" else "code")
    if trigger.document_types and codes_of(kind).isdisjoint(trigger.document_types):
        return ()
    return (Run(patient=change.patient, document=change.reference),)


def _is_complete(document: Resource) -> bool:
    if document["resourceType"] == "DocumentReference":
        return document.get("status") == "current" and document.get("docStatus") in _COMPLETE_DOCUMENT
    has_text = bool(document.get("conclusion") or document.get("presentedForm"))
    return has_text and document.get("status") in _COMPLETE_REPORT


RULE = Rule(types=frozenset({"DocumentReference", "DiagnosticReport"}), decide=decide)
