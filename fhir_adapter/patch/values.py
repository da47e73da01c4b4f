"""JSON values as patches need them: copied within bounds, compared as JSON, and without what FHIR does not allow."""

from decimal import Decimal
from typing import Any, Final

from fhir_adapter.store.problems import PatchFailed, TooCostly

MOST_COPIED: Final = 100_000
"""Most values that one patch copies: each copy may hold the ones before it."""
MOST_VISITED: Final = 200_000
"""Most elements that the paths of one patch visit, each comparison with one counted again."""


class Work:
    """Counts what the paths of one patch visit: it is carried out in the commit, where others wait."""

    def __init__(self) -> None:
        self._left = MOST_VISITED

    def take(self, visited: int) -> None:
        """Count elements.

        Raises
        ------
        TooCostly
            When the patch has visited too many.
        """
        self._left -= visited
        if self._left < 0:
            raise TooCostly(f"the paths of a patch may visit {MOST_VISITED} elements")


class Copies:
    """Copies values of one patch; counts them."""

    def __init__(self) -> None:
        self._left = MOST_COPIED

    def of(self, value: Any) -> Any:
        """Return a copy that shares nothing that can change.

        Raises
        ------
        PatchFailed
            When the patch has copied too much.
        """
        self._left -= 1
        if self._left < 0:
            raise PatchFailed(f"a patch may copy {MOST_COPIED} values")
        if type(value) is dict:
            return {key: self.of(item) for key, item in value.items()}
        if type(value) is list:
            return [self.of(item) for item in value]
        return value


def equal(left: Any, right: Any) -> bool:
    """Return whether two values are equal as RFC 6902 section 4.6 has it: numbers by their value.

    Parameters
    ----------
    left, right
        Exact JSON.
    """
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        return left == right
    if type(left) is dict and type(right) is dict:
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if type(left) is list and type(right) is list:
        return len(left) == len(right) and all(map(equal, left, right))
    return type(left) is type(right) and bool(left == right)


def without_empty(value: Any) -> Any:
    """Return JSON without empty objects and arrays, which FHIR does not allow (R4, json.html)."""
    if type(value) is dict:
        kept = {key: without_empty(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item not in ({}, [])}
    if type(value) is list:
        return [item for item in map(without_empty, value) if item not in ({}, [])]
    return value
