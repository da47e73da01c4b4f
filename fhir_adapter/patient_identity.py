"""Patient identity: which Patient resource an identifier names, by one rule for every listener.

A stored Patient who has the identifier is that patient, whichever listener was first
(:mod:`fhir_adapter.store.patients` finds them). The id of a new one is the keyed pseudonym of assigning authority and
number, so PID-3 ``12345^^^HOSP`` and DICOM PatientID ``12345`` with issuer ``HOSP`` name the same resource.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

from fhir_adapter.hl7v2.datatypes import hd
from fhir_adapter.hl7v2.tables import TERMINOLOGY
from fhir_adapter.store.patients import DICOM_UID, Holder, Token, current_identifiers
from kernel.errors import Category, Problem

DEFAULT_RANK: Final = ("MR", "PI", "PT", "PN", "NI")
"""Types of identifiers (table 0203) that name one person, the one that is trusted most first."""

IDENTIFIER_TYPES: Final = f"{TERMINOLOGY}v2-0203"
"""System of the types of identifiers."""

SHARED: Final = "several Patients have the identifier; the one that was stored first is taken"
""":attr:`PatientIdentity.shared` in words."""


class Pseudonyms(Protocol):
    """Makes resource ids that cannot be traced back to the identifiers they come from."""

    def resource_id(self, resource_type: str, system: str, value: str) -> str:
        """Return the FHIR id for a business identifier; always the same.

        Parameters
        ----------
        resource_type
            FHIR resource type, such as ``Patient``.
        system, value
            The business identifier.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class IdentifierConventions:
    """What the site's settings say about identifiers where the standards leave it open."""

    #: Assigning authority of numbers that arrive without one.
    default_authority: str
    #: Assigning authority, by namespace or universal id, to the system of its identifiers.
    systems: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    #: Identifiers in the order of trust: ``MR``, ``CITY^MR`` or ``CITY^``, as CX.4 and CX.5 name them.
    rank: Sequence[str] = DEFAULT_RANK

    def system(self, namespace: str, universal_id: str = "") -> str:
        """Return the system of the numbers that an authority assigns to patients and visits.

        Parameters
        ----------
        namespace, universal_id
            HD.1 and HD.2, or IssuerOfPatientID; the site's default authority when both are empty.
        """
        return hd.system(namespace, universal_id, self.systems, self.default_authority)

    def order(self) -> "Order":
        """Return :attr:`rank` with the systems of its authorities."""
        pairs = (entry.rpartition("^") for entry in self.rank)
        return tuple((self.system(authority) if authority else "", kind) for authority, _, kind in pairs)


Order: TypeAlias = tuple[tuple[str, str], ...]
"""Pairs of system and type, the most trusted first; an empty one is any."""

DEFAULT_ORDER: Final[Order] = tuple(("", kind) for kind in DEFAULT_RANK)


@dataclass(frozen=True, kw_only=True)
class PatientIdentity:
    """The identifier that identifies a patient, and the resource that it names."""

    system: str
    value: str
    #: Logical id of the Patient.
    resource_id: str
    #: Several stored Patients have the identifier, and this is the first of them.
    shared: bool = False

    @property
    def reference(self) -> str:
        """Reference of the Patient."""
        return f"Patient/{self.resource_id}"

    @property
    def identifier(self) -> tuple[str, str]:
        """System and value."""
        return self.system, self.value


