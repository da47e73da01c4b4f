"""A study: whether all of it has come, which revision of it this is, and what it holds.

DICOM has no word for "that was all". A study counts as complete when nothing of it has come for a while *and* no
association that brought some of it is open. What comes later opens the next revision, which supersedes the results
of the one before.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pydicom.dataset import Dataset
from sqlalchemy import Connection, func, select, update

from dicom_node.encoding import open_file
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.tables import associations, studies


class StudyState(StrEnum):
    """Whether a study is to be looked at now."""

    UNKNOWN = "unknown"
    """Nothing of it is here."""
    RECEIVING = "receiving"
    """Some of it came a moment ago, or an association that brings it is open."""
    COMPLETE = "complete"
    """It has come to rest; the newest instances are in no revision yet."""
    DONE = "done"
    """It came to rest and its newest revision was opened already."""


def study_state(
    connection: Connection, StudyInstanceUID: str, now: datetime, *, quiet_s: float, stale_s: float
) -> StudyState:
    """Tell whether a study has come to rest.

    Parameters
    ----------
    connection
        Sees the committed state.
    StudyInstanceUID
        Which study.
    now
        The instant of the question.
    quiet_s
        How long nothing may have come.
    stale_s
        An association that brought nothing for so long no longer counts as open: its server died.
    """
    row = connection.execute(
        select(studies.c.last_received_at, studies.c.completed_at).where(studies.c.StudyInstanceUID == StudyInstanceUID)
    ).one_or_none()
    if row is None:
        return StudyState.UNKNOWN
    if row.completed_at is not None:
        return StudyState.DONE
    if now < row.last_received_at + timedelta(seconds=quiet_s):
        return StudyState.RECEIVING
    still_open = connection.execute(
        select(func.count())
        .select_from(associations)
        .where(
            associations.c.StudyInstanceUID == StudyInstanceUID,
            associations.c.seen_at > now - timedelta(seconds=stale_s),
        )
    ).scalar_one()
    return StudyState.RECEIVING if still_open else StudyState.COMPLETE


def open_revision(tx: Transaction, StudyInstanceUID: str, *, instances: int, now: datetime) -> int | None:
    """Close the books on what a study holds, as its next revision.

    Parameters
    ----------
    tx
        The commit that the revision's work is enqueued in.
    StudyInstanceUID
        Which study.
    instances
        How many instances the caller has seen.
    now
        When the study came to rest.

    Returns
    -------
    int or None
        The revision, 1 for the first; None when another instance has come since the caller looked, or when the
        revision is open already: then there is nothing to do but to look again.
    """
    opened = tx.execute(
        update(studies)
        .where(
            studies.c.StudyInstanceUID == StudyInstanceUID,
            studies.c.instances == instances,
            studies.c.completed_at.is_(None),
        )
        .values(revision=studies.c.revision + 1, completed_at=now)
        .returning(studies.c.revision)
    ).scalar_one_or_none()
    return None if opened is None else int(opened)


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One instance of a series, as far as choosing among instances needs it."""

    SOPInstanceUID: str
    SOPClassUID: str
    #: Address of its bytes.
    blob: str
    #: Empty when not stated.
    ViewPosition: str
    #: ORIGINAL or DERIVED, PRIMARY or SECONDARY, … (PS3.3 C.7.6.1.1.2).
    ImageType: tuple[str, ...]
    #: Zero for an instance without pixels.
    Rows: int
    Columns: int


@dataclass(frozen=True, kw_only=True)
class Series:
    """One series of a study."""

    SeriesInstanceUID: str
    Modality: str
    SeriesDescription: str
    BodyPartExamined: str
    instances: tuple[Instance, ...]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a study says of itself; text as it was sent, empty when absent."""

    StudyInstanceUID: str
    PatientID: str
    IssuerOfPatientID: str
    PatientName: str
    PatientBirthDate: str
    PatientSex: str
    AccessionNumber: str
    #: ``YYYYMMDD`` and ``HHMMSS.FFFFFF``, local to the place of acquisition (PS3.5 section 6.2).
    StudyDate: str
    StudyTime: str
    #: ``&ZZXX`` offset from UTC, when the modality says it.
    TimezoneOffsetFromUTC: str
    StudyDescription: str
    series: tuple[Series, ...]


def describe(files: Iterable[tuple[str, bytes]]) -> Study:
    """Read a study from its files.

    Parameters
    ----------
    files
        (address, DICOM file) of each instance. Attributes of the patient and the study are those of the first
        instance by SOPInstanceUID.

    Raises
    ------
    Problem
        ``incorrect`` when a file cannot be read or there is none.
    """
    read = [(address, open_file(content, stop_before_pixels=True)) for address, content in files]
    read.sort(key=lambda pair: str(pair[1].SOPInstanceUID))
    if not read:
        raise Problem(Category.INCORRECT, "the study holds no instance")
    by_series: dict[str, list[tuple[str, Dataset]]] = {}
    for address, dataset in read:
        by_series.setdefault(_text(dataset, "SeriesInstanceUID"), []).append((address, dataset))
    first = read[0][1]
    return Study(
        StudyInstanceUID=_text(first, "StudyInstanceUID"),
        PatientID=_text(first, "PatientID"),
        IssuerOfPatientID=_text(first, "IssuerOfPatientID"),
        PatientName=_text(first, "PatientName"),
        PatientBirthDate=_text(first, "PatientBirthDate"),
        PatientSex=_text(first, "PatientSex"),
        AccessionNumber=_text(first, "AccessionNumber"),
        StudyDate=_text(first, "StudyDate"),
        StudyTime=_text(first, "StudyTime"),
        TimezoneOffsetFromUTC=_text(first, "TimezoneOffsetFromUTC"),
        StudyDescription=_text(first, "StudyDescription"),
        series=tuple(_series(by_series[uid]) for uid in sorted(by_series)),
    )


def _series(members: list[tuple[str, Dataset]]) -> Series:
    first = members[0][1]
    return Series(
        SeriesInstanceUID=_text(first, "SeriesInstanceUID"),
        Modality=_text(first, "Modality"),
        SeriesDescription=_text(first, "SeriesDescription"),
        BodyPartExamined=_text(first, "BodyPartExamined").upper(),
        instances=tuple(_instance(address, dataset) for address, dataset in members),
    )


def _instance(address: str, dataset: Dataset) -> Instance:
    return Instance(
        SOPInstanceUID=_text(dataset, "SOPInstanceUID"),
        SOPClassUID=_text(dataset, "SOPClassUID"),
        blob=address,
        ViewPosition=_text(dataset, "ViewPosition").upper(),
        ImageType=tuple(str(value) for value in dataset.get("ImageType") or ()),
        Rows=int(dataset.get("Rows") or 0),
        Columns=int(dataset.get("Columns") or 0),
    )


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()
