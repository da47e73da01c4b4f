"""What a site keeps from a destination: the key ``leave_out`` of any ``[[destination]]`` table.

What is left out is stored and shown by this server all the same. A notice that there is no result is never left out
while the newest thing that was said of the patient is a result: that would read as the present one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from inference.contract import NotAvailable, Outcome
from kernel.errors import Category, Problem

INCOMPLETE: Final = "incomplete"
OUT_OF_SCOPE: Final = "out-of-scope"
NOT_AVAILABLE: Final = "not-available"
HEAT_MAP: Final = "heat-map"
KINDS: Final = (INCOMPLETE, OUT_OF_SCOPE, NOT_AVAILABLE, HEAT_MAP)
"""What may be left out: values are missing; the model is not for such a patient or study; any result that is not
available, these two included; the heat map beside an SR."""


@dataclass(frozen=True, kw_only=True)
class LeaveOut:
    """What is left out at one destination."""

    #: (model, one of :data:`KINDS`); the model is empty where it holds for all.
    rules: frozenset[tuple[str, str]] = frozenset()

    def holds(self, kind: str, model: str) -> bool:
        """Return whether something is left out.

        Parameters
        ----------
        kind
            One of :data:`KINDS`.
        model
            Name of the model.
        """
        return not self.rules.isdisjoint({("", kind), (model, kind)})

    def notice(self, outcome: Outcome) -> str | None:
        """Return the kind by which an outcome is left out; None for one that is sent, as every prediction is."""
        if not isinstance(outcome, NotAvailable):
            return None
        kinds = {INCOMPLETE: outcome.incomplete, OUT_OF_SCOPE: outcome.out_of_scope, NOT_AVAILABLE: True}
        model = outcome.model.name
        return next((kind for kind, applies in kinds.items() if applies and self.holds(kind, model)), None)


EVERYTHING_LEAVES: Final = LeaveOut()


def read_leave_out(destination: str, texts: Iterable[str]) -> LeaveOut:
    """Read ``leave_out``: kinds, each for one model when its name and a colon stand before.

    Parameters
    ----------
    destination
        Name of the destination.
    texts
        What is written.

    Raises
    ------
    Problem
        ``incorrect`` for an unknown kind or an empty name of a model.
    """
    rules = set()
    for text in texts:
        model, colon, kind = text.rpartition(":")
        if kind not in KINDS or (colon and not model):
            raise Problem(
                Category.INCORRECT,
                f"destination {destination}: leave_out must list {', '.join(KINDS)}, or one of these after MODEL:",
            )
        rules.add((model, kind))
    return LeaveOut(rules=frozenset(rules))
