"""DICOM in: from a C-STORE on a socket to an SR in the PACS and a report in the EHR."""

import base64
from dataclasses import replace
from datetime import datetime, timedelta
from io import BytesIO

from pydicom import dcmread
from sqlalchemy import delete, select

from dicom_node.encoding import _after_meta
from dicom_node.listener.association import ReceivedInstance
from dicom_node.scu import send as c_store
from dicom_node.synthesise import ChestXRay, chest_x_ray
from kernel.tables import jobs
from privacy.principal import Principal

from .hospital import AUTHORITY, Hospital

CHEST = ChestXRay(PatientID="4711", IssuerOfPatientID="HOSPITAL", rows=256, columns=256)
LATERAL = replace(CHEST, view="LL", instance=2)


def known_to_the_ehr(hospital: Hospital) -> None:
    identifier = [{"system": AUTHORITY, "value": "4711"}]
    hospital.ehr.put({"resourceType": "Patient", "id": "ehr-4711", "identifier": identifier})


def test_the_result_of_a_study_is_delivered_to_every_destination(hospital: Hospital) -> None:
    known_to_the_ehr(hospital)
    hospital.dicom(CHEST, LATERAL)
    hospital.rest()

    (row,) = hospital.results()
    assert (row.model, row.kind) == ("cxr-pneumonia", "prediction")
    (report,) = hospital.ehr.received("DiagnosticReport")
    assert report["status"] == "preliminary"
    assert report["subject"]["reference"] == "Patient/ehr-4711"
    (study,) = hospital.ehr.received("ImagingStudy")
    assert study["numberOfInstances"] == 2
    (finding,) = hospital.ehr.received("Observation")
    assert 0 <= float(finding["valueQuantity"]["value"]) <= 1
    assert "demonstration" in str(finding).lower()
    classes = {str(hospital.pacs.dataset(uid).SOPClassUID.name) for uid in hospital.pacs.arrivals}
    assert classes == {"Comprehensive 3D SR Storage", "Secondary Capture Image Storage"}
    (message,) = hospital.engine.received()
    assert message.first("OBX").get(2) == "NM"


def test_a_study_that_names_two_patients_is_not_scored_for_either(hospital: Hospital) -> None:
    """A's image is the first by SOPInstanceUID, B's is the one that the model would read."""
    known_to_the_ehr(hospital)
    identifier = [{"system": AUTHORITY, "value": "9999"}]
    hospital.ehr.put({"resourceType": "Patient", "id": "ehr-9999", "identifier": identifier})
    other = dcmread(BytesIO(chest_x_ray(replace(CHEST, instance=3))))
    other.PatientID, other.PatientName = "9999", "Other^Person"
    file = BytesIO()
    other.save_as(file)
    c_store([chest_x_ray(LATERAL), file.getvalue()], hospital.peer)
    hospital.rest()

    (row,) = hospital.results()
    assert (row.kind, row.reason) == ("declined", "patient identity in doubt: the study names more than one patient")
    (message,) = hospital.engine.received()
    assert message.first("OBX").get(11) == "X"
    (observation,) = hospital.ehr.received("Observation")
    assert "valueQuantity" not in observation


def test_an_image_without_an_issuer_is_of_the_same_patient(hospital: Hospital) -> None:
    hospital.dicom(CHEST, replace(LATERAL, IssuerOfPatientID=""))
    hospital.rest()
    (row,) = hospital.results()
    assert row.kind == "prediction"


def test_the_images_as_the_model_saw_them_are_kept_for_the_console(hospital: Hospital) -> None:
    hospital.dicom(CHEST)
    hospital.rest()
    (row,) = hospital.results()
    for address in (row.image, row.heat_map):
        assert hospital.application.blobs.get(address).startswith(b"\x89PNG")
        assert b"PNG" not in b"".join(
            path.read_bytes()[:8]
            for path in (hospital.application.settings.data_dir / "blobs").rglob("*")
            if path.is_file()
        )


def test_a_study_is_not_processed_before_it_is_complete(hospital: Hospital) -> None:
    hospital.dicom(CHEST)
    hospital.clock.advance(29)
    hospital.work()
    assert hospital.results() == []
    hospital.dicom(LATERAL)  # postpones the completion
    hospital.clock.advance(29)
    hospital.work()
    assert hospital.results() == []
    hospital.rest()
    assert len(hospital.results()) == 1


def test_a_study_is_complete_when_it_has_rested_since_its_newest_instance(hospital: Hospital) -> None:
    """The study's job is not pushed back for each instance; it is done again when the study may be at rest."""
    studies = hospital.application.imaging_studies
    for number, second in enumerate((0, 1, 3), start=1):
        hospital.clock.advance(second)
        studies.accept(received_image(replace(CHEST, instance=number), "open"))
    hospital.clock.advance(26)
    hospital.work()
    assert completion_due(hospital) == hospital.clock.now() + timedelta(seconds=4)
    studies.association_closed("open")
    hospital.clock.advance(3.9)
    hospital.work()
    assert hospital.results() == []
    hospital.clock.advance(0.1)
    hospital.work()
    assert len(hospital.results()) == 1


