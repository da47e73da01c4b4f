"""Synthetic messages about invented patients, for the demonstration and for tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from types import MappingProxyType
from typing import Final

from fhir_adapter.hl7v2 import writer


@dataclass(frozen=True, kw_only=True)
class SyntheticPatient:
    """An invented patient."""

    #: Medical record number, PID-3.1.
    mrn: str
    #: Assigning authority, PID-3.4.
    authority: str
    family: str
    given: str
    birth_date: date
    #: Table 0001: F, M, O or U.
    sex: str


@dataclass(frozen=True, kw_only=True)
class LabResult:
    """One numeric laboratory result."""

    #: LOINC code and its name.
    code: str
    display: str
    #: The value as text, such as ``37.10``.
    value: str
    #: UCUM.
    unit: str
    #: OBX-7 and OBX-8.
    limits: str = ""
    flag: str = ""


VITALS: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        "respirations": ("9279-1", "Respiratory rate", "/min"),
        "spo2": ("59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry", "%"),
        "systolic": ("8480-6", "Systolic blood pressure", "mm[Hg]"),
        "diastolic": ("8462-4", "Diastolic blood pressure", "mm[Hg]"),
        "pulse": ("8867-4", "Heart rate", "/min"),
        "temperature": ("8310-5", "Body temperature", "Cel"),
        "consciousness": ("67775-7", "Level of consciousness", ""),
        "oxygen_flow": ("3151-8", "Inhaled oxygen flow rate", "L/min"),
    }
)
"""Names of :func:`oru_vitals` to LOINC code, its name, and the UCUM unit; without a unit the value is a word."""


def adt_a01(patient: SyntheticPatient, control_id: str, at: datetime, *, visit: str = "") -> bytes:
    """Write the admission of an inpatient.

    Parameters
    ----------
    patient
        The patient.
    control_id
        MSH-10.
    at
        When it happened and was sent, aware.
    visit
        Visit number, PV1-19; ``V`` and the medical record number when empty.
    """
    return _adt("A01", patient, control_id, at, {19: _visit(patient, visit), 44: writer.stamp(at)})


def adt_a03(patient: SyntheticPatient, control_id: str, at: datetime, *, visit: str = "") -> bytes:
    """Write the discharge from the visit; parameters as for :func:`adt_a01`."""
    return _adt("A03", patient, control_id, at, {19: _visit(patient, visit), 45: writer.stamp(at)})


def adt_a04(patient: SyntheticPatient, control_id: str, at: datetime, *, visit: str = "") -> bytes:
    """Write the registration of an outpatient; parameters as for :func:`adt_a01`."""
    return _adt("A04", patient, control_id, at, {2: "O", 19: _visit(patient, visit), 44: writer.stamp(at)})


def adt_a08(patient: SyntheticPatient, control_id: str, at: datetime, *, visit: str = "") -> bytes:
    """Write an update of the patient's data; parameters as for :func:`adt_a01`."""
    return _adt("A08", patient, control_id, at, {19: _visit(patient, visit)})


def oru_vitals(patient: SyntheticPatient, values: Mapping[str, str], control_id: str, at: datetime) -> bytes:
    """Write vital signs measured at ``at``.

    Parameters
    ----------
    patient
        The patient.
    values
        Names of :data:`VITALS` to values as text, ``{"pulse": "72", "consciousness": "Alert"}``.
    control_id
        MSH-10.
    at
        When they were measured and sent, aware.
    """
    body = [_obr("VITALS", "Vital signs", f"{control_id}-V", at)]
    for ordinal, (name, value) in enumerate(values.items(), start=1):
        code, display, unit = VITALS[name]
        fields: dict[int, writer.Field] = {
            1: str(ordinal),
            2: "NM" if unit else "ST",
            3: (code, display, "LN"),
            5: value,
            6: (unit, unit, "UCUM") if unit else "",
            11: "F",
            14: writer.stamp(at),
        }
        body.append(writer.segment("OBX", fields))
    return _message(("ORU", "R01", "ORU_R01"), control_id, at, [_pid(patient), *body])


def oru_labs(patient: SyntheticPatient, results: Sequence[LabResult], control_id: str, at: datetime) -> bytes:
    """Write laboratory results.

    Parameters
    ----------
    patient
        The patient.
    results
        One OBX each, in order.
    control_id
        MSH-10.
    at
        When the sample was taken and the message sent, aware.
    """
    body = [_obr("CHEM", "Chemistry", f"{control_id}-L", at)]
    for ordinal, result in enumerate(results, start=1):
        fields: dict[int, writer.Field] = {
            1: str(ordinal),
            2: "NM",
            3: (result.code, result.display, "LN"),
            5: result.value,
            6: (result.unit, result.unit, "UCUM"),
            7: result.limits,
            8: result.flag,
            11: "F",
            14: writer.stamp(at),
        }
        body.append(writer.segment("OBX", fields))
    return _message(("ORU", "R01", "ORU_R01"), control_id, at, [_pid(patient), *body])


def _adt(
    trigger: str, patient: SyntheticPatient, control_id: str, at: datetime, visit: Mapping[int, writer.Field]
) -> bytes:
    structure = "ADT_A03" if trigger == "A03" else "ADT_A01"
    pv1: dict[int, writer.Field] = {1: "1", 2: "I", 3: ("WARD4", "12", "B", "GENERAL"), **visit}
    body = [writer.segment("EVN", {1: trigger, 2: writer.stamp(at)}), _pid(patient), writer.segment("PV1", pv1)]
    return _message(("ADT", trigger, structure), control_id, at, body)


def _message(kind: writer.Field, control_id: str, at: datetime, body: list[str]) -> bytes:
    header: dict[int, writer.Field] = {
        3: "WARDSYS",
        4: "GENERAL",
        5: "AUSCULTA",
        6: "GENERAL",
        7: writer.stamp(at),
        9: kind,
        10: control_id,
        11: "P",
        12: "2.5.1",
    }
    return writer.message(header, body)


def _pid(patient: SyntheticPatient) -> str:
    fields: dict[int, writer.Field] = {
        1: "1",
        3: (patient.mrn, "", "", patient.authority, "MR"),
        5: (patient.family, patient.given, "", "", "", "", "L"),
        7: writer.stamp(patient.birth_date),
        8: patient.sex,
    }
    return writer.segment("PID", fields)


def _visit(patient: SyntheticPatient, visit: str) -> writer.Field:
    return (visit or f"V{patient.mrn}", "", "", patient.authority, "VN")


def _obr(code: str, display: str, filler: str, at: datetime) -> str:
    when = writer.stamp(at)
    fields: dict[int, writer.Field] = {
        1: "1",
        3: (filler, "WARDSYS"),
        4: (code, display, "L"),
        7: when,
        22: when,
        25: "F",
    }
    return writer.segment("OBR", fields)
