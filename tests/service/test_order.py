"""The newest true statement counts, in whatever order the messages arrive: stories over HL7, FHIR and DICOM."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import httpx
import pytest

from dicom_node.synthesise import ChestXRay
from fhir_adapter.hl7v2.synthesise import adt_a01, adt_a03, adt_a08
from fhir_adapter.hl7v2.writer import stamp

from .hospital import ADULT, Hospital
from .test_fhir_path import observation, post, put_patient, vitals

CALM = {
    "9279-1": ("NM", "18", "/min"),
    "59408-5": ("NM", "97", "%"),
    "8480-6": ("NM", "120", "mm[Hg]"),
    "8310-5": ("NM", "37.0", "Cel"),
    "67775-7": ("ST", "Alert", ""),
    "3151-8": ("NM", "0", "L/min"),
}


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def order(
    hospital: Hospital,
    pulse: str,
    status: str,
    *,
    sent: datetime,
    changed: datetime | None = None,
    measured: datetime | None = None,
    zone: bool = True,
) -> bytes:
    """Write vital signs of one order, O-41, with the pulse and its status (OBX-11); everything else is calm."""
    hospital.sent += 1
    at = measured or hospital.clock.now() - minutes(1)

    def text(moment: datetime | None) -> str:
        return "" if moment is None else stamp(moment)

    values = CALM | {"8867-4": ("NM", pulse, "/min")}
    sent_at = text(sent)[: None if zone else 14]
    lines = [
        f"MSH|^~\\&|WARDSYS|GENERAL|AUSCULTA|GENERAL|{sent_at}||ORU^R01|S{hospital.sent}|P|2.5.1",
        "PID|1||4711^^^HOSPITAL^MR||Invented^Person||19500101|F",
        f"OBR|1||O-41^WARDSYS|VITALS^^L|||{text(at)}|||||||||||||||{text(changed)}|||F",
    ]
    for number, (code, (kind, value, unit)) in enumerate(values.items(), start=1):
        lines.append(f"OBX|{number}|{kind}|{code}^^LN||{value}|{unit}^^UCUM|||||{status}|||{text(at)}")
    return "\r".join(lines).encode() + b"\r"


def said(hospital: Hospital) -> str:
    """Return what the newest RiskAssessment at the EHR and the newest ORU at the engine say; they agree."""
    at_ehr = str(hospital.ehr.received("RiskAssessment")[0])
    at_engine = hospital.engine.received()[-1]
    newest = hospital.results()[-1]
    assert newest.id in at_ehr
    assert newest.id in at_engine.first("OBR").get(3)
    return newest.summary


def score(hospital: Hospital) -> str:
    return said(hospital).rpartition("total score: ")[2]


# Observations in HL7 v2


@pytest.mark.parametrize("zone", [True, False], ids=["with an offset", "without an offset"])
def test_an_original_that_arrives_after_its_correction_changes_nothing(hospital: Hospital, zone: bool) -> None:
    hospital.admit()
    start, at = hospital.clock.now(), hospital.clock.now() - minutes(1)
    original = order(hospital, "140", "F", sent=start, measured=at, zone=zone)
    correction = order(hospital, "80", "C", sent=start + minutes(2), measured=at, zone=zone)
    again = order(hospital, "140", "F", sent=start + minutes(1), measured=at, zone=zone)
    hospital.hl7(original)
    hospital.work()
    assert score(hospital) == "3 (low-medium)"
    hospital.clock.advance(180)
    hospital.hl7(correction)
    hospital.work()
    assert score(hospital) == "0 (low)"
    assert hospital.hl7(again) == "AA"
    hospital.work()
    assert score(hospital) == "0 (low)"
    (pulse,) = hospital.all("Observation?code=8867-4&patient=" + patient(hospital))
    assert (pulse["status"], float(pulse["valueQuantity"]["value"])) == ("corrected", 80)
    assert inbox_states(hospital)[-3:] == ["done", "done", "older"]
    assert "ausculta_messages_older 1\n" in httpx.get(f"{hospital.web.url}/metrics").text


def test_a_preliminary_value_that_arrives_after_the_final_one_changes_nothing(hospital: Hospital) -> None:
    hospital.admit()
    start, at = hospital.clock.now(), hospital.clock.now() - minutes(1)
    hospital.clock.advance(180)
    hospital.hl7(order(hospital, "80", "F", sent=start, measured=at))
    hospital.work()
    hospital.hl7(order(hospital, "140", "P", sent=start + minutes(1), measured=at))
    hospital.work()
    assert score(hospital) == "0 (low)"


def test_a_preliminary_value_is_overtaken_too_when_the_sender_s_clock_is_a_little_ahead(hospital: Hospital) -> None:
    """All times of the ward are 100 s ahead of ours, which the tolerance of clocks allows."""
    hospital.admit()
    ahead = timedelta(seconds=100)
    at = hospital.clock.now() + ahead - minutes(1)
    hospital.hl7(order(hospital, "80", "F", sent=hospital.clock.now() + ahead, measured=at))
    hospital.work()
    hospital.clock.advance(300)
    hospital.hl7(order(hospital, "140", "P", sent=hospital.clock.now() + ahead, measured=at))
    hospital.work()
    assert score(hospital) == "0 (low)"


def test_an_original_is_overtaken_too_when_the_sender_s_clock_is_a_little_ahead(hospital: Hospital) -> None:
    hospital.admit()
    start, ahead = hospital.clock.now(), timedelta(seconds=100)
    at = start - minutes(1)
    hospital.hl7(order(hospital, "80", "C", sent=start + ahead, changed=start + ahead, measured=at))
    hospital.work()
    hospital.clock.advance(300)
    early = start + ahead - timedelta(seconds=30)
    hospital.hl7(order(hospital, "140", "F", sent=hospital.clock.now() + ahead, changed=early, measured=at))
    hospital.work()
    assert score(hospital) == "0 (low)"


@pytest.mark.parametrize("status", ["C", "D"])
def test_an_original_that_is_sent_again_with_a_new_time_of_sending_changes_nothing(
    hospital: Hospital, status: str
) -> None:
    """Without OBR-22: engines resend with a new MSH-7."""
    hospital.admit()
    start, at = hospital.clock.now(), hospital.clock.now() - minutes(1)
    hospital.hl7(order(hospital, "140", "F", sent=start, measured=at))
    hospital.clock.advance(60)
    hospital.hl7(order(hospital, "80", status, sent=hospital.clock.now(), measured=at))
    hospital.work()
    before = said(hospital)
    hospital.clock.advance(60)
    hospital.hl7(order(hospital, "140", "F", sent=hospital.clock.now(), measured=at))
    hospital.work()
    assert said(hospital) == before


def test_a_withdrawal_takes_the_value_away_and_the_late_original_does_not_bring_it_back(hospital: Hospital) -> None:
    hospital.admit()
    start, at = hospital.clock.now(), hospital.clock.now() - minutes(1)
    hospital.clock.advance(180)
    hospital.hl7(order(hospital, "140", "F", sent=start, measured=at))
    hospital.hl7(order(hospital, "140", "W", sent=start + minutes(2), measured=at))
    hospital.hl7(order(hospital, "140", "F", sent=start + minutes(1), measured=at))
    hospital.work()
    assert "AI result not available" in said(hospital)


def test_a_sender_whose_clock_is_years_ahead_does_not_stop_the_corrections_that_follow(hospital: Hospital) -> None:
    hospital.admit()
    start, at = hospital.clock.now(), hospital.clock.now() - minutes(1)
    hospital.hl7(order(hospital, "140", "F", sent=start + timedelta(days=3650), measured=at))
    hospital.work()
    hospital.clock.advance(120)
    hospital.hl7(order(hospital, "80", "C", sent=hospital.clock.now(), measured=at))
    hospital.work()
    assert score(hospital) == "0 (low)"


# Patients and visits in HL7 v2


def test_an_update_of_a_patient_with_an_older_event_changes_nothing(hospital: Hospital) -> None:
    hospital.admit()
    start = hospital.clock.now()
    hospital.clock.advance(300)
    married, maiden = replace(ADULT, family="Newer"), replace(ADULT, family="Older")
    assert hospital.hl7(adt_a08(married, "U2", start + minutes(2))) == "AA"
    hospital.work()
    assert hospital.hl7(adt_a08(maiden, "U1", start + minutes(1))) == "AA"
    hospital.work()
    (stored,) = hospital.all("Patient")
    assert stored["name"][0]["family"] == "Newer"
    assert inbox_states(hospital)[-2:] == ["done", "older"]


def test_a_late_discharge_ends_the_visit_that_a_newer_update_left_open(hospital: Hospital) -> None:
    """An A08 says nothing of the discharge, so it must not hide an A03 that was recorded before it."""
    hospital.admit()
    start = hospital.clock.now()
    hospital.clock.advance(300)
    hospital.hl7(adt_a08(replace(ADULT, family="Newer"), "U3", start + minutes(3)))
    hospital.hl7(adt_a03(replace(ADULT, family="Older"), "U2", start + minutes(2)))
    hospital.hl7(adt_a01(replace(ADULT, family="Oldest"), "U1", start + minutes(1)))
    hospital.work()
    (stay,) = hospital.all("Encounter")
    assert stay["status"] == "finished"
    (stored,) = hospital.all("Patient")
    assert stored["name"][0]["family"] == "Newer"


def test_a_result_message_does_not_bring_back_older_demographics(hospital: Hospital) -> None:
    hospital.admit()
    start = hospital.clock.now()
    hospital.clock.advance(300)
    hospital.hl7(adt_a08(replace(ADULT, family="Newer"), "U2", start + minutes(2)))
    hospital.hl7(order(hospital, "80", "F", sent=start + minutes(1)))
    hospital.work()
    (stored,) = hospital.all("Patient")
    assert stored["name"][0]["family"] == "Newer"
    assert score(hospital) == "0 (low)"


# Observations that are deleted, over FHIR


def test_a_deleted_observation_runs_the_models_that_read_it(hospital: Hospital) -> None:
    put_patient(hospital)
    stored = [post(hospital, resource).json() for resource in vitals(hospital)]
    hospital.work()
    assert score(hospital) == "0 (low)"
    hospital.clock.advance(60)
    pulse = next(it for it in stored if it["code"]["coding"][0]["code"] == "8867-4")
    assert httpx.delete(f"{hospital.url}/Observation/{pulse['id']}").status_code == 204
    hospital.work()
    assert "missing pulse" in said(hospital)


def test_an_observation_that_is_moved_to_another_patient_is_taken_from_the_first(hospital: Hospital) -> None:
    put_patient(hospital)
    stored = [post(hospital, resource).json() for resource in vitals(hospital)]
    hospital.work()
    pulse = next(it for it in stored if it["code"]["coding"][0]["code"] == "8867-4")
    moved = pulse | {"subject": {"reference": "Patient/p2"}}
    assert httpx.put(f"{hospital.url}/Observation/{pulse['id']}", json=moved).status_code == 200
    hospital.work()
    newest = {row.subject: row.summary for row in hospital.results()}
    assert "missing pulse" in newest["Patient/p1"]


# A value that is true again


def test_the_earlier_value_is_the_newest_statement_again_when_the_later_one_is_deleted(hospital: Hospital) -> None:
    put_patient(hospital)
    for resource in vitals(hospital):
        post(hospital, resource)
    hospital.work()
    first = said(hospital)
    seen = [first]
    for _ in range(2):
        hospital.clock.advance(60)
        fast = post(hospital, observation(hospital, "8867-4", 140, "/min")).json()
        hospital.work()
        seen.append(said(hospital))
        assert httpx.delete(f"{hospital.url}/Observation/{fast['id']}").status_code == 204
        hospital.work()
        seen.append(said(hospital))
    slow, quick = first, seen[1]
    assert slow != quick
    assert seen == [slow, quick, slow, quick, slow]
    assert len({row.id for row in hospital.results()}) == 5


# Birth date and sex


def test_a_corrected_birth_date_or_sex_gives_a_new_result_and_a_new_address_none(hospital: Hospital) -> None:
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    assert len(hospital.results()) == 1
    corrected = ADULT
    for number, correction in enumerate(({"birth_date": date(1951, 1, 1)}, {"sex": "M"}), start=1):
        hospital.clock.advance(60)
        corrected = replace(corrected, **correction)
        hospital.hl7(adt_a08(corrected, f"U{number}", hospital.clock.now()))
        hospital.work()
        assert len(hospital.results()) == number + 1
    hospital.hl7(adt_a08(replace(corrected, family="Married"), "U4", hospital.clock.now()))
    hospital.work()
    assert len(hospital.results()) == 3
    hospital.hl7(adt_a08(replace(corrected, sex="F"), "U5", hospital.clock.now()))
    hospital.work()
    assert len(hospital.results()) == 4
    said(hospital)


def test_a_corrected_birth_date_gives_a_new_result_about_a_study(hospital: Hospital) -> None:
    child = replace(ADULT, birth_date=date(2022, 2, 28))
    hospital.admit(child)
    hospital.dicom(ChestXRay(PatientID="4711", IssuerOfPatientID="HOSPITAL", rows=256, columns=256))
    hospital.rest()
    hospital.hl7(adt_a08(replace(child, family="Married"), "U1", hospital.clock.now()))
    hospital.work()
    (first,) = hospital.results()
    hospital.hl7(adt_a08(replace(child, birth_date=date(2022, 3, 28)), "U2", hospital.clock.now()))
    hospital.work()
    before, after = hospital.results()
    assert (before.id, before.superseded_by, after.study) == (first.id, after.id, first.study)


def test_a_patient_who_arrives_after_the_observations_runs_again_what_was_declined(hospital: Hospital) -> None:
    for resource in vitals(hospital):
        post(hospital, resource)
    hospital.work()
    assert "date of birth" in hospital.results()[-1].summary
    put_patient(hospital)
    hospital.work()
    assert score(hospital) == "0 (low)"


# Observations of one time


def test_of_two_values_of_one_time_the_one_that_arrived_later_counts(hospital: Hospital) -> None:
    put_patient(hospital)
    for resource in vitals(hospital):
        post(hospital, resource)
    values = [observation(hospital, "8867-4", pulse, "/min") for pulse in (140, 80)]
    for name, (pulse, value) in zip("cbad", [*zip((140, 80), values, strict=True)] * 2, strict=True):
        hospital.clock.advance(1)
        named = value | {"id": name}
        assert httpx.put(f"{hospital.url}/Observation/{name}", json=named).status_code == 201
        hospital.work()
        assert score(hospital) == ("3 (low-medium)" if pulse == 140 else "0 (low)")


def patient(hospital: Hospital) -> str:
    (found,) = hospital.all("Patient")
    return str(found["id"])


def inbox_states(hospital: Hospital) -> list[str]:
    from sqlalchemy import select

    from kernel.tables import inbox

    with hospital.application.database.read() as connection:
        return list(connection.execute(select(inbox.c.state).order_by(inbox.c.received_at, inbox.c.id)).scalars())
