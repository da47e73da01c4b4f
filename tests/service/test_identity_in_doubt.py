"""A message or a study that contradicts what is known of its identifier is held until a person decides."""

from dataclasses import replace
from datetime import date
from io import BytesIO
from typing import Any

import httpx
import pytest
from pydicom import dcmread
from structlog.testing import capture_logs

from dicom_node.scu import send as c_store
from dicom_node.synthesise import ChestXRay, chest_x_ray
from fhir_adapter.hl7v2.synthesise import adt_a01, adt_a08
from service.identity_holds import IdentityHold, State

from .hospital import ADULT, Hospital
from .test_commands import Command, ausculta  # noqa: F401 - a fixture
from .test_order import inbox_states

KARL = replace(ADULT, family="Novak", given="Karl", birth_date=date(1932, 11, 30), sex="M")
IMAGE = ChestXRay(
    PatientID="4711",
    IssuerOfPatientID="HOSPITAL",
    PatientName="Invented^Person",
    PatientBirthDate="19500101",
    rows=256,
    columns=256,
)
KARLS_IMAGE = replace(IMAGE, PatientName="Novak^Karl", PatientBirthDate="19321130", PatientSex="M")
CALM = {"respirations": "18", "systolic": "120", "pulse": "70", "spo2": "98", "temperature": "37.0"}
IN_DOUBT = "patient identity in doubt"


def send(hospital: Hospital, message: bytes) -> None:
    assert hospital.hl7(message) == "AA"
    hospital.work()
    hospital.clock.advance(60)


def patient(hospital: Hospital) -> dict[str, Any]:
    (found,) = hospital.all("Patient")
    return found


def holds(hospital: Hospital, state: State | None = "open") -> list[IdentityHold]:
    with hospital.application.database.read() as connection:
        return hospital.application.holds.listing(connection, state)


def decide(hospital: Hospital, decision: str, reason: str = "asked the ward") -> None:
    (hold,) = holds(hospital)
    url = f"{hospital.web.url}/console/identity/{hold.id}/{decision}"
    answer = httpx.post(url, data={"reason": reason}, headers={"Origin": hospital.web.url})
    assert answer.status_code == 303, answer.text
    hospital.work()


def outcomes(hospital: Hospital) -> list[str]:
    """Say what each result is: a score, or why there is none."""
    return [row.reason or row.kind for row in hospital.results()]


def events(hospital: Hospital) -> list[dict[str, Any]]:
    return hospital.all("AuditEvent?_count=200")


def codes_of(hospital: Hospital) -> list[str]:
    return [event["subtype"][0]["code"] for event in events(hospital)]


@pytest.fixture
def admitted(hospital: Hospital) -> Hospital:
    """Ada is admitted, known to the EHR, and scored once."""
    hospital.admit()
    hospital.clock.advance(120)
    send(hospital, hospital.vitals(**CALM))
    assert outcomes(hospital) == ["prediction"]
    return hospital


# HL7: the number of Ada with the name, the birth date and the sex of Karl


def test_the_observations_of_another_person_are_not_used_and_the_reason_is_delivered(admitted: Hospital) -> None:
    known = patient(admitted)
    send(admitted, admitted.vitals(KARL))
    assert patient(admitted) == known
    assert outcomes(admitted)[-1].startswith(IN_DOUBT)
    assert inbox_states(admitted)[-1] == "held"
    assert admitted.engine.received()[-1].first("OBX").get(11) == "X"
    (statement,) = [it for it in admitted.ehr.received("RiskAssessment") if IN_DOUBT in str(it)]
    delivered = str(statement) + str(admitted.engine.received()[-1])
    for word in ("Novak", "Karl", "1932"):
        assert word not in delivered
    assert admitted.parked() == []


