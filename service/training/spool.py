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
from typing import Final, TypeAlias

from fhir_adapter.store.times import LATEST

_BATCH: Final = 1_000
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SCHEMA: Final = """
create table versions (owner text, type text, id text, known integer, place integer, line text, content blob);
create table moments (patient text, at integer);
"""
_INDEX: Final = """
create index versions_by_owner on versions (owner, known, place);
create index versions_by_id on versions (id, type, known, place);
create index moments_by_patient on moments (patient, at);
"""
_PATIENTS: Final = """
select owner from versions where owner >= 'Patient/' and owner < 'Patient0' union select patient from moments
"""
_VERSIONS: Final = """
select type, id, known, place, line, content, (
    select min(later.known) from versions later
    where later.id = one.id and later.type = one.type and (later.known, later.place) > (one.known, one.place)
) from versions one where owner = ? order by known, place
"""
_Row: TypeAlias = tuple[str | None, str, str, int, int, str, bytes | None]


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of a resource."""

    type: str
    id: str
    #: When it became known.
    known: datetime
    #: Its place in the order of the files.
    place: int
    #: File and line, for error messages.
    line: str
    content: bytes = field(repr=False)
    #: Since when a later version counts.
    until: datetime = LATEST


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
        self._versions: list[_Row] = []
        self._places = 0
        connection.executescript("pragma journal_mode = off; pragma synchronous = off;" + _SCHEMA)

    def add(self, owner: str, version: Version) -> None:
        """Add a version of a resource.

        Parameters
        ----------
        owner
            Whom it concerns, ``Patient/<id>``; of a resource that concerns nobody, its own reference.
        version
            The version.
        """
        known = _micros(version.known)
        self._append((owner, version.type, version.id, known, version.place, version.line, version.content))

    def add_end(self, type_: str, id_: str, known: datetime) -> None:
        """Say that the versions before count no longer, where the one that replaces them is not read.

        Parameters
        ----------
        type_, id_
            Of the resource.
        known
            Since when that is known.
        """
        self._append((None, type_, id_, _micros(known), self.next_place(), "", None))

    def _append(self, row: _Row) -> None:
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
        for (patient,) in self._connection.execute(f"{_PATIENTS} order by 1"):
            yield PatientRecord(
                reference=patient, versions=self.versions_of(patient), moments=tuple(self._moments_of(patient))
            )

    def versions_of(self, owner: str) -> tuple[Version, ...]:
        """Return the versions of one owner, in the order in which they became known; after all were added."""
        return tuple(
            Version(
                type=type_,
                id=id_,
                known=_instant(known),
                place=place,
                line=line,
                content=content,
                until=LATEST if until is None else _instant(until),
            )
            for type_, id_, known, place, line, content, until in self._connection.execute(_VERSIONS, (owner,))
        )

    def count(self) -> int:
        """Return how many patients there are."""
        self._flush()
        (found,) = self._connection.execute(f"select count(*) from ({_PATIENTS})").fetchone()  # noqa: S608 - see above
        return int(found)

    def _flush(self) -> None:
        self._connection.executemany("insert into versions values (?, ?, ?, ?, ?, ?, ?)", self._versions)
        self._versions.clear()

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
