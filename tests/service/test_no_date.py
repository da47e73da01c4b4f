"""Year 1 and year 9999: what programs write where there is no date silences nothing and is no age."""

from dataclasses import replace
from datetime import date
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.scu import send as c_store
from dicom_node.synthesise import ChestXRay, chest_x_ray

from .hospital import ADULT, Hospital
from .test_order import order, score

CHEST = ChestXRay(PatientID="4711", IssuerOfPatientID="HOSPITAL", rows=256, columns=256)
NO_DATES: list[dict[str, Any]] = [
    {"StudyDate": "00010101", "StudyTime": "000000", "TimezoneOffsetFromUTC": "+1400"},
    {"StudyDate": "99991231", "StudyTime": "235959", "TimezoneOffsetFromUTC": "-1200"},
    {"StudyDate": "00010101", "StudyTime": ""},
    {
        keyword: value
        for what in ("Series", "Acquisition", "Content")
        for keyword, value in ((f"{what}Date", "00010101"), (f"{what}Time", "000000"))
    }
    | {"TimezoneOffsetFromUTC": "+1400"},
]


@pytest.mark.parametrize("attributes", NO_DATES)
def test_a_study_without_a_real_date_has_its_result_everywhere(hospital: Hospital, attributes: dict[str, Any]) -> None:
    dataset = dcmread(BytesIO(chest_x_ray(CHEST)))
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    stream = BytesIO()
    dataset.save_as(stream)
    c_store([stream.getvalue()], hospital.peer)
    hospital.rest()
    assert hospital.parked() == []
    assert [row.kind for row in hospital.results()] == ["prediction"]
    assert len(hospital.pacs.arrivals) == 2
    assert len(hospital.engine.received()) == 1


ALL_DATES = [f"{what}{kind}" for what in ("Study", "Series", "Acquisition", "Content") for kind in ("Date", "Time")]


def all_dates(day: str, time: str, offset: str = "+0000") -> dict[str, str]:
    return {name: day if name.endswith("Date") else time for name in ALL_DATES} | {"TimezoneOffsetFromUTC": offset}


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        (all_dates("00010101", "000000", "+1400"), "the day on which the image was taken is not known"),
        (all_dates("99991231", "235959", "-1200"), "the day on which the image was taken is not known"),
        (all_dates("", ""), "the day on which the image was taken is not known"),
        (all_dates("20401301", "120000"), "the day on which the image was taken is not known"),
        (all_dates("20190101", ""), "the model is not for patients under 1 year"),
        (all_dates("20190101", "no time"), "the model is not for patients under 1 year"),
        (all_dates("20400101", ""), "the model is not for patients over 5 years"),
        (all_dates("19000101", "120000"), "the model is not for patients under 1 year"),
    ],
)
def test_an_image_of_no_day_or_of_another_age_is_declined(
    hospital: Hospital, attributes: dict[str, Any], reason: str
) -> None:
    dataset = dcmread(BytesIO(chest_x_ray(CHEST)))
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    stream = BytesIO()
    dataset.save_as(stream)
    c_store([stream.getvalue()], hospital.peer)
    hospital.rest()
    (row,) = hospital.results()
    assert row.kind == "declined"
    assert reason in row.reason
    (message,) = hospital.engine.received()
    assert message.first("OBX").get(11) == "X"
    assert len(hospital.pacs.arrivals) == 1


@pytest.mark.parametrize("changed", ["99991231235959+0000", "99991231235959-0500", "00010101000000+1400"])
def test_vital_signs_whose_status_has_no_real_date_are_scored(hospital: Hospital, changed: str) -> None:
    hospital.admit()
    message = order(hospital, "80", "F", sent=hospital.clock.now(), changed=hospital.clock.now())
    lines = message.decode().split("\r")
    fields = next(line for line in lines if line.startswith("OBR")).split("|")
    fields[22] = changed
    text = "\r".join("|".join(fields) if line.startswith("OBR") else line for line in lines)
    assert hospital.hl7(text.encode()) == "AA"
    hospital.work()
    assert hospital.parked() == []
    assert score(hospital) == "0 (low)"


@pytest.mark.parametrize("born", [date(1, 1, 1), date(9999, 12, 31)])
def test_a_birth_date_that_is_none_gives_no_age(hospital: Hospital, born: date) -> None:
    person = replace(ADULT, birth_date=born)
    hospital.admit(person)
    hospital.hl7(hospital.vitals(person))
    hospital.work()
    assert "date of birth is not known" in hospital.results()[-1].summary
