"""What an expression of a view is evaluated in, beside what it is evaluated on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Scope:
    """The resource of a row, and the place of the row."""

    #: ``%resource``.
    resource: Any
    #: ``%rowIndex``: place of the element that ``forEach``, ``forEachOrNull`` or ``repeat`` has come to, from 0.
    row: int


Evaluate: TypeAlias = Callable[[list[Any], Scope], list[Any]]
"""Elements and the scope -> what an expression finds."""