def test_a_study_whose_job_was_taken_away_is_complete_all_the_same(hospital: Hospital) -> None:
    """A later instance of the same association brings it back."""
    studies = hospital.application.imaging_studies
    studies.accept(received_image(CHEST, "open"))
    hospital.application.database.write(lambda tx: tx.execute(delete(jobs)))
    hospital.clock.advance(5)
    studies.accept(received_image(LATERAL, "open"))
    assert completion_due(hospital) == hospital.clock.now() + timedelta(seconds=30)


def received_image(image: ChestXRay, association: str) -> ReceivedInstance:
    content = chest_x_ray(image)
    dataset = dcmread(BytesIO(content))
    start, syntax = _after_meta(content)
    return ReceivedInstance(
        association=association,
        principal=Principal(client="MODALITY", client_address="127.0.0.1"),
        called_ae="AUSCULTA",
        SOPClassUID=str(dataset.SOPClassUID),
        SOPInstanceUID=str(dataset.SOPInstanceUID),
        TransferSyntaxUID=syntax,
        encoded=content[start:],
    )


def completion_due(hospital: Hospital) -> datetime:
    with hospital.application.database.read() as connection:
        query = select(jobs.c.scheduled_at).where(jobs.c.step == "complete-study", jobs.c.status == "waiting")
        return connection.execute(query).scalar_one()


def test_a_late_instance_that_the_model_prefers_makes_a_result_that_supersedes(hospital: Hospital) -> None:
    hospital.dicom(replace(CHEST, view="AP", instance=2))
    hospital.rest()
    hospital.dicom(CHEST)
    hospital.rest()
    first, second = hospital.results()
    assert first.id != second.id
    (provenance,) = [
        found
        for found in hospital.all("Provenance?_count=50")
        if second.id in str(found.get("identifier", found["id"]))
    ]
    revised = [entity["what"] for entity in provenance["entity"] if entity["role"] == "revision"]
    assert first.id in str(revised)


def test_the_same_study_again_is_the_same_result(hospital: Hospital) -> None:
    for _ in range(2):
        hospital.dicom(CHEST, LATERAL)
        hospital.rest()
    assert len(hospital.results()) == 1
    assert set(hospital.pacs.arrivals.values()) == {1}


def test_a_study_without_a_frontal_image_is_reported_to_every_destination(hospital: Hospital) -> None:
    known_to_the_ehr(hospital)
    hospital.dicom(LATERAL)
    hospital.rest()
    (row,) = hospital.results()
    assert row.kind == "declined"
    assert row.summary.startswith("AI result not available: the study holds no image with view PA or AP")
    (report,) = hospital.ehr.received("DiagnosticReport")
    assert "AI result not available" in report["conclusion"]
    (uid,) = hospital.pacs.arrivals
    assert b"AI result not available" in hospital.pacs.file(uid)


def test_a_patient_without_an_admission_is_created_from_the_dicom_header(hospital: Hospital) -> None:
    hospital.dicom(CHEST)
    hospital.rest()
    (row,) = hospital.results()
    patient = hospital.get(row.subject)
    assert patient["identifier"] == [{"system": AUTHORITY, "value": "4711"}]
    assert patient["birthDate"] == "2022-02-28"


def test_a_study_and_a_message_of_one_person_have_one_patient(hospital: Hospital) -> None:
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.dicom(CHEST)
    hospital.work()
    hospital.rest()
    assert len({row.subject for row in hospital.results()}) == 1
    assert len(hospital.all("Patient")) == 1
    (patient,) = hospital.all("Patient")
    assert patient["birthDate"] == "1950-01-01"  # what the ADT said stays


def test_a_study_without_a_patient_id_has_its_own_patient(hospital: Hospital) -> None:
    unidentified = replace(CHEST, PatientID="", AccessionNumber="X1")
    hospital.dicom(unidentified)
    hospital.dicom(replace(unidentified, AccessionNumber="X2"))
    hospital.rest()
    assert len({row.subject for row in hospital.results()}) == 2


def test_monochrome1_is_read_as_the_same_picture(hospital: Hospital) -> None:
    hospital.dicom(CHEST)
    hospital.dicom(replace(CHEST, photometric="MONOCHROME1", AccessionNumber="A-0002"))
    hospital.rest()
    first, second = hospital.results()
    assert first.summary == second.summary


def test_the_card_of_the_model_travels_with_the_result(hospital: Hospital) -> None:
    known_to_the_ehr(hospital)
    hospital.dicom(CHEST)
    hospital.rest()
    (card,) = hospital.ehr.received("DocumentReference")
    text = base64.b64decode(card["content"][0]["attachment"]["data"]).decode()
    assert "DEMONSTRATION MODEL" in text
