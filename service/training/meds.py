"""Writes what a model reads as MEDS, the Medical Event Data Standard 0.4: one row an event, for tools of others.

A dataset is a folder: ``data/0.parquet`` with the events, by subject and time, ``metadata/codes.parquet`` and
``metadata/dataset.json``. https://medical-event-data-standard.github.io/
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import orjson

from fhir_adapter.facts import patient_subject
from inference.contract import Fact, Subject
from inference.features.records import LOINC
from service.training.history import History
from service.training.parquet import Kind, ParquetTable, parquet_table

VERSION: Final = "0.4.1"
BIRTH: Final = "MEDS_BIRTH"
_EVENT: Final[Mapping[str, Kind]] = {
    "subject_id": "whole",
    "time": "utc",
    "code": "text",
    "numeric_value": "single",
    "text_value": "text",
}
_CODE: Final[Mapping[str, Kind]] = {"code": "text", "description": "text", "parent_codes": "texts"}


def subject_id(reference: str) -> int:
    """Return the number of a patient, which is made of ``Patient/<id>`` and is the same in every dataset."""
    return int.from_bytes(hashlib.sha256(reference.encode()).digest()[:8], "big") >> 1


class MedsEvents:
    """The events of a dataset.

    Parameters
    ----------
    table
        Where they are written.
    """

    def __init__(self, table: ParquetTable) -> None:
        self._table = table
        #: Code -> its parents.
        self.codes: dict[str, Sequence[str]] = {}

    def add(self, history: History) -> None:
        """Add the events of one patient: birth, sex, and each value, condition and medication of the newest versions.

        Parameters
        ----------
        history
            What is known of the patient.
        """
        patient = history.patient
        number = subject_id(patient.reference)
        of_patient = [one.content for one in patient.versions if one.type == "Patient"]
        content = orjson.loads(of_patient[-1]) if of_patient else {}
        subject = patient_subject(patient.reference, content)
        if not subject.production:
            return
        for time, code in _of_subject(subject):
            self._add((number, time, code, None, None), ())
        facts = [fact for fact in history.newest() if fact.unusable is None]
        for fact in sorted(facts, key=lambda it: it.effective):
            base = _base(fact)
            more = fact.unit if fact.kind == "observation" else fact.kind
            code = f"{base}//{more}" if more else base
            number_of_it = fact.value if isinstance(fact.value, Decimal) else None
            text = fact.value if isinstance(fact.value, str) else None
            self._add((number, fact.effective, code, number_of_it, text), (base,) if more else ())

    def _add(self, row: tuple[int, datetime | None, str, Decimal | None, str | None], parents: Sequence[str]) -> None:
        self._table.add(row)
        self.codes.setdefault(row[2], parents)


def _of_subject(subject: Subject) -> Iterator[tuple[datetime | None, str]]:
    if subject.sex is not None:
        yield None, f"GENDER//{subject.sex}"
    born = subject.birth_date
    if born is not None:
        yield datetime(born.year, born.month, born.day, tzinfo=UTC), BIRTH


def _base(fact: Fact) -> str:
    return f"{'LOINC' if fact.system == LOINC else fact.system}//{fact.code}"


@contextmanager
def meds_dataset(folder: Path, name: str, made_at: datetime) -> Iterator[MedsEvents]:
    """Open a dataset to write.

    Parameters
    ----------
    folder
        Where it is written.
    name
        Of the dataset.
    made_at
        When it is made.
    """
    for part in ("data", "metadata"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    with parquet_table(folder / "data" / "0.parquet", _EVENT) as table:
        events = MedsEvents(table)
        yield events
    with parquet_table(folder / "metadata" / "codes.parquet", _CODE) as codes:
        for code, parents in sorted(events.codes.items()):
            codes.add((code, None, list(parents) or None))
    described: dict[str, Any] = {
        "dataset_name": name,
        "meds_version": VERSION,
        "etl_name": "ausculta models table",
        "created_at": made_at.isoformat(),
    }
    (folder / "metadata" / "dataset.json").write_bytes(orjson.dumps(described, option=orjson.OPT_INDENT_2))
