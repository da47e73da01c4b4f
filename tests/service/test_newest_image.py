"""Of several images that fit, the newest is read, and the result says that there are several."""

import json
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.scu import send as c_store
from dicom_node.synthesise import ChestXRay, chest_x_ray

from .hospital import AUTHORITY, Hospital
from .test_one_bad_instance import comments, notes

CHEST = ChestXRay(PatientID="4711", IssuerOfPatientID="HOSPITAL", rows=256, columns=256)
ILL = replace(CHEST, consolidation=True, instance=2)
DATES = [f"{what}{kind}" for what in ("Series", "Acquisition", "Content") for kind in ("Date", "Time")]
MORNING, LATER = "080000", "110000"


def film(request: ChestXRay, uid: str, **attributes: Any) -> bytes:
    """Return a film of the one study with a UID of its own."""
    dataset = dcmread(BytesIO(chest_x_ray(request)))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{uid}"
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def read_last(hospital: Hospital) -> str:
    """Return the SOPInstanceUID, less its root, that the newest result was read from."""
    (source,) = json.loads(hospital.results()[-1].inputs)
    return str(source).removeprefix("urn:oid:1.2.3.").partition("#")[0]


@pytest.fixture(autouse=True)
def known(hospital: Hospital) -> None:
    identifier = [{"system": AUTHORITY, "value": "4711"}]
    hospital.ehr.put({"resourceType": "Patient", "id": "ehr-4711", "identifier": identifier})


@pytest.mark.parametrize(("first", "second"), [("1", "9"), ("9", "1")])
def test_a_repeat_that_comes_later_is_read_whatever_its_uid(hospital: Hospital, first: str, second: str) -> None:
    c_store([film(CHEST, first, AcquisitionTime=MORNING)], hospital.peer)
    hospital.rest()
    c_store([film(ILL, second, AcquisitionTime=LATER)], hospital.peer)
    hospital.rest()
    assert read_last(hospital) == second
    before, after = hospital.results()
    assert (before.state, after.state) == ("superseded", "preliminary")
    said = "2 images fit; the one acquired on 2026-01-15 at 11:00 was read."
    newest = hospital.ehr.received("DiagnosticReport")[0]
    assert said in newest["conclusion"]
    assert said in comments(hospital)
    message = hospital.engine.received()[-1]
    assert said in notes(message)
    assert (message.first("OBR").get(7), message.first("OBX").get(14)) == ("20260115110000+0000",) * 2
    (finding,) = hospital.all(f"Observation?_id={after.id}")
    assert finding["effectiveDateTime"] == "2026-01-15T11:00:00.000Z"


NOTHING: dict[str, Any] = dict.fromkeys(DATES, None)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ({"AcquisitionDateTime": "20260115100000"}, {"AcquisitionDateTime": "20260115103000.5"}),
        (
            {"AcquisitionDateTime": "20260115110000+0200"},
            {"AcquisitionDateTime": "20260115103000+0000", "AcquisitionTime": "070000"},
        ),
        ({"AcquisitionTime": "100000"}, {"AcquisitionDate": "20260115", "AcquisitionTime": "1001"}),
        ({"AcquisitionDate": "20260114", "AcquisitionTime": "235959"}, {"AcquisitionTime": "000001"}),
        (NOTHING | {"ContentDate": "20260115", "ContentTime": "10"}, NOTHING | {"AcquisitionDateTime": "2026011511"}),
        (NOTHING | {"SeriesNumber": 1, "InstanceNumber": 7}, NOTHING | {"SeriesNumber": 2, "InstanceNumber": 3}),
        (NOTHING | {"InstanceNumber": 2}, NOTHING | {"InstanceNumber": 10}),
        (NOTHING | {"InstanceNumber": 1}, NOTHING | {"InstanceNumber": 1}),
        ({"ViewPosition": "PA"}, {"ViewPosition": "AP", "AcquisitionTime": "114600"}),
    ],
)
@pytest.mark.parametrize(("first", "second"), [("1", "9"), ("9", "1")])
def test_the_newest_is_found_by_time_then_by_number_then_by_arrival(
    hospital: Hospital, older: dict[str, Any], newer: dict[str, Any], first: str, second: str
) -> None:
    c_store([film(CHEST, first, **{"InstanceNumber": 1} | older)], hospital.peer)
    hospital.clock.advance(1)
    c_store([film(ILL, second, **{"InstanceNumber": 1} | newer)], hospital.peer)
    hospital.rest()
    assert read_last(hospital) == second
    assert "2 images fit" in notes(hospital.engine.received()[-1])


def test_a_film_that_is_older_and_comes_late_changes_nothing_of_the_result(hospital: Hospital) -> None:
    c_store([film(CHEST, "9", AcquisitionTime=LATER)], hospital.peer)
    hospital.rest()
    c_store([film(ILL, "1", AcquisitionTime=MORNING)], hospital.peer)
    hospital.rest()
    assert len(hospital.results()) == 1


def test_a_picture_that_was_derived_from_a_film_is_no_newer_film(hospital: Hospital) -> None:
    derived = film(ILL, "9", ImageType=["DERIVED", "PRIMARY"], ContentTime="114900")
    c_store([film(CHEST, "1"), derived], hospital.peer)
    hospital.rest()
    assert read_last(hospital) == "1"


def test_an_image_that_is_the_only_one_is_not_counted(hospital: Hospital) -> None:
    c_store([film(CHEST, "1")], hospital.peer)
    hospital.rest()
    assert "fit" not in notes(hospital.engine.received()[-1])
