"""A delivery that fails holds its own patient, and what concerns the whole destination holds the destination."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime

import pytest

from dicom_node.testing import StandInPacs
from fhir_adapter.hl7v2.client import MllpClient, Timeouts
from kernel import backlog
from kernel.backlog import DeliveryFilter, QueuedDelivery
from kernel.errors import Category, Problem
from service.destinations.mllp import MllpDestination
from service.settings import HostPort

from .hospital import ADULT, Hospital
from .scripted import Answer, Reply, ScriptedEhr, ScriptedEngine, garble, reject, replace_client, stay_silent
from .test_dicom_path import CHEST

ADA = replace(ADULT, mrn="ADA")
BOB = replace(ADULT, mrn="BOB")
CARL = replace(ADULT, mrn="CARL")
DORA = replace(ADULT, mrn="DORA")
EVE = replace(ADULT, mrn="EVE")
EVERYBODY = (ADA, BOB, CARL, DORA, EVE)

OUTCOME = '{"resourceType": "OperationOutcome", "issue": [{"diagnostics": "no chart of Mrs PHI"}]}'


@pytest.fixture
def with_ehr(open_hospital: Callable[..., Hospital], ehr: ScriptedEhr) -> Hospital:
    return open_hospital(ehr_url=ehr.url, interface_engine=None, pacs=None)


@pytest.fixture
def with_engine(open_hospital: Callable[..., Hospital], engine: ScriptedEngine) -> Hospital:
    hospital = open_hospital(ehr_url="", interface_engine=HostPort(host="127.0.0.1", port=engine.port), pacs=None)
    destination = hospital.application.destinations["engine"]
    assert isinstance(destination, MllpDestination)
    replace_client(destination, MllpClient("127.0.0.1", engine.port, Timeouts(answer_s=0.5)))
    return hospital


def score(hospital: Hospital, *patients: object, pulse: str = "131") -> None:
    """Send vitals of each patient, one after the other, and do what follows."""
    for patient in patients:
        assert hospital.hl7(hospital.vitals(patient, pulse=pulse)) == "AA"  # type: ignore[arg-type]
        hospital.work()
        hospital.clock.advance(1)
    hospital.work()


def deliveries(hospital: Hospital, status: str) -> list[QueuedDelivery]:
    with hospital.application.database.read() as connection:
        return backlog.listing(connection, DeliveryFilter(status=status))


def pass_time(hospital: Hospital, hours: float) -> None:
    """Let time go by, and do each job when it becomes due."""
    end = hospital.clock.now() + timedelta(hours=hours)
    while True:
        with hospital.application.database.read() as connection:
            due = hospital.application.jobs.next_due(connection)
        stop = end if due is None else min(due, end)
        hospital.clock.advance((stop - hospital.clock.now()).total_seconds())
        hospital.work()
        if stop == end:
            return


def test_a_500_for_one_patient_holds_that_patient_alone_and_is_parked_in_the_end(
    with_ehr: Hospital, ehr: ScriptedEhr
) -> None:
    ehr.answers["|ADA"] = Answer(status=500, text=OUTCOME)
    score(with_ehr, ADA, BOB)
    score(with_ehr, ADA, BOB, pulse="100")
    assert (len(ehr.of("ADA")), len(ehr.of("BOB"))) == (0, 2)
    assert with_ehr.parked() == []
    pass_time(with_ehr, 1)
    tries = ehr.asked("ADA")
    assert 10 < tries < 25
    assert [len(deliveries(with_ehr, status)) for status in ("pending", "superseded")] == [1, 1]
    pass_time(with_ehr, 3)
    assert with_ehr.parked() == ["the FHIR server answered 500"]


def test_the_newest_result_of_a_patient_does_not_wait_behind_one_that_is_refused(
    with_engine: Hospital, engine: ScriptedEngine
) -> None:
    """The engine refuses one message again and again; meanwhile the patient gets worse."""
    engine.replies[b"|ADA^"] = reject
    score(with_engine, ADA, pulse="100")
    refused = engine.arrived[-1].split(b"|")[9]
    engine.replies = {refused: reject}
    score(with_engine, ADA)
    pass_time(with_engine, 0.02)
    assert len(engine.about("ADA")) == 1
    assert refused not in engine.about("ADA")[0]
    assert [len(deliveries(with_engine, status)) for status in ("pending", "superseded")] == [0, 1]


def test_what_was_held_behind_a_parked_delivery_is_sent_in_order(with_ehr: Hospital, ehr: ScriptedEhr) -> None:
    ehr.answers["|ADA"] = Answer(status=422, text=OUTCOME)
    score(with_ehr, ADA)
    assert with_ehr.parked() == ["the FHIR server answered 422"]
    ehr.answers.clear()
    score(with_ehr, ADA, ADA)
    newer = [result.id for result in with_ehr.results()[1:]]
    assert [identifier in body for identifier, body in zip(newer, ehr.of("ADA"), strict=True)] == [True, True]


@pytest.mark.parametrize("reply", [reject, garble, stay_silent])
def test_an_engine_that_does_not_take_one_patients_message_gets_everybody_elses(
    with_engine: Hospital, engine: ScriptedEngine, reply: Reply
) -> None:
    engine.replies[b"|ADA^"] = reply
    score(with_engine, ADA, BOB, CARL)
    assert (len(engine.about("ADA")), len(engine.about("BOB")), len(engine.about("CARL"))) == (0, 1, 1)
    (held,) = deliveries(with_engine, "pending")
    assert held.next_at is not None
    engine.replies.clear()
    with_engine.clock.advance(60)
    with_engine.work()
    assert len(engine.about("ADA")) == 1


def test_an_ar_is_parked_after_its_last_try(with_engine: Hospital, engine: ScriptedEngine) -> None:
    engine.replies[b"|ADA^"] = reject
    score(with_engine, ADA)
    pass_time(with_engine, 3)
    assert with_engine.parked() == ["the HL7 receiver rejected the message for now (AR)"]
    score(with_engine, BOB)
    assert len(engine.about("BOB")) == 1


def test_a_pacs_that_refuses_one_patients_objects_keeps_the_others(
    open_hospital: Callable[..., Hospital],
) -> None:
    hospital = open_hospital(ehr_url="", interface_engine=None)
    pacs: StandInPacs = hospital.pacs
    pacs.refuse_when = lambda instance: (
        Problem(Category.UNAVAILABLE, "full") if b"PID-ADA" in bytes(instance.encoded) else None
    )
    for number, name in enumerate(("PID-ADA", "PID-BOB"), start=2):
        hospital.dicom(replace(CHEST, PatientID=name, seed=number))
    hospital.rest()
    assert len(pacs.arrivals) == 2
    assert {str(pacs.dataset(uid).PatientID) for uid in pacs.arrivals} == {"PID-BOB"}
    assert len(deliveries(hospital, "pending")) == 2
    pacs.refuse_when = None
    pass_time(hospital, 0.1)
    assert len(pacs.arrivals) == 4


@pytest.mark.parametrize("status", [403, 404, 409, 412])
def test_what_a_person_can_correct_is_tried_on_a_schedule_and_then_parked(
    with_ehr: Hospital, ehr: ScriptedEhr, status: int
) -> None:
    ehr.answers["|ADA"] = Answer(status=status, text=OUTCOME)
    score(with_ehr, ADA, BOB)
    assert (with_ehr.parked(), len(ehr.of("BOB"))) == ([], 1)
    pass_time(with_ehr, 2)
    assert with_ehr.parked() == []
    assert 5 < ehr.asked("ADA") < 20
    pass_time(with_ehr, 4)
    assert with_ehr.parked() == [f"the FHIR server answered {status}"]


def test_a_patient_whom_the_ehr_learns_of_later_gets_the_result(hospital: Hospital) -> None:
    """The EHR answers 412 to the conditional reference until the patient is registered there."""
    hospital.hl7(hospital.vitals())
    hospital.work()
    assert hospital.parked() == []
    assert hospital.ehr.received("RiskAssessment") == []
    hospital.admit()
    pass_time(hospital, 1)
    assert len(hospital.ehr.received("RiskAssessment")) == 1
    assert hospital.parked() == []


@pytest.mark.parametrize(("status", "most"), [(401, 1), (403, 3)])
def test_wrong_credentials_pause_the_destination_and_park_nothing(
    with_ehr: Hospital, ehr: ScriptedEhr, status: int, most: int
) -> None:
    ehr.answers[""] = Answer(status=429, headers={"Retry-After": "60"})
    score(with_ehr, *EVERYBODY)
    ehr.answers[""] = Answer(status=status)
    ehr.requests.clear()
    with_ehr.clock.advance(60)
    with_ehr.work()
    assert 1 <= len(ehr.requests) <= most
    pass_time(with_ehr, 0.2)
    held = deliveries(with_ehr, "pending")
    assert len(held) == len(EVERYBODY)
    assert max(delivery.refusals for delivery in held) <= 1
    ehr.answers.clear()
    pass_time(with_ehr, 0.5)
    assert len(ehr.accepted) == len(EVERYBODY)


def test_an_ehr_that_fails_for_everybody_uses_up_no_tries_and_gets_everything(
    with_ehr: Hospital, ehr: ScriptedEhr
) -> None:
    ehr.answers[""] = Answer(status=500)
    score(with_ehr, *EVERYBODY)
    pass_time(with_ehr, 0.2)
    assert max(delivery.refusals for delivery in deliveries(with_ehr, "pending")) <= 2
    ehr.answers.clear()
    pass_time(with_ehr, 0.5)
    assert len(ehr.accepted) == len(EVERYBODY)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "HTTP-date"])
def test_retry_after_is_obeyed(with_ehr: Hospital, ehr: ScriptedEhr, status: int, form: str) -> None:
    until = with_ehr.clock.now() + timedelta(seconds=90)
    value = "90" if form == "seconds" else format_datetime(until, usegmt=True)
    ehr.answers[""] = Answer(status=status, headers={"Retry-After": value})
    score(with_ehr, ADA, BOB)
    with_ehr.clock.advance(80)
    with_ehr.work()
    assert len(ehr.requests) == 1
    ehr.answers.clear()
    with_ehr.clock.advance(10)
    with_ehr.work()
    assert (len(ehr.of("ADA")), len(ehr.of("BOB"))) == (1, 1)


@pytest.mark.parametrize("value", ["soon", "-5", "99999999999999999999", "Thu, 99 Foo 2026 00:00:00 GMT", "0"])
def test_a_senseless_retry_after_neither_stops_nor_floods_the_peer(
    with_ehr: Hospital, ehr: ScriptedEhr, value: str
) -> None:
    ehr.answers[""] = Answer(status=503, headers={"Retry-After": value})
    score(with_ehr, ADA)
    assert len(ehr.requests) <= 3
    ehr.answers.clear()
    pass_time(with_ehr, 25)
    assert len(ehr.of("ADA")) == 1


def test_a_superseded_result_is_not_sent_after_its_successor(with_ehr: Hospital, ehr: ScriptedEhr) -> None:
    ehr.answers["|ADA"] = Answer(status=422, text=OUTCOME)
    score(with_ehr, ADA)
    ehr.answers.clear()
    score(with_ehr, ADA, pulse="100")
    (parked,) = deliveries(with_ehr, "parked")
    application = with_ehr.application
    assert application.database.write(lambda tx: application.outbox.replay(tx, parked.id))
    with_ehr.work()
    (sent,) = ehr.of("ADA")
    assert with_ehr.results()[-1].id in sent
    assert [one.id for one in deliveries(with_ehr, "superseded")] == [parked.id]


def test_a_payload_that_cannot_be_read_holds_its_own_patient_alone(with_ehr: Hospital, ehr: ScriptedEhr) -> None:
    ehr.answers[""] = Answer(status=429, headers={"Retry-After": "60"})
    score(with_ehr, ADA, BOB)
    application = with_ehr.application
    whole = application.outbox.payload
    poison = deliveries(with_ehr, "pending")[0].id

    def payload(connection: object, identifier: str) -> bytes:
        if identifier == poison:
            raise Problem(Category.FAULT, "a stored file is damaged")
        return whole(connection, identifier)  # type: ignore[arg-type]

    application.outbox.payload = payload  # type: ignore[method-assign]
    ehr.answers.clear()
    pass_time(with_ehr, 1)
    assert (len(ehr.of("ADA")), len(ehr.of("BOB"))) == (0, 1)
    assert with_ehr.parked() == ["a stored file is damaged"]
