"""DICOM times: an offset that the study states holds, else the site's TIME_ZONE."""

from collections.abc import Callable
from io import BytesIO
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydicom import dcmread

from dicom_node.scu import send as c_store
from dicom_node.synthesise import ChestXRay, chest_x_ray
from dicom_node.times import zone_of

from .hospital import AUTHORITY, Hospital

CHEST = ChestXRay(PatientID="4711", IssuerOfPatientID="HOSPITAL", rows=64, columns=64)


def image(offset: str | None, **attributes: Any) -> bytes:
    dataset = dcmread(BytesIO(chest_x_ray(CHEST)))
    del dataset.TimezoneOffsetFromUTC
    if offset is not None:
        dataset.TimezoneOffsetFromUTC = offset
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("offset", "started", "stated", "filed"),
    [
        (None, "2026-01-15T10:45:00.000Z", "+0100", "20260115114500+0100"),
        ("+0000", "2026-01-15T11:45:00.000Z", "+0000", "20260115114500+0000"),
        ("-0500", "2026-01-15T16:45:00.000Z", "-0500", "20260115120030+0000"),
        ("+01:00", "2026-01-15T10:45:00.000Z", "+0100", "20260115114500+0100"),
    ],
)
def test_the_offset_of_a_study_holds_else_the_sites(
    open_hospital: Callable[..., Hospital], offset: str | None, started: str, stated: str, filed: str
) -> None:
    hospital = open_hospital(time_zone=ZoneInfo("Europe/Berlin"))
    identifier = [{"system": AUTHORITY, "value": "4711"}]
    hospital.ehr.put({"resourceType": "Patient", "id": "ehr-4711", "identifier": identifier})
    c_store([image(offset)], hospital.peer)
    hospital.rest()
    (study,) = hospital.ehr.received("ImagingStudy")
    assert study["started"] == started
    (message,) = hospital.engine.received()
    assert message.first("OBR").get(7) == filed
    at = hospital.results()[0].computed_at
    for uid in hospital.pacs.arrivals:
        made = hospital.pacs.dataset(uid)
        assert (made.StudyTime, made.TimezoneOffsetFromUTC) == ("114500", stated)
        assert made.ContentDate + str(made.ContentTime)[:6] == at.astimezone(zone_of(stated)).strftime("%Y%m%d%H%M%S")


def test_summer_time_holds_for_a_study_of_the_summer(open_hospital: Callable[..., Hospital]) -> None:
    hospital = open_hospital(time_zone=ZoneInfo("Europe/Berlin"))
    c_store([image(None, StudyDate="20250715")], hospital.peer)
    hospital.rest()
    (study,) = hospital.all("ImagingStudy")
    assert study["started"] == "2025-07-15T09:45:00.000Z"


def test_the_engine_is_given_the_time_of_the_image_and_the_name_of_a_patient_whom_the_image_announces(
    open_hospital: Callable[..., Hospital],
) -> None:
    hospital = open_hospital(time_zone=ZoneInfo("Europe/Berlin"))
    c_store([image(None, AcquisitionTime="083000", PatientName="Invented^Child")], hospital.peer)
    hospital.rest()
    (message,) = hospital.engine.received()
    order, patient = message.first("OBR"), message.first("PID")
    assert order is not None
    assert patient is not None
    assert order.get(7) == "20260115083000+0100"
    assert patient.get(5).startswith("Invented^Child") or patient.get(5, component=1) == "Invented"
