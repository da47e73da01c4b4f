"""Synthetic radiographs for demonstrations and tests; they show no real person."""

import hashlib
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from inference.synthetic_chest import draw_chest

CHARACTER_SET: Final = "ISO_IR 192"


@dataclass(frozen=True, kw_only=True)
class ChestXRay:
    """Attributes and image content of a synthetic chest radiograph."""

    PatientID: str = "DEMO-0001"
    IssuerOfPatientID: str = "AUSCULTA-DEMO"
    PatientName: str = "Demo^Patient"
    PatientBirthDate: str = "20220228"
    PatientSex: str = "F"
    AccessionNumber: str = "A-0001"
    StudyDate: str = "20260115"
    StudyTime: str = "114500"
    #: ``DX`` or ``CR``.
    modality: str = "DX"
    view: str = "PA"
    #: ``MONOCHROME1`` or ``MONOCHROME2``: the same picture, stored inverted or not.
    photometric: str = "MONOCHROME2"
    rows: int = 512
    columns: int = 512
    bits: int = 12
    #: Shade one lower lung as a consolidation would.
    consolidation: bool = False
    #: Seed of everything random, UIDs included.
    seed: int = 1
    #: Distinguishes the images of one study.
    instance: int = 1


def chest_x_ray(request: ChestXRay) -> bytes:
    """Return a chest-like radiograph as a DICOM file; the same request always gives the same bytes.

    Parameters
    ----------
    request
        Attributes and image content.
    """
    stored = np.round(
        draw_chest(request.rows, request.columns, seed=request.seed, consolidation=request.consolidation)
        * (2**request.bits - 1)
    )
    if request.photometric == "MONOCHROME1":
        stored = 2**request.bits - 1 - stored
    dataset = _describe(request)
    dataset.set_pixel_data(stored.astype(np.uint16), request.photometric, request.bits, generate_instance_uid=False)
    dataset.WindowCenter, dataset.WindowWidth = 2 ** (request.bits - 1), 2**request.bits
    stream = BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def study_uid(request: ChestXRay) -> str:
    """Return the StudyInstanceUID that :func:`chest_x_ray` gives: one for each patient, accession number and seed."""
    return _uid("study", request)


def _uid(level: str, request: ChestXRay) -> str:
    named = [level, request.PatientID, request.AccessionNumber, str(request.seed)]
    if level != "study":
        named.append(request.modality)
    if level == "instance":
        named.append(repr(request))
    return f"2.25.{int.from_bytes(hashlib.sha256('|'.join(named).encode()).digest()[:16])}"


def _describe(request: ChestXRay) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    digital = request.modality == "DX"
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation if digital else ComputedRadiographyImageStorage
    dataset.SpecificCharacterSet = CHARACTER_SET
    for keyword in ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex"):
        setattr(dataset, keyword, getattr(request, keyword))
    dataset.StudyInstanceUID = _uid("study", request)
    dataset.SeriesInstanceUID = _uid("series", request)
    dataset.SOPInstanceUID = _uid("instance", request)
    dataset.AccessionNumber = request.AccessionNumber
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = request.StudyDate
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = request.StudyTime
    dataset.TimezoneOffsetFromUTC = "+0000"
    dataset.StudyDescription = "Chest, synthetic"
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", 1, request.instance
    dataset.Modality = request.modality
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = request.view
    dataset.PatientOrientation = ["L", "F"]
    dataset.Manufacturer = "Ausculta"
    dataset.ManufacturerModelName = "synthetic radiograph"
    dataset.ReferringPhysicianName = ""
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.BurnedInAnnotation = "NO"
    dataset.PresentationLUTShape = "INVERSE" if request.photometric == "MONOCHROME1" else "IDENTITY"
    if digital:
        dataset.PresentationIntentType = "FOR PRESENTATION"
        dataset.ImageLaterality = "U"
    return dataset
