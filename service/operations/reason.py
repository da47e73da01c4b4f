"""The reason that a person gives for an operation, which is recorded."""

from kernel.errors import Category, Problem
from service.operations.models import LONGEST_REASON


def checked(reason: str) -> str:
    """Return a reason on one line.

    Raises
    ------
    Problem
        ``incorrect`` when it is empty or too long.
    """
    stated = " ".join(reason.split())
    if not stated:
        raise Problem(Category.INCORRECT, "a reason is required: it is recorded")
    if len(stated) > LONGEST_REASON:
        raise Problem(Category.INCORRECT, f"the reason is longer than {LONGEST_REASON} characters")
    return stated
