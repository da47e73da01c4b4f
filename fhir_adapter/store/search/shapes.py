"""The shape of a condition: everything that its statement depends on, without the values.

A statement is built once for each shape; the values are its parameters, in the order in which the shape names them.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Table: TypeAlias = Literal["values", "dates", "measures"]

VALUE: Final = "value"
SYSTEM: Final = "system"
BOTH: Final = "value system"
START: Final = "start"
PART: Final = "part"
"""Tests of a text: it is the value, it has the system, both, it starts with the value, it has it as a part.

``START`` takes the start and what comes after all texts with that start.
"""


@dataclass(frozen=True)
class Match:
    """A row of the index meets one of the tests."""

    table: Table
    #: Branches whose rows are looked at.
    numbers: tuple[int, ...]
    #: For texts see above; for dates a prefix; for measures a prefix and ``:unit``, ``:code`` or nothing.
    tests: tuple[str, ...]
    #: Whether no row must meet one.
    negated: bool = False


@dataclass(frozen=True)
class Missing:
    """There is no row of the branches, or there is one."""

    table: Table
    numbers: tuple[int, ...]
    is_missing: bool
    #: Of how many types the references count, each by start and end; 0 for all rows.
    starts: int = 0


@dataclass(frozen=True)
class Own:
    """The resource's own id or time of storage meets one of the tests."""

    column: Literal["id", "last_updated"]
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Refers:
    """A reference names a resource that meets all conditions of its type (chaining)."""

    numbers: tuple[int, ...]
    targets: tuple[tuple[str, tuple["Shape", ...]], ...]


@dataclass(frozen=True)
class Referred:
    """A resource of a type that meets all conditions names this one (``_has``)."""

    #: The type of this one.
    of: str
    source: str
    numbers: tuple[int, ...]
    conditions: tuple["Shape", ...]


@dataclass(frozen=True)
class Every:
    """All conditions hold."""

    conditions: tuple["Shape", ...]


@dataclass(frozen=True)
class Some:
    """One of the conditions holds."""

    conditions: tuple["Shape", ...]


Shape: TypeAlias = Match | Missing | Own | Refers | Referred | Every | Some
