"""What a kind of trigger is given, and what it may decide."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeAlias

from fhir_adapter.facts import demographics
from inference.manifest import Trigger

Resource: TypeAlias = Mapping[str, Any]
"""A FHIR R4 resource as JSON."""

_AI_ASSERTED: Final = "AIAST"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One new version of one resource."""

    type: str
    id: str
    #: From 1.
    version: int
    #: Reference of the patient it concerns, if any.
    patient: str | None
    #: The version before; None when there was none, when it was a deletion, or when the rule does not read it.
    before: Resource | None
    #: The new version; None for a deletion.
    after: Resource | None
    #: When it was stored; aware.
    at: datetime

    @property
    def reference(self) -> str:
        """Reference without the version, such as ``Encounter/x``."""
        return f"{self.type}/{self.id}"


@dataclass(frozen=True, kw_only=True)
class Run:
    """The model is to run once, now."""

    patient: str
    #: Reference of the document that it is to read, for a trigger of kind ``document``.
    document: str | None = None
    #: Only when the model has a result about this patient already.
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """The model is to run now and then at its cadence, while the patient is admitted."""

    patient: str


Decision: TypeAlias = Run | Repeat


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How one kind of trigger decides."""

    #: Types of resources whose changes it looks at.
    types: frozenset[str]
    #: A pure function of a manifest's trigger and a change.
    decide: Callable[[Trigger, Change], Sequence[Decision]]
    #: Whether it needs the version before the change.
    reads_before: bool = False


def corrected(change: Change) -> Sequence[Decision]:
    """Run a model that has a result about a Patient again when birth date or sex changes.

    Parameters
    ----------
    change
        Of a Patient, with the version before.
    """
    differ = demographics(change.before or {}) != demographics(change.after or {})
    return (Run(patient=change.patient, again=True),) if change.patient and differ else ()


def is_ai_asserted(resource: Resource) -> bool:
    """Return whether a resource is labelled as asserted by AI (``AIAST``), as every result of a model is."""
    labels = resource.get("meta", {}).get("security", ())
    return any(label.get("code") == _AI_ASSERTED for label in labels)


def codes_of(*concepts: Resource | None) -> frozenset[str]:
    """Return every code of CodeableConcepts, whatever its system."""
    codings = (coding for concept in concepts if concept for coding in concept.get("coding", ()))
    return frozenset(coding["code"] for coding in codings if "code" in coding)
