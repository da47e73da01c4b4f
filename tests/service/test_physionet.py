"""No price of the format: the server reads and says what the training program has, from FHIR and from an ORU feed.

The full run over all records is ``make bench-physionet``.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

from benchmarks.physionet import SMALLEST, farthest
from benchmarks.physionet_model import NAME, Trained, table, train
from benchmarks.physionet_records import (
    VARIABLES,
    Calendar,
    Reading,
    Record,
    declared,
    messages,
    read_records,
    row_of,
    transaction,
)
from benchmarks.physionet_serving import served

from .hospital import AUTHORITY, Hospital

pytestmark = pytest.mark.xdist_group("physionet")  # trained once for each set of records
RECORDS = 40
CALENDAR = Calendar(datetime(2026, 1, 10, tzinfo=UTC))  # five days before the hospital's clock


def invented() -> list[Record]:
    """Make records of nobody, with values that are not plausible and variables that were not measured."""
    draw = np.random.default_rng(3)
    records = []
    for number in range(RECORDS):
        died = number % 3 == 0
        readings = []
        for variable in VARIABLES.values():
            low, high = variable.plausible
            minutes = sorted(draw.choice(2880, size=draw.integers(0, 6), replace=False).tolist())
            for minute in minutes:
                share = draw.beta(2, 5 - 2 * died) * 1.02  # a few are above the plausible range
                value = Decimal(f"{low + (high - low) * share:.2f}")
                readings.append(Reading(minute=minute, variable=variable, value=value))
        readings.sort(key=lambda it: it.minute)
        sex = "FMU"[number % 3]
        records.append(Record(id=f"{100 + number}", age=20 + number, sex=sex, readings=readings, died=died))
    return records


@pytest.fixture(scope="module", params=["invented", "physionet2012"])
def records(request: pytest.FixtureRequest) -> list[Record]:
    if request.param == "invented":
        return invented()
    data = request.getfixturevalue("shared") / "data" / request.param
    if not data.is_dir():
        pytest.skip("the data set is not beside this checkout")
    return read_records(data, RECORDS)


@pytest.fixture(scope="module")
def trained(records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("physionet") / NAME
    folder.mkdir()
    (folder / "features.yaml").write_text(yaml.safe_dump(declared(), sort_keys=False))
    rows = table(records, CALENDAR, folder)
    assert farthest(rows, {it.id: np.array(row_of(it)) for it in records}) < SMALLEST
    return train(records, rows, folder, rounds=10, leaf=0.1)


def by_fhir(hospital: Hospital, record: Record) -> None:
    answer = httpx.post(hospital.url, json=transaction(record, CALENDAR), timeout=60)
    assert answer.status_code == 200, answer.text


def by_hl7(hospital: Hospital, record: Record) -> None:
    for message in messages(record, CALENDAR):
        assert hospital.hl7(message) == "AA"
    hospital.work()


@pytest.mark.parametrize("send", [by_fhir, by_hl7])
def test_rows_and_probabilities_are_those_of_the_training_program(
    open_hospital: Callable[..., Hospital], trained: Trained, send: Callable[[Hospital, Record], None]
) -> None:
    hospital = open_hospital(model_dirs=(trained.folder,), ehr_url="", interface_engine=None, pacs=None)
    for name, status in (("news2", "retired"), ("cxr-pneumonia", "retired"), (NAME, "active")):
        hospital.set_model(name, status)
    for record in trained.records:
        send(hospital, record)
    hospital.work()
    names = {f"Patient/{it['id']}": _number(it) for it in hospital.all("Patient")}
    stated = {
        it["subject"]["reference"]: it["prediction"][0]["probabilityDecimal"] / 100
        for it in hospital.all("RiskAssessment")
    }
    with hospital.application.database.read() as connection:
        found = served(connection.exec_driver_sql, names, stated)
    assert farthest(found.rows, trained.rows) == 0
    assert farthest(found.probabilities, trained.probabilities) == 0
    assert farthest(found.stated, trained.probabilities) < SMALLEST
    assert len({round(one, 6) for one in found.probabilities.values()}) > 1


def _number(patient: Mapping[str, list[dict[str, str]]]) -> str:
    return next(it["value"] for it in patient["identifier"] if it["system"] == AUTHORITY)


def test_a_record_is_read_as_the_challenge_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "set-a").mkdir()
    lines = ["Time,Parameter,Value", "00:00,RecordID,7", "00:00,Age,54", "00:00,Gender,0", "00:00,Height,-1"]
    lines += ["00:00,Age,99", "00:07,FiO2,0.35", "00:07,HR,73", "00:07,HR,75", "01:30,Weight,-1", "00:02,pH,7.31"]
    (tmp_path / "set-a" / "7.txt").write_text("\n".join(lines))
    (tmp_path / "Outcomes-a.txt").write_text(
        "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n7,1,1,1,-1,1"
    )
    (record,) = read_records(tmp_path)
    assert (record.id, record.age, record.sex, record.died) == ("7", 54, "F", True)
    assert [(it.minute, it.variable.code, str(it.value)) for it in record.readings] == [
        (2, "2744-1", "7.31"),
        (7, "3150-6", "35.00"),
        (7, "8867-4", "75"),
    ]
