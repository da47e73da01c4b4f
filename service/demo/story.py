"""The scenario of the demonstration, as plain data: what is sent, by which interface, and the expected results.

Three patients. One is admitted and worsens over some hours; the ward uses HL7 v2. A child of three gets a chest
radiograph over DICOM. The third is measured on a ward that uses FHIR, and the first set of measurements is not
complete. All are invented persons, and all data are synthetic.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import orjson

from dicom_node.synthesise import ChestXRay, chest_x_ray
from dicom_node.synthesise import study_uid as uid_of
from fhir_adapter.hl7v2.synthesise import VITALS, LabResult, SyntheticPatient, adt_a01, oru_labs, oru_vitals

AUTHORITY: Final = "HOSPITAL"
"""Assigning authority of the medical record numbers."""

IDENTIFIER_SYSTEM: Final = f"urn:ausculta:authority:{AUTHORITY}"
"""Identifier system of the same numbers in FHIR."""

MARA: Final = SyntheticPatient(
    mrn="100234", authority=AUTHORITY, family="Ashdown", given="Mara", birth_date=date(1951, 3, 14), sex="F"
)
TOMAS: Final = SyntheticPatient(
    mrn="100871", authority=AUTHORITY, family="Weller", given="Tomas", birth_date=date(1948, 11, 2), sex="M"
)
IDA: Final = SyntheticPatient(
    mrn="100512",
    authority=AUTHORITY,
    family="Calder",
    given="Ida",
    birth_date=date(datetime.now(UTC).year - 3, 1, 1),
    sex="F",
)
"""Three years old in any year: the imaging model reads images of children of one to five."""
PATIENTS: Final = (MARA, TOMAS, IDA)
"""The patients that the hospital's EHR holds before the scenario starts."""

IMAGING_MODEL: Final = "cxr-pneumonia"

_GENDERS: Final = {"F": "female", "M": "male"}


class Interface(StrEnum):
    """An interface of the server."""

    HL7 = "HL7 v2"
    FHIR = "FHIR"
    DICOM = "DICOM"


class Place(StrEnum):
    """A stand-in that receives results."""

    EHR = "EHR"
    ENGINE = "engine"
    PACS = "PACS"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The result that a step must produce."""

    model: str
    #: Text that its line must contain.
    text: str
    #: The documents that must be received, and by which stand-in: a FHIR type, an HL7 message type, a DICOM modality.
    documents: frozenset[tuple[Place, str]]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One message, Bundle or study that the hospital sends."""

    interface: Interface
    title: str
    patient: SyntheticPatient
    #: One HL7 message, one FHIR Bundle, or DICOM files.
    content: tuple[bytes, ...]
    #: MSH-10 or StudyInstanceUID; empty for FHIR, where the server assigns the ids.
    identifier: str = ""
    #: None when no model runs for it.
    expected: Expected | None = None


_RISK: Final = frozenset({(Place.EHR, "RiskAssessment"), (Place.EHR, "Observation"), (Place.ENGINE, "ORU^R01")})
_FINDING: Final = frozenset(
    {
        (Place.EHR, "Observation"),
        (Place.EHR, "DiagnosticReport"),
        (Place.ENGINE, "ORU^R01"),
        (Place.PACS, "SR"),
        (Place.PACS, "OT"),
    }
)
"""``OT`` is the modality of a secondary capture, here the heat map."""


def story(now: datetime) -> tuple[Step, ...]:
    """Return the steps of the scenario.

    Parameters
    ----------
    now
        The current time, aware. All events are in the hours before it, so that no measurement is too old.

    Returns
    -------
    tuple of Step
        In order. The result of a NEWS2 step must be awaited before the next step is sent, because the score uses the
        newest measurements.
    """
    return (*_on_the_ward(now), *_over_fhir(now))


def _on_the_ward(now: datetime) -> Iterator[Step]:
    """Mara is admitted, and her vital signs get worse; meanwhile Ida gets a radiograph."""

    def ago(hours: float) -> datetime:
        return now - timedelta(hours=hours)

    def message(title: str, content: bytes, identifier: str, expected: Expected | None = None) -> Step:
        return Step(
            interface=Interface.HL7,
            title=title,
            patient=MARA,
            content=(content,),
            identifier=identifier,
            expected=expected,
        )

    yield message("ADT^A01 admission", adt_a01(MARA, "DEMO-0001", ago(6)), "DEMO-0001")
    yield message(
        "ORU^R01 vital signs, 5 h ago",
        oru_vitals(MARA, _vitals("16", "95", "0", "124", "78", "37.1"), "DEMO-0002", ago(5)),
        "DEMO-0002",
        _news2(1, "low"),
    )
    yield message(
        "ORU^R01 vital signs, 2 h ago",
        oru_vitals(MARA, _vitals("21", "94", "0", "108", "96", "38.2"), "DEMO-0003", ago(2)),
        "DEMO-0003",
        _news2(6, "medium"),
    )
    yield message("ORU^R01 laboratory", oru_labs(MARA, _LABORATORY, "DEMO-0004", ago(1.5)), "DEMO-0004")
    yield _radiographs(ago(1))
    yield message(
        "ORU^R01 vital signs, 20 min ago",
        oru_vitals(MARA, _vitals("25", "93", "2", "104", "112", "38.8"), "DEMO-0005", ago(1 / 3)),
        "DEMO-0005",
        _news2(11, "high"),
    )