class PatientIdentities:
    """The site's rule of patient identity.

    Parameters
    ----------
    conventions
        The site's.
    pseudonyms
        Name the resources.
    """

    def __init__(self, conventions: IdentifierConventions, pseudonyms: Pseudonyms) -> None:
        self.conventions = conventions
        self._order = conventions.order()
        self._pseudonyms = pseudonyms

    def of_number(self, number: str, issuer: str) -> PatientIdentity:
        """Return the identity of the patient who has a number.

        Parameters
        ----------
        number
            The number as its issuer writes it.
        issuer
            Namespace of its assigning authority; may be empty.
        """
        return self._of(self.conventions.system(issuer), number)

    def of_identifiers(self, identifiers: Sequence[Mapping[str, Any]]) -> PatientIdentity:
        """Return the identity that a list of identifiers states, by :func:`best_identifier`.

        Parameters
        ----------
        identifiers
            FHIR Identifiers with system and value, in the sender's order; at least one.
        """
        chosen = best_identifier(identifiers, self._order) or identifiers[0]
        return self._of(chosen["system"], chosen["value"])

    def trusted(self, identifiers: Sequence[Mapping[str, Any]]) -> tuple[Token, ...]:
        """Return by which identifiers a stored Patient is looked for, the most trusted first.

        These are the identifiers of a ranked type or of no type. One of another type may be shared by a family, such
        as an insurance number; it counts when there is nothing better.

        Parameters
        ----------
        identifiers
            FHIR Identifiers with system and value, in the sender's order; at least one.
        """
        current = sorted(current_identifiers(identifiers), key=lambda it: _place(it, self._order))
        named = [it for it in current if _place(it, self._order) <= len(self._order)]
        found = named or current[:1] or identifiers[:1]
        return tuple(dict.fromkeys((it["system"], it["value"]) for it in found))

    def among(self, identifiers: Sequence[Mapping[str, Any]], holders: Sequence[Holder]) -> PatientIdentity:
        """Return the identity that a list of identifiers states, given what is stored.

        Parameters
        ----------
        identifiers
            FHIR Identifiers with system and value, in the sender's order; at least one.
        holders
            The stored Patients who have one of :meth:`trusted`, or the id of :meth:`of_identifiers`; the one that was
            stored first comes first.

        Raises
        ------
        Problem
            ``conflict`` when the identifiers name different stored Patients, or the Patient whom they name has another
            number of the same authority.
        """
        identity, tokens = self.of_identifiers(identifiers), self.trusted(identifiers)
        named = [found for token in tokens if (found := _holders_of(token, holders))]
        common = [holder for holder in holders if all(holder in found for found in named)] if named else []
        if named and not common:
            raise Problem(Category.CONFLICT, "the identifiers name different Patients; nothing of it was stored")
        if len(common) > 1 and not self._names_one(identifiers):
            raise Problem(
                Category.CONFLICT,
                "several Patients share the only identifier, of no ranked type; nothing was stored",
            )
        derived = [holder for holder in holders if holder.id == identity.resource_id]
        chosen = next(iter(common or derived), None)
        if chosen is None:
            return identity
        numbers = {value for system, value in chosen.identifiers if system == identity.system}
        if numbers and numbers.isdisjoint(value for system, value in tokens if system == identity.system):
            raise Problem(
                Category.CONFLICT,
                "the Patient whom an identifier names has another number of the same authority; nothing was stored",
            )
        return replace(identity, resource_id=chosen.id, shared=len(common) > 1)

    def _names_one(self, identifiers: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether one of the identifiers is of a ranked type or of no type, and so names one person."""
        return any(_place(it, self._order) <= len(self._order) for it in current_identifiers(identifiers))

    def of_study(self, StudyInstanceUID: str) -> PatientIdentity:
        """Return the identity of the patient of a study whose header has no number: one of its own for each study.

        Two people are never made one because both lack a number.
        """
        return self._of(DICOM_UID, f"urn:oid:{StudyInstanceUID}")

    def _of(self, system: str, value: str) -> PatientIdentity:
        return PatientIdentity(
            system=system, value=value, resource_id=self._pseudonyms.resource_id("Patient", system, value)
        )


def best_identifier(identifiers: Sequence[Mapping[str, Any]], order: Order = DEFAULT_ORDER) -> Mapping[str, Any] | None:
    """Return the identifier that other systems are most likely to know.

    Parameters
    ----------
    identifiers
        FHIR Identifiers; one without system or value, or with use ``old``, does not count.
    order
        The site's order of trust.

    Returns
    -------
    Mapping or None
        The first of the best; None when none counts.
    """
    return min(current_identifiers(identifiers), key=lambda it: _place(it, order), default=None)


def type_of(identifier: Mapping[str, Any]) -> str:
    """Return the type of an identifier, a code of table 0203; empty when it states none."""
    codings = identifier.get("type", {}).get("coding", ())
    return next((one["code"] for one in codings if one.get("system") == IDENTIFIER_TYPES and one.get("code")), "")


def _place(identifier: Mapping[str, Any], order: Order) -> int:
    """Return the place in the order of trust; behind it come an identifier without a type, then one of another type."""
    codes = {coding.get("code") for coding in identifier.get("type", {}).get("coding", ())} - {None}
    for place, (system, kind) in enumerate(order):
        if (not system or system == identifier["system"]) and (not kind or kind in codes):
            return place
    return len(order) + bool(codes)


def _holders_of(token: Token, holders: Sequence[Holder]) -> list[Holder]:
    """Return who has an identifier; those out of use count only where nobody else has it."""
    found = [holder for holder in holders if token in holder.identifiers]
    return [holder for holder in found if holder.active] or found
