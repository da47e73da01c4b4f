"""Kind ``study``: a DICOM study is complete.

No change of a resource triggers such a model. ``service.flows.imaging_study`` enqueues it when it opens a revision of a
study that has a modality of the model's input.
"""

from collections.abc import Sequence

from inference.manifest import Trigger
from service.triggers.contract import Change, Decision, Rule


def decide(trigger: Trigger, change: Change) -> Sequence[Decision]:  # noqa: ARG001 - every rule has this form
    """Decide nothing.

    Parameters
    ----------
    trigger
        Of a manifest.
    change
        Of any resource.
    """
    return ()


RULE = Rule(types=frozenset(), decide=decide)
