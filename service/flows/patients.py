"""The patient of a study: found by the site's rule of patient identity, or created.

A study of a patient that no message has announced creates the resource from its header; a study of a known patient
changes nothing about them. A header that a PACS has corrected corrects the resource that was made from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from dicom_node.demographics import birth_of, name_of, sex_of
from dicom_node.study import Study
from fhir_adapter.facts import day_or_period
from fhir_adapter.facts import subject as subject_of
from fhir_adapter.hl7v2.events import is_stated
from fhir_adapter.patient_identity import SHARED, PatientIdentities, PatientIdentity
from fhir_adapter.store.document import exact_values
from fhir_adapter.store.operations import PreparedChanges
from fhir_adapter.store.patients import holders, lock_names
from inference.contract import Subject
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.log import get_logger
from privacy.principal import SERVER, Principal
from service.core import CoreServices
from service.flows.read_set import newest_version

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class StudyPatient:
    """The patient of a study."""

    subject: Subject
    creation: PreparedChanges | None
    """The validated Patient resource to write; None when the store has one."""
    study: Study | None = None
    """What the Patient is created from."""


class PatientMatching:
    """Finds or creates the patient that a study belongs to.

    Parameters
    ----------
    core
        What every flow stands on.
    identities
        Decide which patient a header names.
    """

    def __init__(self, core: CoreServices, identities: PatientIdentities) -> None:
        self._core = core
        self._identities = identities

    def of_study(self, study: Study) -> StudyPatient:
        """Return who a study is of; a study without a PatientID belongs to a patient of its own.

        Raises
        ------
        Problem
            ``conflict`` as :meth:`fhir_adapter.patient_identity.PatientIdentities.among`.
        """
        with self._core.database.read() as connection:
            identity = self._identity(connection, study)
            if identity.shared:
                _log.warning("dicom_patient_ambiguous", detail=SHARED)
            if self._is_known(connection, identity.resource_id):
                order = self._core.identifier_order
                subject = subject_of(connection, self._core.store, identity.reference, order)
                return StudyPatient(subject=subject, creation=None)
        creation = self._core.writer.prepare([_resource(identity, study)])
        return StudyPatient(subject=_subject(identity, study), creation=creation, study=study)

    def correct(self, header: Study, former: Sequence[Study]) -> None:
        """Correct a Patient who is known by a header alone, when the PACS has corrected that header.

        A Patient of whom anybody else has said anything stays as it is: whether the study contradicts that is asked
        afterwards.

        Parameters
        ----------
        header
            The newest header.
        former
            What the same instance said before.
        """
        with self._core.database.read() as connection:
            identity = self._identity(connection, header)
            if not self._is_to_correct(connection, identity, header, former):
                return
        prepared = self._core.writer.prepare([_resource(identity, header)])

        def commit(tx: Transaction) -> None:
            tx.lock(identity.reference)
            if self._is_to_correct(tx.connection, identity, header, former):
                self._core.writer.apply(tx, prepared, SERVER)
                _log.info("dicom_patient_corrected")

        self._core.database.write(commit)

    def _is_to_correct(
        self, connection: Connection, identity: PatientIdentity, header: Study, former: Sequence[Study]
    ) -> bool:
        stored = newest_version(connection, self._core.store, "Patient", identity.resource_id)
        if stored is None or is_stated(connection, "Patient", identity.resource_id):
            return False
        content = exact_values(stored.content)
        if not content.get("meta", {}).get("source", "").startswith(_HEADER):
            return False
        said = [_without_meta(_resource(identity, one)) for one in former if _number(one) == _number(header)]
        known = _without_meta(content)
        return known in said and known != _without_meta(_resource(identity, header))

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

        Raises
        ------
        Problem
            ``busy`` when somebody else stored a Patient with the identifier meanwhile.
        """
        if patient.creation is None or patient.study is None:
            return
        reference = patient.subject.reference
        if patient.subject.identifier is not None:
            tx.lock(*lock_names([patient.subject.identifier]))
        tx.lock(reference)
        if self._identity(tx.connection, patient.study).reference != reference:
            raise Problem(Category.BUSY, "a Patient with the identifier was stored by somebody else meanwhile")
        if not self._is_known(tx.connection, reference.removeprefix("Patient/")):
            self._core.writer.apply(tx, patient.creation, principal)

    def _identity(self, connection: Connection, study: Study) -> PatientIdentity:
        if not study.PatientID:
            return self._identities.of_study(study.StudyInstanceUID)
        identity = self._identities.of_number(study.PatientID, study.IssuerOfPatientID)
        stated = [{"system": identity.system, "value": identity.value}]
        return self._identities.among(stated, holders(connection, [identity.identifier], identity.resource_id))

    def _is_known(self, connection: Connection, name: str) -> bool:
        return newest_version(connection, self._core.store, "Patient", name) is not None


def _subject(identity: PatientIdentity, study: Study) -> Subject:
    day, period = day_or_period(birth_of(study.PatientBirthDate))
    return Subject(
        reference=identity.reference,
        birth_date=day,
        birth_period=period,
        sex=sex_of(study.PatientSex),
        identifier=identity.identifier if study.PatientID else None,
        demographics=f"{identity.reference}/_history/1",  # the version that its creation makes
    )


_HEADER: Final = "urn:oid:"
"""How ``meta.source`` begins of a Patient whom a header has announced: the UID of the study follows."""


def _number(study: Study) -> tuple[str, str]:
    return study.PatientID, study.IssuerOfPatientID


def _without_meta(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in resource.items() if key != "meta"}


def _resource(identity: PatientIdentity, study: Study) -> dict[str, Any]:
    patient: dict[str, Any] = {
        "resourceType": "Patient",
        "id": identity.resource_id,
        "meta": {"source": f"{_HEADER}{study.StudyInstanceUID}"},
        "identifier": [{"system": identity.system, "value": identity.value}],
    }
    family, given = name_of(study.PatientName)
    if family:
        patient["name"] = [{"family": family} | ({"given": list(given)} if given else {})]
    if (sex := sex_of(study.PatientSex)) is not None:
        patient["gender"] = sex
    if born := birth_of(study.PatientBirthDate):
        patient["birthDate"] = born
    return patient
