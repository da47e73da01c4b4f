"""Records of the PhysioNet/CinC Challenge 2012 as FHIR resources, as HL7 v2 messages, and as the features of a model.

A record has the time series of the first 48 hours of a stay in intensive care. Of a variable that is stated twice at
one time the last value counts; a value of -1 is none. All admissions are moved to one day, so that they are recent.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.items import AUTHORITY, IDENTIFIER_SYSTEM
from fhir_adapter.hl7v2 import writer
from fhir_adapter.hl7v2.synthesise import SyntheticPatient, adt_a01

Json = dict[str, Any]

LOCAL: Final = "urn:ausculta:codesystem:PHYSIONET"
"""What HL7 v2 codes of the coding system PHYSIONET become."""
DONE: Final = "FIRST48H"
"""Code of the Observation that ends a record; the model runs when it comes."""
_HOURS_IN_A_MESSAGE: Final = 4


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One variable of the challenge."""

    code: str
    unit: str
    #: Values outside are not used.
    plausible: tuple[float, float]
    system: str = "http://loinc.org"
    #: What a value of the file is multiplied by.
    factor: Decimal = Decimal(1)


VARIABLES: Final[Mapping[str, Variable]] = MappingProxyType(
    {
        "Albumin": Variable(code="1751-7", unit="g/dL", plausible=(0.5, 8)),
        "ALP": Variable(code="6768-6", unit="U/L", plausible=(1, 5000)),
        "ALT": Variable(code="1742-6", unit="U/L", plausible=(0, 20_000)),
        "AST": Variable(code="1920-8", unit="U/L", plausible=(0, 40_000)),
        "Bilirubin": Variable(code="1975-2", unit="mg/dL", plausible=(0, 80)),
        "BUN": Variable(code="3094-0", unit="mg/dL", plausible=(0, 300)),
        "Cholesterol": Variable(code="2093-3", unit="mg/dL", plausible=(10, 1000)),
        "Creatinine": Variable(code="2160-0", unit="mg/dL", plausible=(0.05, 40)),
        "DiasABP": Variable(code="76213-8", unit="mm[Hg]", plausible=(5, 250)),
        "FiO2": Variable(code="3150-6", unit="%", plausible=(21, 100), factor=Decimal(100)),
        "GCS": Variable(code="9269-2", unit="{score}", plausible=(3, 15)),
        "Glucose": Variable(code="2345-7", unit="mg/dL", plausible=(5, 1500)),
        "HCO3": Variable(code="1963-8", unit="mmol/L", plausible=(1, 70)),
        "HCT": Variable(code="4544-3", unit="%", plausible=(5, 75)),
        "HR": Variable(code="8867-4", unit="/min", plausible=(10, 320)),
        "K": Variable(code="2823-3", unit="mmol/L", plausible=(1, 15)),
        "Lactate": Variable(code="2524-7", unit="mmol/L", plausible=(0.1, 40)),
        "Mg": Variable(code="19123-9", unit="mg/dL", plausible=(0.2, 12)),
        "MAP": Variable(code="76214-6", unit="mm[Hg]", plausible=(10, 280)),
        "MechVent": Variable(code="MECHVENT", unit="1", plausible=(0, 1), system=LOCAL),
        "Na": Variable(code="2951-2", unit="mmol/L", plausible=(80, 200)),
        "NIDiasABP": Variable(code="76535-4", unit="mm[Hg]", plausible=(5, 250)),
        "NIMAP": Variable(code="76536-2", unit="mm[Hg]", plausible=(10, 280)),
        "NISysABP": Variable(code="76534-7", unit="mm[Hg]", plausible=(20, 320)),
        "PaCO2": Variable(code="2019-8", unit="mm[Hg]", plausible=(5, 200)),
        "PaO2": Variable(code="2703-7", unit="mm[Hg]", plausible=(10, 700)),
        "pH": Variable(code="2744-1", unit="[pH]", plausible=(6.3, 8.2)),
        "Platelets": Variable(code="777-3", unit="10*3/uL", plausible=(1, 2500)),
        "RespRate": Variable(code="9279-1", unit="/min", plausible=(1, 99)),
        "SaO2": Variable(code="2708-6", unit="%", plausible=(20, 100)),
        "SysABP": Variable(code="76215-3", unit="mm[Hg]", plausible=(20, 320)),
        "Temp": Variable(code="8310-5", unit="Cel", plausible=(25, 45)),
        "TroponinI": Variable(code="10839-9", unit="ng/mL", plausible=(0, 200)),
        "TroponinT": Variable(code="6598-7", unit="ng/mL", plausible=(0, 100)),
        "Urine": Variable(code="9187-6", unit="mL", plausible=(0, 12_000)),
        "WBC": Variable(code="6690-2", unit="10*3/uL", plausible=(0, 600)),
        "Weight": Variable(code="29463-7", unit="kg", plausible=(20, 320)),
    }
)
"""Variable of the challenge -> its code and unit."""

