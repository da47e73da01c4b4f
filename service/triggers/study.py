"""Kind ``study``: a DICOM study is complete.

``service.flows.imaging_study`` enqueues such a model when it opens a revision of a study that has a modality of the
model's input. Of the resources only a Patient counts: the studies that have a result are read again.
"""

from collections.abc import Sequence

from inference.manifest import Trigger
from service.triggers.contract import Change, Decision, Rule, corrected


def decide(trigger: Trigger, change: Change) -> Sequence[Decision]:  # noqa: ARG001 - every rule has this form
    """Run the model again when the birth date or the sex of a Patient changes.

    Parameters
    ----------
    trigger
        Of a manifest.
    change
        Of a Patient, with the version before.
    """
    return corrected(change)


RULE = Rule(types=frozenset({"Patient"}), decide=decide, reads_before=True)
