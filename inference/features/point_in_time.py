"""What was known of a patient at a moment of the past: a training row must read what the serving row would have read.

When a model runs, everything that is stored has been received. A moment of the past needs more: a fact that was stored
later must leave no trace, not even as a value in the future that stands in the way of older ones.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, TypeAlias

from inference.contract import Fact

KnownBy: TypeAlias = Literal["stored", "issued"]


def known_at(facts: Iterable[Fact], at: datetime, by: KnownBy = "stored") -> tuple[Fact, ...]:
    """Return the facts that were known at a moment.

    Parameters
    ----------
    facts
        Of one patient; of a resource with several versions, those of the version of that moment.
    at
        The moment.
    by
        ``stored``: when this server stored a fact (``lastUpdated``). ``issued``: when the sender made it available, for
        history that was loaded in one go; what has no such time is known since it was stored.
    """
    if by == "issued":
        return tuple(fact for fact in facts if fact.issued <= at)
    return tuple(fact for fact in facts if (fact.known or fact.issued) <= at)
