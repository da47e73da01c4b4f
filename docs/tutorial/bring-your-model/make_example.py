"""Makes the example of the tutorial: invented patients of a ward, and which of them were moved to intensive care.

``python docs/tutorial/bring-your-model/make_example.py`` writes the files beside it again. The same seed gives the same
patients. Nothing in them is of a real person.

- ``patients.ndjson.gz``: what an export of the ward's server would hold
- ``outcomes.csv``: for each patient the moment of the question, and what happened in the day after it
- ``one-patient.json``: a Bundle of one more patient
- ``new-patients.ndjson``: two more, with ``NOW`` and ``BEFORE`` in the place of times
"""

import gzip
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

Json = dict[str, Any]

SEED: Final = 2026
PATIENTS: Final = 400
_START: Final = datetime(2026, 1, 5, 8, tzinfo=UTC)
_CREATININE: Final = 88.42  # umol/L in one mg/dL


@dataclass(frozen=True, kw_only=True)
class Value:
    """One value of a patient."""

    code: str
    unit: str
    value: float
    #: Hours before the moment.
    before: float


def invented(draw: np.random.Generator, age: int, illness: float) -> Iterator[Value]:
    """Yield the values of a patient in the day before the moment.

    Parameters
    ----------
    draw
        Where chance comes from.
    age
        In years.
    illness
        How ill the patient is; most are between -2 and 2.
    """
    rise = max(0.0, illness) * 6
    for before, share in ((11.0, 0.3), (6.0, 0.6), (0.5, 1.0)):
        yield Value(code="8867-4", unit="/min", value=round(82 + rise * 2 * share + draw.normal(0, 9)), before=before)
    for before, share in ((6.0, 0.5), (0.5, 1.0)):
        respirations = round(16 + rise * 0.5 * share + draw.normal(0, 2))
        systolic = round(128 - rise * 1.6 * share + (age - 65) * 0.2 + draw.normal(0, 12))
        yield Value(code="9279-1", unit="/min", value=respirations, before=before)
        yield Value(code="8480-6", unit="mm[Hg]", value=systolic, before=before)
        saturation = min(100, round(96.5 - rise * 0.28 * share + draw.normal(0, 1.2)))
        yield Value(code="59408-5", unit="%", value=saturation, before=before)
    yield Value(code="8310-5", unit="Cel", value=round(36.9 + rise * 0.06 + draw.normal(0, 0.4), 1), before=0.5)
    if draw.random() < 0.5 + 0.1 * illness:
        lactate = round(float(np.exp(0.2 + 0.25 * illness + draw.normal(0, 0.3))), 1)
        yield Value(code="2524-7", unit="mmol/L", value=lactate, before=round(draw.uniform(1, 10), 1))
    if draw.random() < 0.8:
        creatinine = float(np.exp(-0.1 + 0.15 * illness + 0.004 * (age - 65) + draw.normal(0, 0.25)))
        mass = draw.random() < 0.5  # the ward has two laboratories
        value, unit = (round(creatinine, 2), "mg/dL") if mass else (round(creatinine * _CREATININE), "umol/L")
        code = "2160-0" if mass else "14682-9"
        yield Value(code=code, unit=unit, value=value, before=round(draw.uniform(1, 20), 1))


def resources(name: str, born: str, sex: str, values: list[tuple[Value, str]]) -> Iterator[Json]:
    """Yield the Patient and the Observations.

    Parameters
    ----------
    name
        Id of the patient.
    born
        Day of birth.
    sex
        Administrative gender.
    values
        Each with its time.
    """
    stored = values[0][1]
    yield {
        "resourceType": "Patient",
        "id": name,
        "meta": {"lastUpdated": stored},
        "identifier": [{"system": "urn:example:ward", "value": name}],
        "birthDate": born,
        "gender": sex,
    }
    for number, (value, time) in enumerate(values):
        quantity = {"value": value.value, "unit": value.unit, "system": "http://unitsofmeasure.org", "code": value.unit}
        yield {
            "resourceType": "Observation",
            "id": f"{name}-{number}",
            "meta": {"lastUpdated": time},
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": value.code}]},
            "subject": {"reference": f"Patient/{name}"},
            "effectiveDateTime": time,
            "valueQuantity": quantity,
        }


def patient(number: int, draw: np.random.Generator) -> tuple[list[Json], str, bool]:
    """Return the resources of a patient, the moment of the question, and whether intensive care was needed.

    Parameters
    ----------
    number
        Of the patient.
    draw
        Where chance comes from.
    """
    age, illness = int(draw.integers(35, 92)), float(draw.normal(0, 1))
    moment = _START + timedelta(hours=6 * number)
    values = sorted(invented(draw, age, illness), key=lambda it: -it.before)
    timed = [(it, (moment - timedelta(hours=it.before)).isoformat()) for it in values]
    sex = "female" if draw.random() < 0.5 else "male"
    chance = 1 / (1 + np.exp(-(2.4 * illness + 0.03 * (age - 65) - 2.2)))
    born = f"{moment.year - age - 1}-06-{draw.integers(1, 29):02}"
    return list(resources(f"w{number:03}", born, sex, timed)), moment.isoformat(), bool(draw.random() < chance)


def write(folder: Path) -> None:
    """Write the files.

    Parameters
    ----------
    folder
        Where.
    """
    draw = np.random.default_rng(SEED)
    lines, rows = list[bytes](), ["patient,time,intensive_care"]
    for number in range(PATIENTS):
        found, moment, moved = patient(number, draw)
        lines += [orjson.dumps(it) for it in found]
        rows.append(f"w{number:03},{moment},{int(moved)}")
    packed = gzip.compress(b"\n".join(lines) + b"\n", mtime=0)
    (folder / "patients.ndjson.gz").write_bytes(packed)
    (folder / "outcomes.csv").write_text("\n".join(rows) + "\n")
    one, _, _ = patient(PATIENTS, draw)
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": it} for it in one]}
    (folder / "one-patient.json").write_bytes(orjson.dumps(bundle, option=orjson.OPT_INDENT_2) + b"\n")
    new = [orjson.dumps(it) for name, illness in (("ada", 2.2), ("ben", -1.0)) for it in _new(name, illness, draw)]
    (folder / "new-patients.ndjson").write_bytes(b"\n".join(new) + b"\n")


def _new(name: str, illness: float, draw: np.random.Generator) -> Iterator[Json]:
    """Yield a patient without a time of storing: the server that receives them will set it."""
    values = sorted(invented(draw, 70, illness), key=lambda it: -it.before)
    timed = [(it, "NOW" if it.before < 1 else "BEFORE") for it in values if it.before <= 6]
    for one in resources(name, "1955-03-12", "female" if name == "ada" else "male", timed):
        yield {key: value for key, value in one.items() if key != "meta"}


if __name__ == "__main__":
    write(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent)
