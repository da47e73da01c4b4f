"""A study: whether it is complete, its revision, and its content.

DICOM does not signal the end of a study. A study counts as complete when no instance of it has arrived for some time
*and* no association that sent one is open. An instance that arrives later opens the next revision, whose results
supersede those of the revision before.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final, TypeAlias, cast

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import UID
from sqlalchemy import Connection, func, select, update

from dicom_node.acquisition import OF_THE_EXPOSURE, acquired_at
from dicom_node.character_sets import is_undeclared, plain, undeclared
from dicom_node.encoding import open_file, open_head
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.tables import associations, studies


class StudyState(StrEnum):
    """Whether a study can be processed now."""

    UNKNOWN = "unknown"
    """No instance of it is stored."""
    RECEIVING = "receiving"
    """An instance arrived a moment ago, or an association that sent one is open."""
    COMPLETE = "complete"
    """It is complete; the newest instances are in no revision yet."""
    DONE = "done"
    """It is complete, and its newest revision was opened already."""


def study_state(
    connection: Connection, StudyInstanceUID: str, now: datetime, *, quiet_s: float, stale_s: float
) -> StudyState:
    """Return whether a study is complete.

    Parameters
    ----------
    connection
        A connection that sees the committed state.
    StudyInstanceUID
        UID of the study.
    now
        Now.
    quiet_s
        Seconds without a new instance after which a study is complete.
    stale_s
        Seconds without a new instance after which an association no longer counts as open: its server died.
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
    """Open the next revision of a study, with the instances that are stored now.

    Parameters
    ----------
    tx
        The transaction in which the revision's jobs are enqueued.
    StudyInstanceUID
        UID of the study.
    instances
        Number of instances that the caller has read.
    now
        Time at which the study was complete.

    Returns
    -------
    int or None
        The revision, 1 for the first; None when another instance has arrived since the caller read them, or when
        the revision is open already; the caller must check again then.
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
    """The attributes of an instance that selection and sorting use."""

    SOPInstanceUID: str
    SOPClassUID: str
    #: Blob address of its bytes.
    blob: str
    #: Empty when not stated.
    ViewPosition: str
    #: ORIGINAL or DERIVED, PRIMARY or SECONDARY, … (PS3.3 C.7.6.1.1.2).
    ImageType: tuple[str, ...]
    #: Zero for an instance without pixels.
    Rows: int
    Columns: int
    #: Millimetres; none when not stated, as for the following.
    SliceThickness: float | None = None
    #: Between the centres of rows and of columns, millimetres.
    PixelSpacing: tuple[float, float] | None = None
    #: Centre of the first pixel in the patient coordinate system (PS3.3 C.7.6.2.1.1), millimetres.
    ImagePositionPatient: tuple[float, float, float] | None = None
    #: Direction cosines along a row and along a column.
    ImageOrientationPatient: tuple[float, ...] | None = None
    #: False for one whose header breaks off or breaks its rules; no model is given it.
    readable: bool = True
    #: Upper case; empty when not stated.
    BodyPartExamined: str = ""
    #: Directions of rows and of columns, such as ``("L", "F")``.
    PatientOrientation: tuple[str, ...] = ()
    #: (CodingSchemeDesignator, CodeValue, CodeMeaning) of each item of AnatomicRegionSequence.
    AnatomicRegion: tuple[tuple[str, str, str], ...] = ()
    #: CodeMeaning of each item of ViewCodeSequence.
    view_names: tuple[str, ...] = ()
    #: (what it is called, text) of each description, that nearest to the image first.
    descriptions: tuple[tuple[str, str], ...] = ()
    #: When it was taken; aware. Of a derived image only what its acquisition says.
    acquired_at: datetime | None = None
    #: SeriesNumber and InstanceNumber; 0 when not stated.
    numbers: tuple[int, int] = (0, 0)
    #: Its place in the order of arrival.
    arrival: int = 0


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
    """The description of a study; text as it was sent, empty when absent."""

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
    #: ``&ZZXX`` offset from UTC, when the modality states it.
    TimezoneOffsetFromUTC: str
    StudyDescription: str
    series: tuple[Series, ...]
    #: PatientID and IssuerOfPatientID of its instances, each pair once.
    patients: tuple[tuple[str, str], ...] = ()
    #: Numbers of the order and of the visit.
    PlacerOrderNumberImagingServiceRequest: str = ""
    FillerOrderNumberImagingServiceRequest: str = ""
    AdmissionID: str = ""
    #: PatientName, PatientBirthDate and PatientSex of its instances, each once.
    people: tuple[tuple[str, str, str], ...] = ()

    @property
    def names_several_patients(self) -> bool:
        """Whether its instances contradict each other on whose study it is; an issuer that is not stated is none."""
        issuers = {issuer for _, issuer in self.patients if issuer}
        return len({number for number, _ in self.patients}) > 1 or len(issuers) > 1

    @property
    def unreadable(self) -> int:
        """How many of its instances cannot be read."""
        return sum(not instance.readable for series in self.series for instance in series.instances)

    def set_aside(self) -> "Study":
        """Return the study without the instances that cannot be read."""
        if not self.unreadable:
            return self
        kept = ((series, tuple(one for one in series.instances if one.readable)) for series in self.series)
        return replace(self, series=tuple(replace(series, instances=some) for series, some in kept if some))


def describe(files: Iterable[tuple[str, bytes]], *, zone: tzinfo = UTC) -> Study:
    """Describe a study from the headers of its files, of which one at a time is in memory.

    An instance whose header cannot be read in full is described as far as it can be.

    Parameters
    ----------
    files
        (address, DICOM file) of each instance, in the order of arrival; may be a generator. Attributes of the patient
        and the study are those of the first instance by SOPInstanceUID.
    zone
        Time zone of the site: of headers that state no offset.

    Returns
    -------
    Study
        Series by SeriesInstanceUID, instances by SOPInstanceUID.

    Raises
    ------
    Problem
        ``incorrect`` when there is none, or one has no identifiers.
    """
    read = sorted(
        (_header(address, content, place, zone) for place, (address, content) in enumerate(files)),
        key=lambda header: header[2].SOPInstanceUID,
    )
    if not read:
        raise Problem(Category.INCORRECT, "the study holds no instance")
    by_series: dict[str, list[_Header]] = {}
    for header in read:
        by_series.setdefault(header[1]["SeriesInstanceUID"], []).append(header)
    return Study(
        **read[0][0],
        series=tuple(_series(by_series[uid]) for uid in sorted(by_series)),
        patients=tuple(sorted({(study["PatientID"], study["IssuerOfPatientID"]) for study, _, _ in read})),
        people=tuple(sorted({_person(study) for study, _, _ in read})),
    )


_Header: TypeAlias = tuple[dict[str, str], dict[str, str], Instance]
"""Attributes of the study and of the series, and the instance."""

_STUDY: Final = tuple(field.name for field in fields(Study) if field.name not in {"series", "patients", "people"})

_SERIES: Final = tuple(field.name for field in fields(Series) if field.name != "instances")


def _person(study: dict[str, str]) -> tuple[str, str, str]:
    return study["PatientName"], study["PatientBirthDate"], study["PatientSex"]


def _header(address: str, content: bytes, place: int, zone: tzinfo) -> _Header:
    try:
        dataset = open_file(content, stop_before_pixels=True)
        instance = replace(
            _instance(address, dataset, zone), readable=not _lacks_pixels(dataset, len(content)), arrival=place
        )
        return _described(dataset, instance, _text)
    except Exception:  # noqa: BLE001 - the library raises whatever a malformed value meets
        head = open_head(content)
        return _described(head, _unreadable(address, head), _text_if_readable)


def _lacks_pixels(dataset: Dataset, size: int) -> bool:
    """Return whether a file without compression is smaller than the pixels that its header states (PS3.5 8.1.1)."""
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    if not syntax.is_transfer_syntax or syntax.is_compressed:  # a deflated dataset counts as compressed
        return False
    samples, bits = int(dataset.get("SamplesPerPixel") or 1), int(dataset.get("BitsAllocated") or 0)
    frames = int(dataset.get("NumberOfFrames") or 1)
    return int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0) * samples * frames * bits > size * 8


def _described(dataset: Dataset, instance: Instance, text: Callable[[Dataset, str], str]) -> _Header:
    study = {keyword: text(dataset, keyword) for keyword in _STUDY}
    series = {keyword: text(dataset, keyword) for keyword in _SERIES}
    series["BodyPartExamined"] = series["BodyPartExamined"].upper()
    return study, series, instance


def _series(members: list[_Header]) -> Series:
    return Series(**members[0][1], instances=tuple(instance for _, _, instance in members))


def _unreadable(address: str, head: Dataset) -> Instance:
    return Instance(
        SOPInstanceUID=_text(head, "SOPInstanceUID"),
        SOPClassUID=_text(head, "SOPClassUID"),
        blob=address,
        ViewPosition="",
        ImageType=(),
        Rows=0,
        Columns=0,
        readable=False,
    )


def _instance(address: str, dataset: Dataset, zone: tzinfo) -> Instance:
    derived = "DERIVED" in (dataset.get("ImageType") or ())
    return Instance(
        SOPInstanceUID=_text(dataset, "SOPInstanceUID"),
        SOPClassUID=_text(dataset, "SOPClassUID"),
        blob=address,
        ViewPosition=_text(dataset, "ViewPosition").upper(),
        ImageType=tuple(str(value) for value in dataset.get("ImageType") or ()),
        Rows=int(dataset.get("Rows") or 0),
        Columns=int(dataset.get("Columns") or 0),
        SliceThickness=(_numbers(dataset, "SliceThickness", 1) or (None,))[0],
        PixelSpacing=cast("tuple[float, float] | None", _numbers(dataset, "PixelSpacing", 2)),
        ImagePositionPatient=cast("tuple[float, float, float] | None", _numbers(dataset, "ImagePositionPatient", 3)),
        ImageOrientationPatient=_numbers(dataset, "ImageOrientationPatient", 6),
        BodyPartExamined=_text(dataset, "BodyPartExamined").upper(),
        PatientOrientation=_texts(dataset, "PatientOrientation"),
        AnatomicRegion=_codes(dataset, "AnatomicRegionSequence"),
        view_names=tuple(meaning for _, _, meaning in _codes(dataset, "ViewCodeSequence")),
        descriptions=tuple((name, _text(dataset, keyword)) for keyword, name in _DESCRIPTIONS.items()),
        acquired_at=acquired_at(dataset, zone, kinds=OF_THE_EXPOSURE) if derived else acquired_at(dataset, zone),
        numbers=(_number(dataset, "SeriesNumber"), _number(dataset, "InstanceNumber")),
    )


_DESCRIPTIONS: Final = {
    "AcquisitionDeviceProcessingDescription": "processing description",
    "SeriesDescription": "series description",
    "ProtocolName": "protocol name",
    "PerformedProcedureStepDescription": "procedure step description",
    "RequestedProcedureDescription": "requested procedure",
    "StudyDescription": "study description",
}
"""Keyword -> what a reason calls it, the nearest to the image first."""


def _codes(dataset: Dataset, keyword: str) -> tuple[tuple[str, str, str], ...]:
    """Return the codes of a sequence, none when it is no sequence."""
    items = dataset.get(keyword)
    named = ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")
    return tuple(
        (_text(item, named[0]), _text(item, named[1]), _text(item, named[2]))
        for item in (items if isinstance(items, Sequence) else ())
    )


def _texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Return the values of an attribute, none when it is empty."""
    value = dataset.get(keyword)
    values = value if isinstance(value, MultiValue) else (value,)
    return tuple(str(one).strip().upper() for one in values if one)


def _number(dataset: Dataset, keyword: str) -> int:
    try:
        return int(dataset.get(keyword) or 0)
    except (TypeError, ValueError):
        return 0


def _numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return an attribute's numbers, or none when they are absent, not numbers, or not ``count`` of them."""
    value = dataset.get(keyword)
    try:
        numbers = tuple(float(number) for number in (value if isinstance(value, MultiValue) else (value,)))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    if value is None:
        return ""
    # A backslash separates values. In a name it is read as a space, as in what is sent; elsewhere it is kept.
    between = " " if keyword == "PatientName" else "\\"
    text = between.join(map(str, value)) if isinstance(value, MultiValue) else str(value)
    return plain(undeclared(text) if is_undeclared(dataset) else text).strip()


def _text_if_readable(dataset: Dataset, keyword: str) -> str:
    try:
        return _text(dataset, keyword)
    except Exception:  # noqa: BLE001 - as above
        return ""
