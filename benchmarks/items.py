"""The items that are sent: each has its own patient and is complete, so that exactly one result is expected."""

import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, Final

import orjson

from dicom_node.encoding import open_file
from dicom_node.synthesise import ChestXRay, chest_x_ray
from fhir_adapter.hl7v2.synthesise import VITALS, SyntheticPatient, oru_vitals

AUTHORITY: Final = "HOSPITAL"
IDENTIFIER_SYSTEM: Final = "urn:ausculta:authority:HOSPITAL"

_READINGS: Final = {
    "respirations": "22",
    "spo2": "94",
    "systolic": "105",
    "pulse": "104",
    "temperature": "38.20",
    "consciousness": "Alert",
    "oxygen_flow": "2",
}
"""A complete set of the values that NEWS2 needs."""


class Interface(StrEnum):
    """The interface that receives an item."""

    HL7 = "HL7 v2"
    FHIR = "FHIR"
    DICOM = "DICOM"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One message, transaction or instance; every retry sends the same bytes."""

    interface: Interface
    mrn: str
    """The patient's number; no other item has it."""
    key: str
    """MSH-10, the bundle's Patient id, or the SOPInstanceUID."""
    payload: bytes
    parts: int
    """Number of Observations or instances that must be stored for it."""


def hl7_item(run: str, number: int) -> Item:
    """Make an ORU^R01 with a complete set of vital signs."""
    mrn, key = f"H{run}{number:06d}", f"M{run}{number:06d}"
    patient = SyntheticPatient(
        mrn=mrn, authority=AUTHORITY, family="Synthetic", given="Hl7", birth_date=date(1950, 3, 1), sex="F"
    )
    payload = oru_vitals(patient, _READINGS, key, datetime.now(UTC))
    return Item(interface=Interface.HL7, mrn=mrn, key=key, payload=payload, parts=len(_READINGS))


def fhir_item(run: str, number: int) -> Item:
    """Make a transaction of a Patient and vital signs, each with an id of the client, so that it can be repeated."""
    mrn = f"F{run}{number:06d}"
    patient = str(uuid.uuid5(uuid.NAMESPACE_URL, mrn))
    resources = [_patient(patient, mrn), *observations(patient, datetime.now(UTC))]
    entries = [
        {"resource": resource, "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}}
        for resource in resources
    ]
    payload = orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    return Item(interface=Interface.FHIR, mrn=mrn, key=patient, payload=payload, parts=len(_READINGS))


def dicom_item(run: str, number: int) -> Item:
    """Make a study of one small chest radiograph; those of odd numbers are large enough to be stored in a file."""
    size = 320 if number % 2 else 96
    mrn = f"D{run}{number:06d}"
    wanted = ChestXRay(
        PatientID=mrn,
        IssuerOfPatientID=AUTHORITY,
        PatientName="Synthetic^Dicom",
        AccessionNumber=mrn[-16:],
        modality="CR",
        rows=size,
        columns=size,
        seed=number,
    )
    payload = chest_x_ray(wanted)
    return Item(
        interface=Interface.DICOM, mrn=mrn, key=str(open_file(payload).SOPInstanceUID), payload=payload, parts=1
    )


MAKERS: Final = {Interface.HL7: hl7_item, Interface.FHIR: fhir_item, Interface.DICOM: dicom_item}
"""Interface -> the function that makes its items."""


def observations(patient: str, at: datetime) -> list[dict[str, Any]]:
    """Return a complete set of vital signs as Observations of ``Patient/<patient>``."""
    return [_observation(patient, name, value, at) for name, value in _READINGS.items()]


def _patient(identifier: str, mrn: str) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": identifier,
        "identifier": [{"system": IDENTIFIER_SYSTEM, "value": mrn}],
        "name": [{"family": "Synthetic", "given": ["Fhir"]}],
        "gender": "female",
        "birthDate": "1950-03-01",
    }


def _observation(patient: str, name: str, value: str, at: datetime) -> dict[str, Any]:
    code, display, unit = VITALS[name]
    found: dict[str, Any] = {
        "resourceType": "Observation",
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{patient}/{name}")),
        "status": "final",
        "category": [
            {
                "coding": [
                    {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}
                ]
            }
        ],
        "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": display}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": at.isoformat(timespec="seconds"),
    }
    if unit:
        quantity = {"value": orjson.Fragment(value), "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
        return found | {"valueQuantity": quantity}
    return found | {"valueString": value}
