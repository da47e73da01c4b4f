"""What comes again: our own objects from the PACS, late images, and instances whose demographics were reconciled."""

from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless

from dicom_node.scu import send as c_store
from dicom_node.synthesise import ChestXRay, chest_x_ray

from .hospital import AUTHORITY, Hospital

CHEST = ChestXRay(PatientID="4711", IssuerOfPatientID="HOSPITAL", rows=64, columns=64)
LATERAL = ChestXRay(PatientID="4711", IssuerOfPatientID="HOSPITAL", rows=64, columns=64, view="LL", instance=2)


def changed(request: ChestXRay, **attributes: Any) -> bytes:
    dataset = dcmread(BytesIO(chest_x_ray(request)))
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def deliveries(hospital: Hospital) -> int:
    return len(hospital.engine.received())


@pytest.mark.parametrize("coerced", [False, True])
def test_our_own_objects_routed_back_change_nothing(hospital: Hospital, coerced: bool) -> None:
    hospital.dicom(CHEST)
    hospital.rest()
    before = dict(hospital.pacs.arrivals)
    assert len(before) == 2
    for _ in range(3):
        files = [hospital.pacs.file(uid) for uid in hospital.pacs.arrivals]
        if coerced:  # a PACS puts its own values into what it stores
            files = [recoded(one) for one in files]
        c_store(files, hospital.peer)
        hospital.rest()
    assert dict(hospital.pacs.arrivals) == before
    assert len(hospital.results()) == 1
    assert deliveries(hospital) == 1


def recoded(content: bytes) -> bytes:
    dataset = dcmread(BytesIO(content))
    dataset.InstitutionName, dataset.Manufacturer, dataset.AccessionNumber = "City", "PACS", "OTHER"
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def test_a_late_image_that_the_model_does_not_read_repeats_nothing(hospital: Hospital) -> None:
    hospital.dicom(CHEST)
    hospital.rest()
    hospital.dicom(LATERAL)
    hospital.rest()
    assert [row.kind for row in hospital.results()] == ["prediction"]
    assert deliveries(hospital) == 1


def test_a_late_image_repeats_no_refusal(hospital: Hospital) -> None:
    hospital.dicom(LATERAL)
    hospital.rest()
    hospital.dicom(ChestXRay(**{**vars(LATERAL), "instance": 3}))
    hospital.rest()
    assert [row.kind for row in hospital.results()] == ["declined"]
    assert deliveries(hospital) == 1


def test_a_late_image_that_the_model_reads_makes_a_result(hospital: Hospital) -> None:
    hospital.dicom(LATERAL)
    hospital.rest()
    hospital.dicom(CHEST)
    hospital.rest()
    assert [(row.kind, row.state) for row in hospital.results()] == [
        ("declined", "superseded"),
        ("prediction", "preliminary"),
    ]


def test_a_reconciled_instance_counts_and_the_earlier_one_is_kept(hospital: Hospital) -> None:
    for number in ("4711", "9999"):
        identifier = [{"system": AUTHORITY, "value": number}]
        hospital.ehr.put({"resourceType": "Patient", "id": f"ehr-{number}", "identifier": identifier})
    hospital.dicom(CHEST)
    hospital.rest()
    c_store([changed(CHEST, PatientID="9999", PatientName="Right^Person")], hospital.peer)
    hospital.rest()
    first, second, withdrawal = hospital.results()
    assert (first.state, second.state) == ("superseded", "preliminary")
    assert first.subject == withdrawal.subject != second.subject
    reported = {one["subject"]["reference"] for one in hospital.ehr.received("DiagnosticReport")}
    assert reported == {"Patient/ehr-4711", "Patient/ehr-9999"}
    with hospital.application.database.read() as connection:
        (kept,) = hospital.application.archive.replaced(connection, second.study)
    assert b"4711" in hospital.application.blobs.get(kept.blob)
    received = [event for event in hospital.all("AuditEvent?_count=200") if "reconciled" in str(event)]
    assert len(received) == 1


def test_an_instance_of_which_the_pacs_has_changed_the_series_takes_its_place(hospital: Hospital) -> None:
    hospital.dicom(CHEST, LATERAL)
    hospital.rest()
    receipt = c_store([changed(CHEST, SeriesInstanceUID="1.2.3.9", PatientName="Right^Person")], hospital.peer)
    assert list(receipt.statuses.values()) == [0x0000]
    hospital.rest()
    first, second = hospital.results()
    assert (first.state, second.state) == ("superseded", "preliminary")
    (study,) = hospital.all("ImagingStudy")
    assert (study["numberOfSeries"], study["numberOfInstances"]) == (2, 2)
    assert "1.2.3.9" in {series["uid"] for series in study["series"]}


def test_an_instance_that_was_compressed_without_loss_is_the_same_picture(hospital: Hospital) -> None:
    hospital.dicom(CHEST)
    hospital.rest()
    dataset = dcmread(BytesIO(chest_x_ray(CHEST)))
    dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    stream = BytesIO()
    dataset.save_as(stream)
    assert list(c_store([stream.getvalue()], hospital.peer).statuses.values()) == [0x0000]


def test_another_picture_under_the_same_uid_is_a_conflict(hospital: Hospital) -> None:
    hospital.dicom(CHEST)
    other = dcmread(BytesIO(chest_x_ray(ChestXRay(**{**vars(CHEST), "seed": 2}))))
    same = dcmread(BytesIO(chest_x_ray(CHEST)))
    receipt = c_store([changed(CHEST, PixelData=other.PixelData, PatientID=same.PatientID)], hospital.peer)
    assert list(receipt.statuses.values()) == [0x0111]


def test_a_study_that_is_given_to_another_patient_takes_the_result_back_from_the_first(hospital: Hospital) -> None:
    hospital.dicom(CHEST)
    hospital.rest()
    c_store([changed(CHEST, PatientID="4712")], hospital.peer)
    hospital.rest()
    newest: dict[str, str] = {}
    for message in hospital.engine.received():
        patient, result = message.first("PID"), message.first("OBX")
        assert patient is not None
        assert result is not None
        newest[patient.get(3, component=1)] = result.get(11)
    assert newest == {"4711": "X", "4712": "P"}
    assert [row.reason for row in hospital.results() if row.reason] == ["the study is of another patient"]
    before = deliveries(hospital)
    c_store([changed(LATERAL, PatientID="4712")], hospital.peer)
    hospital.rest()
    assert deliveries(hospital) == before
