"""What the header says that an image is not for the model is a reason, delivered to every destination."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from dicom_node.scu import send as c_store
from dicom_node.synthesise import chest_x_ray

from .hospital import Hospital
from .test_dicom_path import CHEST, known_to_the_ehr

Change = Callable[[Dataset], None]


def changed(change: Change, number: int = 1) -> bytes:
    """Return the chest radiograph with another header or other pixels."""
    dataset = dcmread(BytesIO(chest_x_ray(replace(CHEST, instance=number))))
    change(dataset)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    file = BytesIO()
    dataset.save_as(file)
    return file.getvalue()


def header(**attributes: object) -> Change:
    def change(dataset: Dataset) -> None:
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)

    return change


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def no_part(**attributes: object) -> Change:
    return header(BodyPartExamined="", StudyDescription="", **attributes)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (no_part(SeriesDescription="Hand links"), "the series description names hand, not chest"),
        (no_part(ProtocolName="Knie re. a.p."), "the protocol name names knee, not chest"),
        (no_part(PerformedProcedureStepDescription="XR ABDOMEN"), "names abdomen, not chest"),
        (header(BodyPartExamined="", StudyDescription="Rx main gauche"), "names hand, not chest"),
        (header(SeriesDescription="Wirbelsäule thorakal"), "the series description names spine, not chest"),
        (
            no_part(AnatomicRegionSequence=[coded("85562004", "SCT", "Hand structure")]),
            "the anatomic region is not chest",
        ),
        (no_part(), "nothing in the header says that the image shows chest"),
        (no_part(SeriesDescription="Standard 2"), "nothing in the header says that the image shows chest"),
        (header(ViewPosition="", PatientOrientation=["A", "F"]), "lateral"),
        (header(ViewPosition="", PatientOrientation=["P", "F"]), "lateral"),
        (header(ViewPosition="PA", PatientOrientation=["P", "F"]), "lateral"),
        (header(ViewPosition="", SeriesDescription="Thorax seitlich"), "lateral"),
        (header(ViewPosition="", SeriesDescription="Chest LAT"), "lateral"),
        (header(ViewPosition="", SeriesDescription="Chest PA and lateral"), "lateral"),
        (header(ViewPosition="", ViewCodeSequence=[coded("399173006", "SCT", "left lateral")]), "lateral"),
        (header(ViewPosition="LL"), "no image with view PA or AP"),
        (header(ViewPosition="LAT"), "no image with view PA or AP"),
        (header(SOPClassUID=SecondaryCaptureImageStorage), "no image of a storage class that the model reads"),
        (header(SOPClassUID=DigitalXRayImageStorageForProcessing), "no image of a storage class that the model reads"),
        (header(SOPClassUID=CTImageStorage), "no image of a storage class that the model reads"),
        (header(PatientBirthDate="19490301"), "the model is not for patients over 5 years"),
        (header(PatientBirthDate="20250601"), "the model is not for patients under 1 year"),
        (header(PatientBirthDate=""), "date of birth is not known"),
    ],
)
def test_an_image_that_is_not_for_the_model_is_declined_with_a_delivered_reason(
    hospital: Hospital, change: Change, reason: str
) -> None:
    known_to_the_ehr(hospital)
    c_store([changed(change)], hospital.peer)
    hospital.rest()
    (row,) = hospital.results()
    assert (row.model, row.kind) == ("cxr-pneumonia", "declined")
    assert reason in row.summary
    (report,) = hospital.ehr.received("DiagnosticReport")
    assert reason in report["conclusion"]
    (message,) = hospital.engine.received()
    assert message.first("OBX").get(11) == "X"
    (uid,) = hospital.pacs.arrivals
    assert b"AI result not available" in hospital.pacs.file(uid)


@pytest.mark.parametrize(
    "change",
    [
        no_part(SeriesDescription="Thorax p.a."),
        header(BodyPartExamined="", StudyDescription="Röntgen Thorax"),
        no_part(ProtocolName="RX TÓRAX"),
        no_part(AnatomicRegionSequence=[coded("T-D3000", "SRT", "Chest")]),
        header(StudyDescription="Chest PA and lateral"),
        header(SeriesDescription="Chest PA and lateral"),
        header(StudyDescription="Chest and hand"),
        header(ViewPosition="", PatientOrientation=["L", "F"]),
        header(ViewPosition="", PatientOrientation=""),
    ],
)
def test_a_frontal_image_of_the_chest_is_read_however_the_header_says_so(hospital: Hospital, change: Change) -> None:
    c_store([changed(change)], hospital.peer)
    hospital.rest()
    (row,) = hospital.results()
    assert (row.kind, row.reason) == ("prediction", None)


def test_the_image_that_fits_is_read_when_the_study_holds_another(hospital: Hospital) -> None:
    capture = changed(header(SOPClassUID=SecondaryCaptureImageStorage), 2)
    lateral = changed(header(ViewPosition="", PatientOrientation=["A", "F"]), 3)
    c_store([capture, lateral, changed(header(), 4)], hospital.peer)
    hospital.rest()
    (row,) = hospital.results()
    assert row.kind == "prediction"


def inverted(dataset: Dataset) -> None:
    pixels = dataset.pixel_array
    dataset.PixelData = (2**dataset.BitsStored - 1 - pixels).astype(np.uint16).tobytes()


def noise(dataset: Dataset) -> None:
    shape = dataset.Rows, dataset.Columns
    dataset.PixelData = np.random.default_rng(1).integers(0, 2**dataset.BitsStored, shape, dtype=np.uint16).tobytes()


def turned(dataset: Dataset) -> None:
    dataset.PixelData = np.rot90(dataset.pixel_array).tobytes()


@pytest.mark.parametrize("change", [inverted, noise, turned])
def test_an_image_unlike_those_of_the_training_is_declined_with_a_delivered_reason(
    hospital: Hospital, change: Change
) -> None:
    """The header is right and the picture is not, as after a wrong MONOCHROME1."""
    known_to_the_ehr(hospital)
    c_store([changed(change)], hospital.peer)
    hospital.rest()
    (row,) = hospital.results()
    assert (row.kind, row.reason) == ("declined", "the image is unlike those that the model was made from")
    (report,) = hospital.ehr.received("DiagnosticReport")
    assert row.reason in report["conclusion"]