def test_the_next_message_of_the_sender_is_not_held_up(admitted: Hospital) -> None:
    assert admitted.hl7(admitted.vitals(KARL)) == "AA"
    assert admitted.hl7(admitted.vitals(**CALM | {"pulse": "131"})) == "AA"
    admitted.work()
    assert inbox_states(admitted)[-2:] == ["held", "done"]
    assert outcomes(admitted)[-1] == "prediction"
    assert all(it["valueQuantity"]["value"] != 25 for it in admitted.all("Observation?code=9279-1"))


def test_many_messages_of_one_wrong_person_are_one_hold(admitted: Hospital) -> None:
    for pulse in ("60", "61", "62"):
        send(admitted, admitted.vitals(KARL, pulse=pulse))
    (hold,) = holds(admitted)
    assert (hold.kind, hold.messages, hold.reasons) == ("message", 3, ("name", "birth-date", "sex"))
    assert len([it for it in outcomes(admitted) if it.startswith(IN_DOUBT)]) == 1


def test_accepted_the_message_is_read_as_the_patients(admitted: Hospital) -> None:
    send(admitted, admitted.vitals(KARL))
    decide(admitted, "accept")
    assert patient(admitted)["name"][0]["family"] == "Novak"
    assert inbox_states(admitted)[-1] == "done"
    assert outcomes(admitted)[-1] == "prediction"
    assert admitted.results()[-1].inputs != admitted.results()[0].inputs
    assert holds(admitted) == []
    send(admitted, admitted.vitals(KARL, **CALM))
    assert inbox_states(admitted)[-1] == "done"


def test_rejected_the_message_is_never_read_and_the_former_score_stands_again(admitted: Hospital) -> None:
    score = admitted.results()[0]
    send(admitted, admitted.vitals(KARL))
    decide(admitted, "reject")
    assert patient(admitted)["name"][0]["family"] == "Invented"
    assert inbox_states(admitted)[-1] == "rejected"
    assert (outcomes(admitted)[-1], admitted.results()[-1].inputs) == ("prediction", score.inputs)
    assert admitted.engine.received()[-1].first("OBX").get(11) == "P"
    said = [IN_DOUBT in str(it) for it in admitted.ehr.received("RiskAssessment")]
    assert sorted(said) == [False, False, True]
    send(admitted, admitted.vitals(KARL, pulse="60"))
    assert (inbox_states(admitted)[-1], holds(admitted)) == ("rejected", [])
    assert outcomes(admitted)[-1] == "prediction"


@pytest.mark.parametrize(
    "stated",
    [
        replace(ADULT, family="Inventted"),
        replace(ADULT, family="Novak"),
        replace(ADULT, birth_date=date(1971, 11, 30)),
        replace(ADULT, sex="M"),
        replace(ADULT, family="", given=""),
    ],
    ids=["misspelt", "married", "another birth date", "another sex", "no name"],
)
def test_one_attribute_that_differs_is_no_doubt(admitted: Hospital, stated: Any) -> None:
    send(admitted, admitted.vitals(stated))
    assert inbox_states(admitted)[-1] == "done"
    assert outcomes(admitted)[-1] == "prediction"


def test_a_missing_birth_date_is_no_doubt(admitted: Hospital) -> None:
    send(admitted, admitted.vitals(replace(ADULT, family="Novak")).replace(b"|19500101|", b"||"))
    assert inbox_states(admitted)[-1] == "done"


def test_the_source_of_patients_may_correct_a_name_and_not_the_whole_person(admitted: Hospital) -> None:
    renamed = replace(ADULT, family="Novak", given="Eva")
    send(admitted, adt_a08(renamed, "A-1", admitted.clock.now()))
    assert patient(admitted)["name"][0]["family"] == "Novak"
    admitted.clock.advance(60)
    send(admitted, adt_a08(replace(KARL, family="Other", given="Man"), "A-2", admitted.clock.now()))
    assert patient(admitted)["name"][0]["family"] == "Novak"
    assert inbox_states(admitted)[-2:] == ["done", "held"]


