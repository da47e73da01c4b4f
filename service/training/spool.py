"""Resources of files, grouped by patient on disk, so that memory holds one patient at a time.

The groups are in a SQLite file of a folder that only this user can read, beside the table that is made; it is removed
at the end. SQLite sorts on disk.
"""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

_BATCH: Final = 1_000
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SCHEMA: Final = """
create table versions (patient text, type text, id text, known integer, place integer, line text, content blob);
create table moments (patient text, at integer);
"""
_INDEX: Final = """
create index versions_by_patient on versions (patient, known, place);
create index moments_by_patient on moments (patient, at);
"""


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a resource."""

    #: ``Patient`` or ``Observation``.
    type: str
    id: str
    #: When it became known.
    known: datetime
    #: Its place in the order of the files.
    place: int
    #: File and line, for error messages.
    line: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class PatientRecord:
    """What is known of one patient."""

    #: ``Patient/<id>``.
    reference: str
    #: In the order in which they became known.
    versions: tuple[Version, ...]
    #: The moments that were asked for.
    moments: tuple[datetime, ...]


class Spool:
    """Resources and moments, which are added in any order and read by patient.

    Parameters
    ----------
    connection
        To an empty SQLite database.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._versions: list[tuple[str, str, str, int, int, str, bytes]] = []
        self._places = 0
        connection.executescript("pragma journal_mode = off; pragma synchronous = off;" + _SCHEMA)

    def add(self, patient: str, version: Version) -> None:
        """Add a version of a resource.

        Parameters
        ----------
        patient
            Whom it concerns, ``Patient/<id>``.
        version
            The version.
        """
        row = (patient, version.type, version.id, _micros(version.known), version.place, version.line, version.content)
        self._versions.append(row)
        if len(self._versions) == _BATCH:
            self._flush()

    def next_place(self) -> int:
        """Return the next place in the order of the files, from 1."""
        self._places += 1
        return self._places

    def add_moment(self, patient: str, at: datetime) -> None:
        """Add a moment that a row is wanted of.

        Parameters
        ----------
        patient
            ``Patient/<id>``.
        at
            The moment; aware.
        """
        self._connection.execute("insert into moments values (?, ?)", (patient, _micros(at)))

    def patients(self) -> Iterator[PatientRecord]:
        """Yield every patient, in the order of their references; nothing may be added after that."""
        self._flush()
        self._connection.executescript(_INDEX)
        patients = "select patient from versions union select patient from moments order by patient"
        for (patient,) in self._connection.execute(patients):
            yield PatientRecord(
                reference=patient, versions=tuple(self._versions_of(patient)), moments=tuple(self._moments_of(patient))
            )

    def count(self) -> int:
        """Return how many patients there are."""
        self._flush()
        patients = "select patient from versions union select patient from moments"
        (found,) = self._connection.execute(f"select count(*) from ({patients})").fetchone()  # noqa: S608 - see above
        return int(found)

    def _flush(self) -> None:
        self._connection.executemany("insert into versions values (?, ?, ?, ?, ?, ?, ?)", self._versions)
        self._versions.clear()

    def _versions_of(self, patient: str) -> Iterator[Version]:
        wanted = "select type, id, known, place, line, content from versions where patient = ? order by known, place"
        for type_, id_, known, place, line, content in self._connection.execute(wanted, (patient,)):
            yield Version(type=type_, id=id_, known=_instant(known), place=place, line=line, content=content)

    def _moments_of(self, patient: str) -> Iterator[datetime]:
        wanted = "select distinct at from moments where patient = ? order by at"
        for (at,) in self._connection.execute(wanted, (patient,)):
            yield _instant(at)


@contextmanager
def open_spool(beside: Path) -> Iterator[Spool]:
    """Open an empty spool and remove it afterwards.

    Parameters
    ----------
    beside
        The file that is made of it; the spool is in the same folder.
    """
    with tempfile.TemporaryDirectory(prefix=".ausculta-", dir=beside.parent) as folder:
        connection = sqlite3.connect(Path(folder) / "spool.db", isolation_level=None)
        try:
            yield Spool(connection)
        finally:
            connection.close()


def _micros(instant: datetime) -> int:
    return (instant - _START) // timedelta(microseconds=1)


def _instant(micros: int) -> datetime:
    return _START + timedelta(microseconds=micros)
