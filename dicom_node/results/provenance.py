"""What every DICOM object that a model makes has in common: its identity, date and description."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone, tzinfo
from io import BytesIO
from typing import Final

from pydicom import dcmwrite
from pydicom.dataset import Dataset

from dicom_node.encoding import open_file, open_head
from dicom_node.results.header import NAMES, readable
from dicom_node.times import started, zone_of
from inference.contract import ModelIdentity, Outcome, result_id
from kernel.errors import Category, Problem

REPORT_INSTANCE: Final = "sr/instance"
HEAT_MAP_INSTANCE: Final = "heat-map/instance"
"""Purposes of the SOPInstanceUIDs of what is sent."""

MANUFACTURER: Final = "Ausculta"
SERIES_NUMBER: Final = 9100
"""Far from the numbers that modalities give."""

_DATES_OF_CREATION: Final = ("InstanceCreation", "Content")
_TYPE_2: Final = (
    ("PatientID", "LO"),
    ("PatientName", "PN"),
    ("PatientBirthDate", "DA"),
    ("PatientSex", "CS"),
    ("StudyDate", "DA"),
    ("StudyTime", "TM"),
    ("StudyID", "SH"),
    ("AccessionNumber", "SH"),
    ("ReferringPhysicianName", "PN"),
)
"""Attributes that may be empty but not absent (PS3.3 C.7.1.1 and C.7.2.1), and that the field leaves out."""

_KEPT: Final = ("IssuerOfPatientID", "OtherPatientIDsSequence", "StudyDescription", "ReferencedRequestSequence")


def derived_uid(outcome: Outcome, purpose: str) -> str:
    """Return the UID that a result has for a purpose: always the same (PS3.5 Annex B.2, root 2.25).

    Parameters
    ----------
    outcome
        The outcome that the result states.
    purpose
        Distinguishes the UIDs of one result.
    """
    return uid_of(result_id(outcome), purpose)


def uid_of(result: str, purpose: str) -> str:
    """Return the UID that a stored result has for a purpose; as :func:`derived_uid`.

    Parameters
    ----------
    result
        Its id.
    purpose
        Distinguishes the UIDs of one result.
    """
    digest = hashlib.sha256(f"{result}/{purpose}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"


def device_uid(model: ModelIdentity) -> str:
    """Return the UID of a model's exact version, as an observer."""
    digest = hashlib.sha256(f"{model.name}/{model.version}/{model.digest}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"


def evidence(sources: Sequence[bytes]) -> list[Dataset]:
    """Read the objects that a result rests on, without their pixels, in the order of SOPInstanceUID.

    The first is a whole header that can be written again; of the others only what a reference needs is sure.

    Raises
    ------
    Problem
        ``incorrect`` when there is none, or one has no identifiers.
    """
    if not sources:
        raise Problem(Category.INCORRECT, "a result needs the instances that it rests on")
    read = [_open(content) for content in sources]
    first, *others = sorted(read, key=lambda dataset: str(dataset.SOPInstanceUID))
    whole = readable(first)
    for keyword, vr in _TYPE_2:
        if keyword not in whole:
            whole.add_new(keyword, vr, "")
    return [whole, *others]


def _open(content: bytes) -> Dataset:
    try:
        return open_file(content, stop_before_pixels=True)
    except Problem:
        return open_head(content)


def inherit(dataset: Dataset, source: Dataset) -> None:
    """Copy the names, and the patient and study attributes that the library does not copy.

    Parameters
    ----------
    dataset
        Receives them; an attribute that it has is kept, but for names.
    source
        The instance that the result rests on.
    """
    for keyword in _KEPT:
        if keyword in source and keyword not in dataset:
            dataset[keyword] = source[keyword]
    for keyword in NAMES:
        dataset[keyword] = source[keyword]


def offset_of(source: Dataset, zone: tzinfo) -> timedelta:
    """Return the offset from UTC of the times that an object inherits, in which it must state its own as well.

    Parameters
    ----------
    source
        The instance that the result rests on.
    zone
        Time zone of the site: of a source that states no offset.
    """
    stated = zone_of(str(source.get("TimezoneOffsetFromUTC") or ""))
    day, time = str(source.get("StudyDate") or ""), str(source.get("StudyTime") or "")
    began = started(day, time, "", zone=stated or zone)
    if began is None:  # no time is inherited that could be misread
        return (stated.utcoffset(None) if stated is not None else None) or timedelta(0)
    return began.utcoffset() or timedelta(0)


def finish(dataset: Dataset, at: datetime, offset: timedelta) -> bytes:
    """Date an object by its result instead of by the moment of writing, and encode it as a DICOM file.

    Parameters
    ----------
    dataset
        Whole but for its dates, with its file meta information.
    at
        When the model answered.
    offset
        From UTC, of every time in the object.
    """
    moment = at.astimezone(timezone(offset))
    for kind in _DATES_OF_CREATION:
        setattr(dataset, f"{kind}Date", moment.strftime("%Y%m%d"))
        setattr(dataset, f"{kind}Time", moment.strftime("%H%M%S.%f"))
    if "DateOfSecondaryCapture" in dataset:
        dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = dataset.ContentDate, dataset.ContentTime
    for equipment in dataset.get("ContributingEquipmentSequence", ()):
        if "ContributionDateTime" in equipment:
            equipment.ContributionDateTime = moment.strftime("%Y%m%d%H%M%S.%f")
    dataset.TimezoneOffsetFromUTC = f"{moment:%z}"
    stream = BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()