HEIGHT: Final = Variable(code="8302-2", unit="cm", plausible=(100, 230))
TAKEN: Final = ("last", "first", "min", "max", "mean", "std", "slope", "count")
"""What is taken of each variable."""
_UNIT_OF: Final[Mapping[str, str]] = {"count": "1"}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One value of one variable."""

    minute: int
    variable: Variable
    value: Decimal


@dataclass(frozen=True, kw_only=True)
class Record:
    """One stay."""

    id: str
    age: int
    #: Table 0001.
    sex: str
    readings: Sequence[Reading]
    died: bool


def read_records(data: Path, most: int | None = None) -> list[Record]:
    """Read the records of set A whose outcome is stated, in the order of their numbers.

    Parameters
    ----------
    data
        Folder with ``set-a`` and ``Outcomes-a.txt``.
    most
        How many; all when None.
    """
    with (data / "Outcomes-a.txt").open(newline="") as lines:
        died = {row["RecordID"]: row["In-hospital_death"] == "1" for row in csv.DictReader(lines)}
    files = [file for file in sorted((data / "set-a").glob("*.txt")) if file.stem in died]
    return [_record(file, died[file.stem]) for file in files[:most]]


def _record(file: Path, died: bool) -> Record:
    stated: dict[str, str] = {}
    values: dict[tuple[int, str], Decimal] = {}
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            name, value = row["Parameter"], row["Value"]
            hours, minutes = row["Time"].split(":")
            if name in VARIABLES:
                values[int(hours) * 60 + int(minutes), name] = Decimal(value)
            else:
                stated.setdefault(name, value)
    readings = [
        Reading(minute=minute, variable=VARIABLES[name], value=value * VARIABLES[name].factor)
        for (minute, name), value in values.items()
        if value != -1
    ]
    if float(stated.get("Height", -1)) > 0:
        readings.append(Reading(minute=0, variable=HEIGHT, value=Decimal(stated["Height"])))
    readings.sort(key=lambda it: it.minute)
    sex = {"1": "M", "0": "F"}.get(stated.get("Gender", ""), "U")
    return Record(id=file.stem, age=int(float(stated["Age"])), sex=sex, readings=readings, died=died)


# Features in our language, and the same in NumPy


def declared() -> Json:
    """Return ``features.yaml``: each variable in the first 48 hours, by what is taken of it, with age, sex, height."""
    features: list[Json] = [
        {"name": "age", "title": "age", "subject": "age", "missing": "nan"},
        {"name": "sex", "title": "sex", "subject": "sex", "missing": "nan"},
        _feature("Height", HEIGHT, "last"),
    ]
    features += [_feature(name, variable, take) for name, variable in VARIABLES.items() for take in TAKEN]
    return {"features": features}


def _feature(name: str, variable: Variable, take: str) -> Json:
    source: Json = {"code": variable.code, "unit": variable.unit, "plausible": list(variable.plausible)}
    return {
        "name": f"{name}_{take}",
        "title": f"{take} of {name}",
        "window": {"take": take, "since": "admission", "first_hours": 49},
        "missing": "nan",
        "sources": [source | ({"system": variable.system} if variable.system == LOCAL else {})],
    }


def row_of(record: Record) -> list[float]:
    """Return the same features as one would compute them for a training program, from the record itself."""
    sex = {"M": 1.0, "F": 0.0}.get(record.sex, np.nan)
    row: list[float] = [float(record.age), sex, _taken(record, HEIGHT)[0]]
    for variable in VARIABLES.values():
        row += _taken(record, variable)
    return row


def _taken(record: Record, variable: Variable) -> list[float]:
    found = [(it.minute / 60, float(it.value)) for it in record.readings if it.variable is variable]
    low, high = variable.plausible
    used = np.array([pair for pair in found if low <= pair[1] <= high])
    if not len(used):
        return [np.nan] * len(TAKEN)
    hours, values = used.T
    # The newest and the oldest value count as they are: where one is not plausible, none takes its place.
    last, first = (value if low <= value <= high else np.nan for _, value in (found[-1], found[0]))
    several = len(values) > 1
    spread = float(np.std(values, ddof=1)) if several else np.nan
    trend = _slope(hours, values) if several else np.nan
    return [last, first, values.min(), values.max(), values.mean(), spread, trend, float(len(values))]


def _slope(hours: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    centred = hours - hours.mean()
    return float((centred * (values - values.mean())).sum() / (centred**2).sum())


# FHIR


@dataclass(frozen=True)
class Calendar:
    """The day to which admissions are moved."""

    admission: datetime

    @classmethod
    def recent(cls) -> "Calendar":
        """Return four days ago."""
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return cls(today - timedelta(days=4))

    @property
    def moment(self) -> datetime:
        """When the rows of training are: after the 48 hours."""
        return self.admission + timedelta(hours=50)

    def at(self, minute: int) -> datetime:
        """Return a minute of a stay."""
        return self.admission + timedelta(minutes=minute)

    def birth(self, age: int) -> date:
        """Return a day of birth that gives an age on all days of the stay, and for half a year after it."""
        return date(self.admission.year - age, self.admission.month, 1) - timedelta(days=150)


def resources(record: Record, calendar: Calendar) -> Iterator[Json]:
    """Yield the resources of a stay, the one that makes the model run as the last.

    Parameters
    ----------
    record
        The stay.
    calendar
        When it was.
    """
    patient = f"p{record.id}"
    subject = {"reference": f"Patient/{patient}"}
    yield {
        "resourceType": "Patient",
        "id": patient,
        "identifier": [{"system": IDENTIFIER_SYSTEM, "value": record.id}],
        "birthDate": calendar.birth(record.age).isoformat(),
        "gender": {"M": "male", "F": "female"}.get(record.sex, "unknown"),
    }
    yield {
        "resourceType": "Encounter",
        "id": f"e{record.id}",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": subject,
        "period": {"start": calendar.admission.isoformat()},
    }
    for number, reading in enumerate(_with_end(record)):
        variable, value = reading.variable, reading.value
        yield {
            "resourceType": "Observation",
            "id": f"o{record.id}-{number}",
            "status": "final",
            "code": {"coding": [{"system": variable.system, "code": variable.code}]},
            "subject": subject,
            "effectiveDateTime": calendar.at(reading.minute).isoformat(),
            "valueQuantity": {
                "value": float(value),
                "unit": variable.unit,
                "system": "http://unitsofmeasure.org",
                "code": variable.unit,
            },
        }


def transaction(record: Record, calendar: Calendar) -> Json:
    """Return the resources of a stay as one transaction.

    Parameters
    ----------
    record
        The stay.
    calendar
        When it was.
    """
    entries = [
        {"resource": it, "request": {"method": "PUT", "url": f"{it['resourceType']}/{it['id']}"}}
        for it in resources(record, calendar)
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _with_end(record: Record) -> list[Reading]:
    end = Variable(code=DONE, unit="h", plausible=(0, 48), system=LOCAL)
    return [*record.readings, Reading(minute=48 * 60, variable=end, value=Decimal(48))]


# HL7 v2


def messages(record: Record, calendar: Calendar) -> Iterator[bytes]:
    """Yield the messages of a stay: the admission, then the results of each four hours.

    Parameters
    ----------
    record
        The stay.
    calendar
        When it was.
    """
    born = calendar.birth(record.age)
    patient = SyntheticPatient(
        mrn=record.id, authority=AUTHORITY, family="Record", given=record.id, birth_date=born, sex=record.sex
    )
    yield adt_a01(patient, f"A{record.id}", calendar.admission)
    pid = writer.segment("PID", {1: "1", 3: (record.id, "", "", AUTHORITY, "MR"), 7: writer.stamp(born), 8: record.sex})
    parts = groupby(_with_end(record), key=lambda it: it.minute // 60 // _HOURS_IN_A_MESSAGE)
    for number, (_, readings) in enumerate(parts):
        yield _oru(f"R{record.id}-{number}", pid, list(readings), calendar)


def _oru(control_id: str, pid: str, readings: Sequence[Reading], calendar: Calendar) -> bytes:
    sent = writer.stamp(calendar.at(readings[-1].minute))
    header: dict[int, writer.Field] = {
        3: "ICU",
        4: AUTHORITY,
        7: sent,
        9: ("ORU", "R01", "ORU_R01"),
        10: control_id,
        11: "P",
        12: "2.5.1",
    }
    results = ("RESULTS", "Results", "L")
    order = {1: "1", 3: (control_id, "ICU"), 4: results, 7: sent, 22: sent, 25: "F"}
    body = [pid, writer.segment("OBR", order)]
    for ordinal, reading in enumerate(readings, start=1):
        variable = reading.variable
        fields: dict[int, writer.Field] = {
            1: str(ordinal),
            2: "NM",
            3: (variable.code, "", "PHYSIONET" if variable.system == LOCAL else "LN"),
            5: writer.number(reading.value),
            6: (variable.unit, "", "UCUM"),
            11: "F",
            14: writer.stamp(calendar.at(reading.minute)),
        }
        body.append(writer.segment("OBX", fields))
    return writer.message(header, body)


def golden(record: Record) -> Json:
    """Return a golden case: a stay with its times before the moment of prediction, in seconds."""
    moment = datetime(2026, 1, 15, 12, tzinfo=UTC)
    facts = [
        {
            "system": it.variable.system,
            "code": it.variable.code,
            "value": str(it.value),
            "unit": it.variable.unit,
            "at": (it.minute - 50 * 60) * 60,
        }
        for it in record.readings
    ]
    subject = {"reference": "Patient/golden", "birth_date": f"{moment.year - record.age - 1}-06-01"}
    return {"input": {"subject": subject, "at": moment.isoformat(), "admitted": -50 * 3600, "facts": facts}}
