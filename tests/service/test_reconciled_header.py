"""A header that a PACS has corrected corrects what is known from it; a chart that says otherwise stays."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from dicom_node.scu import send as c_store
from fhir_adapter.hl7v2.synthesise import adt_a01

from .hospital import ADULT, AUTHORITY, Hospital
from .test_input_kinds import put
from .test_routed_back import CHEST, changed

CHART = replace(ADULT, family="Demo", given="Patient", birth_date=date(2022, 2, 28))


def send(hospital: Hospital, **attributes: Any) -> None:
    receipt = c_store([changed(CHEST, **attributes)], hospital.peer)
    assert list(receipt.statuses.values()) == [0x0000]
    hospital.rest()


def patient(hospital: Hospital) -> dict[str, Any]:
    (found,) = hospital.all(f"Patient?identifier={AUTHORITY}|4711")
    return found


def test_a_corrected_birth_date_is_that_by_which_the_age_counts(hospital: Hospital) -> None:
    send(hospital)
    send(hospital, PatientBirthDate="20100301")
    first, second = hospital.results()
    assert (first.kind, first.state, second.kind) == ("prediction", "superseded", "declined")
    assert "over 5 years" in second.reason
    assert patient(hospital)["birthDate"] == "2010-03-01"
    message = hospital.engine.received()[-1]
    assert (message.first("PID").get(7), message.first("OBX").get(11)) == ("20100301", "X")


def test_a_corrected_name_is_that_of_every_destination(hospital: Hospital) -> None:
    send(hospital, PatientName="Wrong^Name")
    send(hospital, PatientName="Kid^One", PatientSex="M")
    assert patient(hospital)["name"] == [{"family": "Kid", "given": ["One"]}]
    assert patient(hospital)["gender"] == "male"
    pid = hospital.engine.received()[-1].first("PID")
    assert (pid.get(5), pid.get(5, component=2), pid.get(8)) == ("Kid", "One", "M")
    assert str(hospital.pacs.dataset(list(hospital.pacs.arrivals)[-1]).PatientName) == "Kid^One"


def test_a_header_that_is_corrected_in_everything_is_no_doubt_about_identity(hospital: Hospital) -> None:
    send(hospital, PatientName="Wrong^Name", PatientSex="F", PatientBirthDate="20210101")
    send(hospital, PatientName="Kid^One", PatientSex="M", PatientBirthDate="20220301")
    assert [row.kind for row in hospital.results()] == ["prediction", "prediction"]
    assert patient(hospital)["birthDate"] == "2022-03-01"


def test_a_correction_that_is_corrected_again_or_taken_back_counts(hospital: Hospital) -> None:
    for born in ("20100301", "20210301", "20100301", "20220301"):
        send(hospital, PatientBirthDate=born)
        assert patient(hospital)["birthDate"].replace("-", "") == born
    assert hospital.results()[-1].kind == "prediction"


@pytest.mark.parametrize("when", ["before", "between"])
@pytest.mark.parametrize("source", ["FHIR", "HL7"])
def test_a_chart_that_says_otherwise_stays(hospital: Hospital, source: str, when: str) -> None:
    def state() -> None:
        if source == "HL7":
            assert hospital.hl7(adt_a01(CHART, "A1", hospital.clock.now())) == "AA"
            hospital.work()
        else:
            name = [{"family": "Demo", "given": ["Patient"]}]
            identifier = [{"system": AUTHORITY, "value": "4711"}]
            known = hospital.all(f"Patient?identifier={AUTHORITY}|4711")
            identity = {"id": known[0]["id"] if known else "chart", "identifier": identifier, "name": name}
            put(hospital, {"resourceType": "Patient", **identity, "gender": "female", "birthDate": "2022-02-28"})

    if when == "before":
        state()
    send(hospital)
    if when == "between":
        state()
    chart = {key: patient(hospital).get(key) for key in ("name", "gender", "birthDate")}
    send(hospital, PatientBirthDate="20100301", PatientName="Other^Person")
    assert {key: patient(hospital).get(key) for key in chart} == chart
