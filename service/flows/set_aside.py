"""What a result says of instances of its study that cannot be read, or that were not chosen."""

from dataclasses import replace

from dicom_node.selection import SELECTORS, chosen_of_several, left_out, select_input
from dicom_node.study import Study
from inference.contract import NotAvailable, Outcome
from inference.manifest import InputSpec


def with_set_aside(outcome: Outcome, study: Study) -> Outcome:
    """Return an outcome whose words name how many instances were left out.

    Parameters
    ----------
    outcome
        What the model said about the rest, or why it said nothing.
    study
        The study's description.
    """
    note = left_out(study)
    verb = "was" if study.unreadable == 1 else "were"
    return _with(outcome, note, f"{note} and {verb} left out.") if note else outcome


def with_choice(outcome: Outcome, study: Study, spec: InputSpec) -> Outcome:
    """Return an outcome whose words name which of several images that fit was read; a model that did not run read none.

    Parameters
    ----------
    outcome
        What the model said about it, or why it said nothing.
    study
        The study's description.
    spec
        The input that the manifest declares.
    """
    if isinstance(outcome, NotAvailable) and outcome.kind != "declined":
        return outcome
    parts = [part for part in spec.parts or (spec,) if part.kind in SELECTORS]
    notes = dict.fromkeys(filter(None, (chosen_of_several(select_input(study, part)) for part in parts)))
    for note in notes:
        outcome = _with(outcome, note, f"{note}.")
    return outcome


def _with(outcome: Outcome, note: str, sentence: str) -> Outcome:
    if isinstance(outcome, NotAvailable):
        reason = outcome.reason if note in outcome.reason else f"{outcome.reason}; {note}"
        return replace(outcome, reason=reason)
    return replace(outcome, outputs=tuple(replace(one, text=f"{one.text} {sentence}") for one in outcome.outputs))
