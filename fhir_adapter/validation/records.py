"""What the checks are compiled from: structures and their elements, as R4 or a profile defines them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraint:
    """One invariant of the standard or of a profile."""

    #: HL7's key, such as ``obs-6``.
    key: str
    #: The rule in words.
    human: str
    #: FHIRPath.
    expression: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """One slice of an element that a profile divides."""

    name: str
    least: int
    most: int | None
    #: Path below the element (empty for the element itself) and what is expected there; all must fit.
    discriminators: tuple[tuple[tuple[str, ...], "Expected"], ...]
    #: What the elements of the slice must be.
    element: "Element"


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What a discriminator expects of a value."""

    #: ``fixed`` (equal), ``pattern`` (contains), ``codes`` (a value set), ``type`` and ``target`` (names of types),
    #: ``exists`` (whether), ``profile`` (its canonical and type).
    kind: str
    value: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Element:
    """One element of a structure."""

    #: As in the definition: ``value[x]`` for a choice of types.
    name: str
    least: int
    #: None for any number.
    most: int | None
    #: Whether JSON holds it in an array.
    repeats: bool
    #: Type codes. ``>Observation.component`` is a structure of its own.
    types: tuple[str, ...]
    #: Resource types that a reference may name; empty for any.
    targets: frozenset[str] = frozenset()
    #: Name of the value set of a required binding; empty for none that is checked.
    binding: str = ""
    #: Constraints of the element beside those of its type.
    constraints: tuple[Constraint, ...] = ()
    #: Set by a profile.
    fixed: Any = None
    #: Set by a profile.
    pattern: Any = None
    #: Set by a profile.
    slices: tuple[Slice, ...] = ()
    #: Whether a profile allows no element outside of the slices.
    closed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """A resource, a data type, or an element with elements of its own."""

    #: Its path; of a profile: the profile's URL and the element's id, and after ``#`` what it is a profile of.
    name: str
    elements: tuple[Element, ...]
    constraints: tuple[Constraint, ...] = ()

    @property
    def base(self) -> str:
        """The structure of R4 that it is, or that a profile constrains."""
        return self.name.rsplit("#", 1)[-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Definitions:
    """Everything that checks are made of."""

    structures: Mapping[str, Structure]
    #: Concrete resource types.
    resources: frozenset[str]
    #: Value set -> code system -> codes.
    value_sets: Mapping[str, Mapping[str, frozenset[str]]]
    #: Name of a choice without its type -> its names with a type: ``value`` -> ``valueQuantity``, …
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Fault(NamedTuple):
    """One fault, with its place relative to what was checked."""

    #: ``OperationOutcome.issue.code``; :data:`LOCAL` for a reference that the resource has to resolve.
    code: str
    #: What is wrong, without a value; the id of the contained resource for a reference to it.
    text: str
    #: Such as ``.component[0].code``.
    path: str = ""
    #: For a reference to a contained resource: the types that are allowed; empty for any.
    targets: frozenset[str] = frozenset()


LOCAL = "#"
"""Marks a :class:`Fault` that is a reference to a contained resource, until the resource resolves it."""
