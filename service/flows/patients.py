"""The patient of a study: one person is one Patient resource, whichever listener their data came by.

An id is the keyed pseudonym of assigning authority and number, so PID-3 ``12345^^^HOSP`` and DICOM PatientID ``12345``
with issuer ``HOSP`` name the same resource. A study of a patient that no message has announced creates the resource
from its header; a study of a known patient changes nothing about them.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from dicom_node.demographics import birth_date_of, name_of, sex_of
from dicom_node.study import Study
from fhir_adapter.facts import subject as subject_of
from fhir_adapter.hl7v2.datatypes import hd
from fhir_adapter.store.prepare import PreparedChanges
from inference.contract import Subject
from kernel.db import Transaction
from privacy.principal import Principal
from privacy.pseudonyms import Pseudonyms
from service.core import CoreServices
from service.flows.conventions import SiteConventions
from service.flows.read_set import newest_version


@dataclass(frozen=True, kw_only=True)
class StudyPatient:
    """The patient of a study."""

    subject: Subject
    creation: PreparedChanges | None
    """The validated Patient resource to write; None when the store has one."""


class PatientMatching:
    """Finds or creates the patient that a study belongs to.

    Parameters
    ----------
    core
        What every flow stands on.
    pseudonyms
        Name patients.
    conventions
        The site's assigning authority where a header names none, and the identifier systems of authorities.
    """

    def __init__(self, core: CoreServices, pseudonyms: Pseudonyms, conventions: SiteConventions) -> None:
        self._core = core
        self._pseudonyms = pseudonyms
        self._conventions = conventions

    def of_study(self, study: Study) -> StudyPatient:
        """Return who a study is of.

        A study without a PatientID belongs to a patient of its own, named by its StudyInstanceUID: two people are
        never made one because both lack a number.
        """
        if study.PatientID:
            system = hd.system(study.IssuerOfPatientID, "", self._conventions.systems, self._conventions.authority)
            identifier = (system, study.PatientID)
        else:
            identifier = ("urn:dicom:uid", f"urn:oid:{study.StudyInstanceUID}")
        name = self._pseudonyms.resource_id("Patient", *identifier)
        with self._core.database.read() as connection:
            if self._is_known(connection, name):
                return StudyPatient(subject=subject_of(connection, self._core.store, f"Patient/{name}"), creation=None)
        creation = self._core.writer.prepare([_resource(name, identifier, study)])
        return StudyPatient(subject=_subject(name, identifier, study), creation=creation)

    def create_if_missing(self, tx: Transaction, patient: StudyPatient, principal: Principal) -> None:
        """Write the patient of a study unless the store has one by now, which then stays as it is.

        Parameters
        ----------
        tx
            The transaction of the study's results.
        patient
            From :meth:`of_study`.
        principal
            Who writes.
        """
        if patient.creation is None:
            return
        reference = patient.subject.reference
        tx.lock(reference)
        if not self._is_known(tx.connection, reference.removeprefix("Patient/")):
            self._core.writer.apply(tx, patient.creation, principal)

    def _is_known(self, connection: Connection, name: str) -> bool:
        return newest_version(connection, self._core.store, "Patient", name) is not None


def _subject(name: str, identifier: tuple[str, str], study: Study) -> Subject:
    return Subject(
        reference=f"Patient/{name}",
        birth_date=birth_date_of(study.PatientBirthDate),
        sex=sex_of(study.PatientSex),
        identifier=identifier,
    )


def _resource(name: str, identifier: tuple[str, str], study: Study) -> dict[str, Any]:
    patient: dict[str, Any] = {
        "resourceType": "Patient",
        "id": name,
        "identifier": [{"system": identifier[0], "value": identifier[1]}],
    }
    family, given = name_of(study.PatientName)
    if family:
        patient["name"] = [{"family": family} | ({"given": list(given)} if given else {})]
    if (sex := sex_of(study.PatientSex)) is not None:
        patient["gender"] = sex
    if (born := birth_date_of(study.PatientBirthDate)) is not None:
        patient["birthDate"] = born.isoformat()
    return patient
