"""What makes models run: one file for each kind of trigger, one observer that acts on what they decide.

``table.TRIGGERS`` lists the kinds. ``observer.Triggers`` follows every change of a resource; ``enqueue`` writes the
jobs; ``cadence`` repeats a model while a patient is admitted.
"""

from service.triggers.enqueue import ASSESS
from service.triggers.observer import Triggers
from service.triggers.table import TRIGGERS

__all__ = ["ASSESS", "TRIGGERS", "Triggers"]