_LABORATORY: Final = (
    LabResult(code="1988-5", display="C reactive protein", value="148", unit="mg/L", limits="0-5", flag="H"),
    LabResult(code="6690-2", display="Leukocytes", value="15.20", unit="10*3/uL", limits="4.0-10.0", flag="H"),
    LabResult(code="2524-7", display="Lactate", value="2.9", unit="mmol/L", limits="0.5-2.0", flag="H"),
)


def _vitals(respirations: str, spo2: str, oxygen: str, systolic: str, pulse: str, temperature: str) -> dict[str, str]:
    return {
        "respirations": respirations,
        "spo2": spo2,
        "oxygen_flow": oxygen,
        "systolic": systolic,
        "pulse": pulse,
        "temperature": temperature,
        "consciousness": "Alert",
    }


def _news2(total: int, band: str) -> Expected:
    return Expected(model="news2", text=f"total score: {total} ({band})", documents=_RISK)


def _radiographs(at: datetime) -> Step:
    frontal, lateral = (_view(at, view, number) for number, view in enumerate(("PA", "LL"), start=1))
    return Step(
        interface=Interface.DICOM,
        title="chest X-ray, frontal and lateral",
        patient=IDA,
        content=(chest_x_ray(frontal), chest_x_ray(lateral)),
        identifier=uid_of(frontal),
        expected=Expected(model=IMAGING_MODEL, text="Pneumonia: ", documents=_FINDING),
    )


def _view(at: datetime, view: str, number: int) -> ChestXRay:
    return ChestXRay(
        PatientID=IDA.mrn,
        IssuerOfPatientID=AUTHORITY,
        PatientName=f"{IDA.family}^{IDA.given}",
        PatientBirthDate=f"{IDA.birth_date:%Y%m%d}",
        PatientSex=IDA.sex,
        AccessionNumber="XR-2041",
        StudyDate=f"{at:%Y%m%d}",
        StudyTime=f"{at:%H%M%S}",
        view=view,
        instance=number,
        consolidation=True,
    )


def _over_fhir(now: datetime) -> Iterator[Step]:
    """Tomas's first measurements are not complete, which gives a visible reason instead of a score."""
    earlier, later = now - timedelta(minutes=40), now - timedelta(minutes=10)
    first = [_quantity(name, value) for name, value in (("respirations", "18"), ("oxygen_flow", "0"), ("pulse", "92"))]
    first += [_blood_pressure("132", "78"), _quantity("temperature", "37.4")]
    missing = "AI result not available: missing oxygen saturation, level of consciousness"
    yield _bundle(
        "5 Observations, an incomplete set",
        first,
        earlier,
        Expected(model="news2", text=missing, documents=_RISK),
    )
    second = [_quantity("spo2", "96"), _word("consciousness", "Alert")]
    yield _bundle("2 Observations, what was missing", second, later, _news2(1, "low"))


def fhir_patient(patient: SyntheticPatient) -> dict[str, Any]:
    """Return a patient as a FHIR resource without an id, named as in HL7 v2."""
    return {
        "resourceType": "Patient",
        "identifier": [{"system": IDENTIFIER_SYSTEM, "value": patient.mrn}],
        "name": [{"family": patient.family, "given": [patient.given]}],
        "gender": _GENDERS[patient.sex],
        "birthDate": patient.birth_date.isoformat(),
    }


def _bundle(title: str, observations: Sequence[dict[str, Any]], at: datetime, expected: Expected) -> Step:
    """Put a patient, unless stored, and their observations into one transaction, so that the model reads them all."""
    condition = f"identifier={IDENTIFIER_SYSTEM}|{TOMAS.mrn}"
    name = "urn:uuid:2f4f2a0e-6f0a-4b43-9f0e-3f6d5a1f7c11"
    patient = {
        "fullUrl": name,
        "resource": fhir_patient(TOMAS),
        "request": {"method": "POST", "url": "Patient", "ifNoneExist": condition},
    }
    about: dict[str, Any] = {
        "resourceType": "Observation",
        "status": "final",
        "subject": {"reference": name},
        "effectiveDateTime": at.isoformat(timespec="seconds"),
    }
    entries = [{"resource": about | it, "request": {"method": "POST", "url": "Observation"}} for it in observations]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [patient, *entries]}
    return Step(
        interface=Interface.FHIR, title=title, patient=TOMAS, content=(orjson.dumps(bundle),), expected=expected
    )


def _concept(code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": "http://loinc.org", "code": code, "display": display}]}


def _quantity(name: str, value: str) -> dict[str, Any]:
    code, display, unit = VITALS[name]
    quantity = {"value": orjson.Fragment(value), "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
    return {"code": _concept(code, display), "valueQuantity": quantity}


def _word(name: str, value: str) -> dict[str, Any]:
    code, display, _ = VITALS[name]
    return {"code": _concept(code, display), "valueCodeableConcept": {"text": value}}


def _blood_pressure(systolic: str, diastolic: str) -> dict[str, Any]:
    parts = [_quantity("systolic", systolic), _quantity("diastolic", diastolic)]
    return {"code": _concept("85354-9", "Blood pressure panel"), "component": parts}
