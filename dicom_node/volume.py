"""What an imaging model is given: the image of a study that it should read, and that image's pixels."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from pydicom.dataset import Dataset
from pydicom.valuerep import DA, TM

from dicom_node.encoding import open_file
from dicom_node.pixels import Picture, picture
from dicom_node.study import Instance, Series, Study

RADIOGRAPHY: Final = ("DX", "CR")
"""Modalities of a projection radiograph, the preferred one first."""

FRONTAL: Final = ("PA", "AP", "")
"""View positions that show the chest from the front, the preferred one first; one in ten files does not say."""


@dataclass(frozen=True, kw_only=True)
class ImageDescription:
    """What an image says of itself; the fields of ``inference.contract.ImageInput`` beside the pixels."""

    SOPInstanceUID: str
    modality: str
    #: Upper case; empty when not stated.
    body_part: str
    #: Upper case; empty when not stated.
    view: str
    acquired_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class NoImage:
    """Why a study holds nothing for a model; completes "AI result not available: ..."."""

    reason: str


def select_image(study: Study) -> Instance | NoImage:
    """Choose the frontal chest radiograph of a study.

    Originals come before derived pictures, DX before CR, PA before AP before an unstated view, then the lowest
    SOPInstanceUID: the same study always yields the same image.
    """
    radiographs = [
        (series, instance)
        for series in study.series
        if series.Modality in RADIOGRAPHY
        for instance in series.instances
        if instance.Rows and instance.Columns
    ]
    if not radiographs:
        return NoImage(reason="the study holds no projection radiograph (modality DX or CR)")
    chest = [pair for pair in radiographs if "CHEST" in pair[0].BodyPartExamined or not pair[0].BodyPartExamined]
    if not chest:
        return NoImage(reason="no radiograph of the study shows the chest")
    frontal = [pair for pair in chest if pair[1].ViewPosition in FRONTAL]
    if not frontal:
        return NoImage(reason="the study holds no frontal view (PA or AP) of the chest")
    return min(frontal, key=_preference)[1]


def _preference(candidate: tuple[Series, Instance]) -> tuple[bool, int, int, str]:
    series, instance = candidate
    return (
        "DERIVED" in instance.ImageType,
        RADIOGRAPHY.index(series.Modality),
        FRONTAL.index(instance.ViewPosition),
        instance.SOPInstanceUID,
    )


def load_image(content: bytes, *, zone: tzinfo = UTC) -> tuple[Picture, ImageDescription]:
    """Read one image from a DICOM file.

    Parameters
    ----------
    content
        DICOM file format (PS3.10).
    zone
        Time zone of dates in files that do not state their own.

    Returns
    -------
    Picture
        float32 (rows, columns) in [0, 1], bright = dense.
    ImageDescription
        What the file says of it.

    Raises
    ------
    Problem
        ``incorrect`` or ``unsupported``, with the reason.
    """
    dataset = open_file(content)
    description = ImageDescription(
        SOPInstanceUID=str(dataset.get("SOPInstanceUID", "")),
        modality=str(dataset.get("Modality") or ""),
        body_part=str(dataset.get("BodyPartExamined") or "").upper(),
        view=str(dataset.get("ViewPosition") or "").upper(),
        acquired_at=_acquired_at(dataset, zone),
    )
    return picture(dataset), description


def _acquired_at(dataset: Dataset, zone: tzinfo) -> datetime | None:
    """Return when the image was taken: the most specific date and time that can be read (PS3.3 C.7.6.1)."""
    for kind in ("Acquisition", "Content", "Series", "Study"):
        try:
            day, time = DA(dataset.get(f"{kind}Date")), TM(dataset.get(f"{kind}Time"))
            if day is None or time is None:
                continue
            return datetime.combine(day, time, tzinfo=_offset(dataset, zone)).astimezone(UTC)
        except (TypeError, ValueError):
            continue
    return None


def _offset(dataset: Dataset, zone: tzinfo) -> tzinfo:
    stated = str(dataset.get("TimezoneOffsetFromUTC") or "")
    if len(stated) != 5 or stated[0] not in "+-" or not stated[1:].isdigit():
        return zone
    offset = timedelta(hours=int(stated[1:3]), minutes=int(stated[3:]))
    return timezone(-offset if stated[0] == "-" else offset)