# DICOM: the PatientID and issuer of Ada with the header of Karl


def test_a_header_that_contradicts_the_chart_is_not_scored(hospital: Hospital) -> None:
    hospital.admit()
    hospital.dicom(KARLS_IMAGE)
    hospital.rest()
    (outcome,) = outcomes(hospital)
    assert outcome.startswith(IN_DOUBT)
    assert patient(hospital)["name"][0]["family"] == "Invented"
    assert hospital.engine.received()[-1].first("OBX").get(11) == "X"
    assert hospital.pacs.arrivals
    delivered = str(hospital.ehr.received("DiagnosticReport")) + str(hospital.engine.received()[-1])
    assert "Novak" not in delivered
    (hold,) = holds(hospital)
    assert (hold.kind, hold.reasons) == ("study", ("name", "birth-date", "sex"))


def test_a_patient_who_is_admitted_while_the_model_runs_is_compared_too(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = hospital.application.runtime
    predict = runtime.predict

    def admit_meanwhile(*given: Any, **more: Any) -> Any:
        monkeypatch.undo()
        answer = predict(*given, **more)
        assert hospital.hl7(adt_a01(ADULT, "A-1", hospital.clock.now())) == "AA"
        hospital.work()
        return answer

    monkeypatch.setattr(runtime, "predict", admit_meanwhile)
    hospital.dicom(KARLS_IMAGE)
    hospital.rest()
    hospital.clock.advance(60)
    hospital.work()
    (outcome,) = outcomes(hospital)
    assert outcome.startswith(IN_DOUBT)


def test_a_study_is_read_once_a_person_accepts_it(hospital: Hospital) -> None:
    hospital.admit(replace(ADULT, birth_date=date(2022, 2, 28)))  # the age that the model is for
    hospital.dicom(KARLS_IMAGE)
    hospital.rest()
    decide(hospital, "accept")
    assert outcomes(hospital)[-1] == "prediction"
    assert patient(hospital)["name"][0]["family"] == "Invented"
    hospital.dicom(replace(KARLS_IMAGE, view="LL", instance=2))
    hospital.rest()
    assert (outcomes(hospital)[-1], holds(hospital)) == ("prediction", [])


def test_a_rejected_study_says_so_and_stays_without_a_score(hospital: Hospital) -> None:
    hospital.admit()
    hospital.dicom(KARLS_IMAGE)
    hospital.rest()
    decide(hospital, "reject")
    assert "a person has decided" in outcomes(hospital)[-1]
    hospital.dicom(replace(KARLS_IMAGE, view="LL", instance=2))
    hospital.rest()
    assert "a person has decided" in outcomes(hospital)[-1]


def test_a_rejected_study_stays_so_when_the_chart_changes(hospital: Hospital) -> None:
    hospital.admit()
    hospital.dicom(KARLS_IMAGE)
    hospital.rest()
    decide(hospital, "reject")
    hospital.clock.advance(60)
    send(hospital, adt_a08(KARL, "A-1", hospital.clock.now()))
    decide(hospital, "accept")
    assert patient(hospital)["name"][0]["family"] == "Novak"
    assert "a person has decided" in outcomes(hospital)[-1]


def test_what_was_rejected_by_mistake_can_be_accepted(admitted: Hospital) -> None:
    send(admitted, admitted.vitals(KARL))
    (hold,) = holds(admitted)
    decide(admitted, "reject")
    send(admitted, admitted.vitals(KARL, pulse="60"))
    page = httpx.get(f"{admitted.web.url}/console/identity/{hold.id}").text
    assert ("Accept as" in page, "Reject:" in page) == (True, False)
    url = f"{admitted.web.url}/console/identity/{hold.id}/accept"
    answer = httpx.post(url, data={"reason": "it was hers"}, headers={"Origin": admitted.web.url})
    assert answer.status_code == 303
    admitted.work()
    assert inbox_states(admitted)[-2:] == ["done", "done"]
    assert outcomes(admitted)[-1] == "prediction"
    assert patient(admitted)["name"][0]["family"] == "Novak"


@pytest.mark.parametrize("views", [("PA", "LL"), ("LL", "PA")], ids=["the patient's", "the other person's"])
def test_two_patients_in_one_study_are_held_and_the_reason_names_one_of_them(
    hospital: Hospital, views: tuple[str, str]
) -> None:
    """The first instance by SOPInstanceUID decides about whom the result is; the model would read the frontal one."""
    hospital.admit()
    other = of_patient(replace(IMAGE, instance=2, view=views[1]), "9999", "Novak^Karl")
    c_store([chest_x_ray(replace(IMAGE, view=views[0])), other], hospital.peer)
    hospital.rest()
    assert "more than one patient" in outcomes(hospital)[-1]
    (hold,) = holds(hospital)
    assert "several-patients" in hold.reasons
    (subject,) = hospital.get(hospital.results()[-1].subject)["identifier"]
    assert {str(hospital.pacs.dataset(uid).PatientID) for uid in hospital.pacs.arrivals} == {subject["value"]}


def test_two_names_under_one_number_in_one_study_are_held(hospital: Hospital) -> None:
    first = chest_x_ray(IMAGE)
    second = dcmread(BytesIO(chest_x_ray(replace(IMAGE, instance=2))))
    second.PatientName, second.PatientBirthDate, second.PatientSex = "Novak^Karl", "19321130", "M"
    file = BytesIO()
    second.save_as(file)
    c_store([first, file.getvalue()], hospital.peer)
    hospital.rest()
    assert outcomes(hospital)[-1].startswith(IN_DOUBT)
    assert len(holds(hospital)) == 1


def of_patient(image: ChestXRay, number: str, name: str) -> bytes:
    dataset = dcmread(BytesIO(chest_x_ray(image)))
    dataset.PatientID, dataset.PatientName = number, name
    file = BytesIO()
    dataset.save_as(file)
    return file.getvalue()


# Who sees it, and who decided


def test_health_warns_and_metrics_count_what_is_held(admitted: Hospital) -> None:
    send(admitted, admitted.vitals(KARL))
    ready = httpx.get(f"{admitted.web.url}/health/ready").json()
    assert (ready["status"], ready["identity_in_doubt"]) == ("warn", 1)
    metrics = httpx.get(f"{admitted.web.url}/metrics").text.splitlines()
    assert "ausculta_identity_in_doubt 1" in metrics
    assert "ausculta_messages_held 1" in metrics
    decide(admitted, "reject")
    assert httpx.get(f"{admitted.web.url}/health/ready").json()["status"] == "pass"
    assert "ausculta_messages_rejected 1" in httpx.get(f"{admitted.web.url}/metrics").text.splitlines()


def test_the_page_shows_both_persons_to_those_who_open_it_and_the_access_is_recorded(admitted: Hospital) -> None:
    send(admitted, admitted.vitals(KARL))
    (hold,) = holds(admitted)
    listed = httpx.get(f"{admitted.web.url}/console/identity").text
    assert (hold.id in listed, "Novak" in listed) == (True, False)
    page = httpx.get(f"{admitted.web.url}/console/identity/{hold.id}").text
    assert all(word in page for word in ("Novak", "1932-11-30", "Invented", "1950-01-01"))
    reads = [it for it in events(admitted) if it["action"] == "R" and hold.id in str(it.get("entity"))]
    assert len(reads) == 1


@pytest.mark.parametrize("decision", ["accept", "reject"])
def test_the_audit_says_who_decided_what_and_why(admitted: Hospital, decision: str) -> None:
    send(admitted, admitted.vitals(KARL))
    (hold,) = holds(admitted)
    decide(admitted, decision)
    (event,) = [it for it in events(admitted) if it["subtype"][0]["code"] == f"identity-{decision}ed"]
    assert hold.id in str(event["entity"])
    assert "asked the ward" in str(event)
    (decided,) = holds(admitted, f"{decision}ed")
    assert decided.decided_by


def test_the_command_lists_shows_and_decides(
    admitted: Hospital,
    ausculta: Command,  # noqa: F811
) -> None:
    send(admitted, admitted.vitals(KARL))
    (hold,) = holds(admitted)
    listed = ausculta("identity", "list").stdout
    assert (hold.id in listed, "Novak" in listed) == (True, False)
    assert "Novak" in ausculta("identity", "show", hold.id).stdout
    assert ausculta("identity", "reject", hold.id).returncode == 2
    assert ausculta("identity", "reject", hold.id, "--reason", "wrong wristband").returncode == 0
    admitted.work()
    assert inbox_states(admitted)[-1] == "rejected"
    again = ausculta("identity", "reject", hold.id, "--reason", "once more")
    assert (again.returncode, "decided already" in again.stderr) == (2, True)
    assert ausculta("identity", "accept", hold.id, "--reason", "it was hers").returncode == 0
    assert inbox_states(admitted)[-1] == "received"  # and its conversion waits


def test_a_decision_needs_a_reason_and_is_taken_once(admitted: Hospital) -> None:
    send(admitted, admitted.vitals(KARL))
    (hold,) = holds(admitted)

    def post(decision: str, **form: str) -> int:
        url = f"{admitted.web.url}/console/identity/{hold.id}/{decision}"
        return httpx.post(url, data=form, headers={"Origin": admitted.web.url}).status_code

    assert post("accept") == 400
    assert post("accept", reason="asked the ward") == 303
    assert post("reject", reason="asked again") == 409


def test_nothing_that_is_held_is_in_the_log(admitted: Hospital) -> None:
    with capture_logs() as lines:
        send(admitted, admitted.vitals(KARL))
    assert "hl7_patient_identity_in_doubt" in {line["event"] for line in lines}
    assert "Novak" not in str(lines)


def test_what_was_stated_is_sealed_in_the_database(admitted: Hospital) -> None:
    send(admitted, admitted.vitals(KARL))
    folder = admitted.application.settings.data_dir
    assert all(b"Novak" not in file.read_bytes() for file in folder.glob("*.db*") if file.is_file())


@pytest.mark.parametrize("instance", [0, 2], ids=["named first", "named last"])
def test_a_film_of_another_patient_in_a_scored_study_takes_the_score_back_and_says_why(
    hospital: Hospital, instance: int
) -> None:
    hospital.dicom(replace(IMAGE, PatientBirthDate="20220228"))
    hospital.rest()
    assert outcomes(hospital) == ["prediction"]
    film = replace(IMAGE, PatientBirthDate="20220228", instance=instance, view="AP")
    other = of_patient(film, "9999", "Novak^Karl")
    c_store([other], hospital.peer)
    hospital.rest()
    newest = {row.subject: row.reason or row.kind for row in hospital.results()}
    assert all(IN_DOUBT in said for said in newest.values()), newest


def test_the_score_after_a_rejection_is_as_new_as_the_doubt_and_says_how_old_its_values_are(
    admitted: Hospital,
) -> None:
    """A receiver that sorts by OBR-7 must not keep the doubt as the newest result."""
    admitted.clock.advance(1200)
    send(admitted, admitted.vitals(KARL))
    doubt = admitted.engine.received()[-1].first("OBR").get(7)
    admitted.clock.advance(1200)
    decide(admitted, "reject")
    score = admitted.engine.received()[-1]
    assert score.first("OBR").get(7) == doubt
    (statement, *_) = admitted.ehr.received("Observation")
    assert statement["effectiveDateTime"][:16].replace("-", "").replace("T", "").replace(":", "") == doubt[:12]
    said = "\n".join(note.get(3) for note in score.all("NTE"))
    assert "Oldest value: respiratory rate, 43 min old." in said
