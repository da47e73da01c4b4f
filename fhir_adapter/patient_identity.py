"""Patient identity: which Patient resource an identifier names, by one rule for every listener.

An id is the keyed pseudonym of assigning authority and number, so PID-3 ``12345^^^HOSP`` and DICOM PatientID ``12345``
with issuer ``HOSP`` name the same resource.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol

from fhir_adapter.hl7v2.datatypes import hd

_STUDY_SYSTEM: Final = "urn:dicom:uid"
_MEDICAL_RECORD_NUMBER: Final = "MR"
"""Code of table 0203."""


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


@dataclass(frozen=True, kw_only=True)
class PatientIdentity:
    """The identifier that identifies a patient, and the resource that it names."""

    system: str
    value: str
    #: Logical id of the Patient.
    resource_id: str

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
        self._pseudonyms = pseudonyms

    def system(self, namespace: str, universal_id: str = "") -> str:
        """Return the system of the numbers that an authority assigns to patients and visits.

        Parameters
        ----------
        namespace, universal_id
            HD.1 and HD.2, or IssuerOfPatientID; the site's default authority when both are empty.
        """
        return hd.system(namespace, universal_id, self.conventions.systems, self.conventions.default_authority)

    def of_number(self, number: str, issuer: str) -> PatientIdentity:
        """Return the identity of the patient who has a number.

        Parameters
        ----------
        number
            The number as its issuer writes it.
        issuer
            Namespace of its assigning authority; may be empty.
        """
        return self._of(self.system(issuer), number)

    def of_identifiers(self, identifiers: Sequence[Mapping[str, Any]]) -> PatientIdentity:
        """Return the identity that a list of identifiers states: the medical record number, else the first of them.

        Parameters
        ----------
        identifiers
            FHIR Identifiers with system and value, in the sender's order; at least one.
        """
        chosen = next((it for it in identifiers if _is_medical_record_number(it)), identifiers[0])
        return self._of(chosen["system"], chosen["value"])

    def of_study(self, StudyInstanceUID: str) -> PatientIdentity:
        """Return the identity of the patient of a study whose header has no number: one of its own for each study.

        Two people are never made one because both lack a number.
        """
        return self._of(_STUDY_SYSTEM, f"urn:oid:{StudyInstanceUID}")

    def _of(self, system: str, value: str) -> PatientIdentity:
        return PatientIdentity(
            system=system, value=value, resource_id=self._pseudonyms.resource_id("Patient", system, value)
        )


def _is_medical_record_number(identifier: Mapping[str, Any]) -> bool:
    coding: Mapping[str, Any] = identifier.get("type", {}).get("coding", [{}])[0]
    return coding.get("code") == _MEDICAL_RECORD_NUMBER
