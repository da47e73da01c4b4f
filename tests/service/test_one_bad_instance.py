"""What goes wrong with one instance, one destination or one job silences nothing else, and is said."""

import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import dcmread

from dicom_node.results import RESULTS
from dicom_node.scu import send as c_store
from dicom_node.synthesise import ChestXRay, chest_x_ray
from fhir_adapter.hl7v2.message import Message
from kernel.errors import Category, Problem
from kernel.jobs import Job
from service.destinations.mllp import MllpDestination

from .hospital import AUTHORITY, Hospital

CHEST = ChestXRay(PatientID="4711", IssuerOfPatientID="HOSPITAL", rows=64, columns=64)
OTHER = replace(CHEST, instance=2, view="AP")


def send(hospital: Hospital, *files: bytes) -> None:
    """Send files that the sender too must read, however deep they are."""
    deepest = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        c_store(files, hospital.peer)
    finally:
        sys.setrecursionlimit(deepest)


def nested(request: ChestXRay) -> bytes:
    """Return an image with a sequence of 600 levels after its identifiers."""
    content = chest_x_ray(request)
    place = content.index(b"\x20\x00\x11\x00IS")  # Series Number
    item = b"\x40\x00\x75\x02SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\x00\x00\x00\x00\xfe\xff\xdd\xe0\x00\x00\x00\x00"
    return content[:place] + item * 600 + end * 600 + content[place:]


def one_byte(request: ChestXRay) -> bytes:
    """Return an image whose Rows is one byte long."""
    return chest_x_ray(request).replace(b"\x28\x00\x10\x00US\x02\x00\x40\x00", b"\x28\x00\x10\x00US\x01\x00\x40")


def decimal_rows(request: ChestXRay) -> bytes:
    """Return an image whose Rows is a decimal string that is no number."""
    return chest_x_ray(request).replace(b"\x28\x00\x10\x00US\x02\x00\x40\x00", b"\x28\x00\x10\x00DS\x04\x006 4x")


def unknown_vr(request: ChestXRay) -> bytes:
    """Return an image whose View Position has a VR that does not exist."""
    return chest_x_ray(request).replace(b"\x18\x00\x01\x51CS", b"\x18\x00\x01\x51ZZ")


def cut_off(request: ChestXRay) -> bytes:
    """Return an image of which 200 bytes of pixels are left, as an interrupted copy leaves it."""
    dataset = dcmread(BytesIO(chest_x_ray(request)))
    dataset.PixelData = dataset.PixelData[:200]
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


BROKEN = [cut_off, nested, one_byte, decimal_rows, unknown_vr]


@pytest.fixture(autouse=True)
def known(hospital: Hospital) -> None:
    identifier = [{"system": AUTHORITY, "value": "4711"}]
    hospital.ehr.put({"resourceType": "Patient", "id": "ehr-4711", "identifier": identifier})


def notes(message: Message) -> str:
    return " ".join(segment.get(3) for segment in message.all("NTE"))


def comments(hospital: Hospital) -> str:
    return "".join(hospital.pacs.file(uid).decode("latin-1") for uid in hospital.pacs.arrivals)


@pytest.mark.parametrize("broken", BROKEN)
def test_one_bad_instance_is_set_aside_and_said(hospital: Hospital, broken: Callable[[ChestXRay], bytes]) -> None:
    send(hospital, chest_x_ray(CHEST), broken(OTHER))
    hospital.rest()
    (row,) = hospital.results()
    assert row.kind == "prediction"
    said = "1 instance of the study cannot be read and was left out."
    (report,) = hospital.ehr.received("DiagnosticReport")
    assert said in report["conclusion"]
    assert said in comments(hospital)
    (message,) = hospital.engine.received()
    assert said in notes(message)


@pytest.mark.parametrize("broken", BROKEN)
def test_a_study_of_bad_instances_only_is_reported_everywhere(
    hospital: Hospital, broken: Callable[[ChestXRay], bytes]
) -> None:
    send(hospital, broken(CHEST))
    hospital.rest()
    (row,) = hospital.results()
    assert row.kind == "declined"
    assert "1 instance of the study cannot be read" in row.reason
    (report,) = hospital.ehr.received("DiagnosticReport")
    assert "AI result not available" in report["conclusion"]
    (uid,) = hospital.pacs.arrivals
    assert hospital.pacs.dataset(uid).PatientID == "4711"
    (message,) = hospital.engine.received()
    assert message.first("OBX").get(11) == "X"


def test_one_destination_that_cannot_be_written_loses_its_own_form_only(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = MllpDestination.render

    def render(self, result, model_result, resources):
        if row_kind(model_result) == "Prediction":
            raise ValueError("Invented^Person")
        return shown(self, result, model_result, resources)

    monkeypatch.setattr(MllpDestination, "render", render)
    c_store([chest_x_ray(CHEST)], hospital.peer)
    hospital.rest()
    (row,) = hospital.results()
    assert row.kind == "prediction"
    assert hospital.ehr.received("DiagnosticReport")
    assert len(hospital.pacs.arrivals) == 2
    (message,) = hospital.engine.received()
    assert message.first("OBX").get(11) == "X"
    assert "the result could not be written in the form of this destination" in notes(message)
    assert hospital.parked() == ["the result could not be written in the form of this destination"]


def row_kind(model_result: object) -> str:
    return type(model_result.outcome).__name__  # type: ignore[attr-defined]


def test_a_heat_map_that_cannot_be_drawn_leaves_the_report(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bytes:
        raise ValueError("Invented^Person")

    monkeypatch.setattr("service.destinations.dicom.RESULTS", RESULTS | {"heat-map": broken})
    c_store([chest_x_ray(CHEST)], hospital.peer)
    hospital.rest()
    (uid,) = hospital.pacs.arrivals
    assert hospital.pacs.dataset(uid).Modality == "SR"
    assert hospital.engine.received()
    assert hospital.parked() == ["the heat-map could not be written"]


def test_a_study_job_that_is_parked_publishes_the_reason(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    send(hospital, chest_x_ray(CHEST))
    with monkeypatch.context() as broken:
        broken.setattr("service.flows.imaging_study.read_input", fail)
        hospital.rest()
        for _ in range(8):
            hospital.clock.advance(3600)
            hospital.work()
    (row,) = hospital.results()
    assert (row.kind, row.reason) == ("failed", "the run of the model failed: the study is like no other")
    (message,) = hospital.engine.received()
    assert message.first("OBX").get(11) == "X"
    assert len(hospital.pacs.arrivals) == 1
    assert hospital.ehr.received("DiagnosticReport")
    assert hospital.parked() == ["the study is like no other"]

    (job,) = jobs(hospital)
    hospital.application.database.write(lambda tx: hospital.application.jobs.replay(tx, job.id))
    hospital.work()
    assert hospital.results()[-1].kind == "prediction"
    assert hospital.results()[0].state == "superseded"


def test_a_job_about_a_patient_that_is_parked_publishes_the_reason(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital.admit()
    monkeypatch.setattr("service.flows.assess.read_input", fail)
    hospital.hl7(hospital.vitals())
    hospital.work()
    (row,) = hospital.results()
    assert row.reason == "the run of the model failed: the study is like no other"
    assert len(hospital.engine.received()) == 1


def fail(*_: object) -> None:
    raise Problem(Category.INCORRECT, "the study is like no other")


def jobs(hospital: Hospital) -> list[Job]:
    with hospital.application.database.read() as connection:
        return hospital.application.jobs.listing(connection, "parked")
