"""What a result says of instances of its study that cannot be read."""

from dataclasses import replace

from dicom_node.selection import left_out
from dicom_node.study import Study
from inference.contract import NotAvailable, Outcome


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
    if not note:
        return outcome
    if isinstance(outcome, NotAvailable):
        reason = outcome.reason if note in outcome.reason else f"{outcome.reason}; {note}"
        return replace(outcome, reason=reason)
    words = f"{note} and {'was' if study.unreadable == 1 else 'were'} left out."
    return replace(outcome, outputs=tuple(replace(one, text=f"{one.text} {words}") for one in outcome.outputs))
