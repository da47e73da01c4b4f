"""Delivery: at least once, in order, never lost; a refused delivery is visible to a person."""

import threading
from collections.abc import Callable

import pytest

from dicom_node.testing import StandInPacs
from kernel.errors import Category, Problem
from kernel.outbox import Delivery
from service.delivery import AT_A_TIME
from service.settings import DicomPeer, HostPort

from .hospital import ADULT, AUTHORITY, Hospital
from .test_dicom_path import CHEST
from .test_held_deliveries import pass_time


def test_an_unreachable_ehr_delays_only_its_own_results_and_gets_them_in_order(hospital: Hospital) -> None:
    hospital.admit()
    destination = hospital.application.destinations["ehr"]
    away = Problem(Category.UNAVAILABLE, "the FHIR server cannot be reached")
    sent: list[bytes] = []
    whole = destination.send

    def send(payload: bytes, key: str) -> str:
        if away is not None:
            raise away
        sent.append(payload)
        return whole(payload, key)

    destination.send = send  # type: ignore[method-assign]
    for pulse in ("100", "101", "102"):
        hospital.clock.advance(60)  # vitals of one instant are ordered by random ids, and may repeat a result
        hospital.hl7(hospital.vitals(pulse=pulse))
        hospital.work()
    assert hospital.engine.deliveries == 3
    assert hospital.ehr.received("RiskAssessment") == []
    away = None
    hospital.clock.advance(60)
    hospital.work()
    assert len(hospital.ehr.received("RiskAssessment")) == 3
    assert [result.id.encode() in payload for result, payload in zip(hospital.results(), sent, strict=True)] == [
        True
    ] * 3


def test_a_delivery_that_the_ehr_refuses_until_the_last_try_is_parked_and_can_be_replayed(hospital: Hospital) -> None:
    """The EHR does not know the patient: it answers 412, and the patient is not registered in time."""
    hospital.hl7(hospital.vitals())
    pass_time(hospital, 6)
    (reason,) = hospital.parked()
    assert "412" in reason
    hospital.ehr.put({"resourceType": "Patient", "id": "e1", "identifier": [{"system": AUTHORITY, "value": ADULT.mrn}]})
    with hospital.application.database.read() as connection:
        (delivery,) = hospital.application.outbox.parked(connection)
    hospital.application.database.write(lambda tx: hospital.application.outbox.replay(tx, delivery.id))
    hospital.work()
    assert len(hospital.ehr.received("RiskAssessment")) == 1
    assert hospital.parked() == []


def test_a_pacs_out_of_resources_is_tried_again(hospital: Hospital) -> None:
    hospital.pacs.refuse_with = Problem(Category.UNAVAILABLE, "full")
    hospital.dicom(CHEST)
    hospital.rest()
    assert hospital.pacs.arrivals == {}
    hospital.pacs.refuse_with = None
    hospital.clock.advance(60)
    hospital.work()
    assert set(hospital.pacs.arrivals.values()) == {1}
    assert len(hospital.pacs.arrivals) == 2


def test_a_delivery_without_a_receipt_is_sent_again_and_makes_no_duplicate(hospital: Hospital) -> None:
    hospital.admit()
    destination = hospital.application.destinations["ehr"]
    whole, lost = destination.send, threading.Event()

    def send(payload: bytes, key: str) -> str:
        receipt = whole(payload, key)
        if not lost.is_set():
            lost.set()
            raise Problem(Category.UNAVAILABLE, "the answer did not arrive")
        return receipt

    destination.send = send  # type: ignore[method-assign]
    hospital.hl7(hospital.vitals())
    hospital.work()
    hospital.clock.advance(60)
    hospital.work()
    assert hospital.ehr.requests == 2
    assert len(hospital.ehr.received("RiskAssessment")) == 1
    assert len(hospital.ehr.received("Provenance")) == 1


def test_a_hospital_without_destinations_keeps_its_results(open_hospital: Callable[..., Hospital]) -> None:
    hospital = open_hospital(ehr_url="", interface_engine=None, pacs=None)
    hospital.hl7(hospital.vitals())
    hospital.work()
    assert len(hospital.results()) == 1
    assert hospital.parked() == []


@pytest.mark.parametrize("closed", ["ehr", "engine", "pacs"])
def test_a_closed_port_is_unavailable_and_not_a_refusal(
    closed: str, open_hospital: Callable[..., Hospital], unused_port: int
) -> None:
    settings = {
        "ehr": {"ehr_url": f"http://127.0.0.1:{unused_port}/fhir"},
        "engine": {"interface_engine": HostPort(host="127.0.0.1", port=unused_port)},
        "pacs": {"pacs": DicomPeer(ae_title="PACS", host="127.0.0.1", port=unused_port)},
    }[closed]
    hospital = open_hospital(**settings)
    hospital.admit()
    hospital.dicom(CHEST)
    hospital.rest()
    assert hospital.parked() == []
    with hospital.application.database.read() as connection:
        waiting = hospital.application.outbox.pending(connection, closed)
        (job,) = hospital.application.jobs.listing(connection, "waiting")
    assert waiting
    assert waiting[0].attempts >= 1
    assert job.payload == {"destination": closed}


@pytest.fixture
def unused_port() -> int:
    pacs = StandInPacs().start()
    port = pacs.peer.port
    pacs.close()
    return port


def test_a_backlog_is_sent_in_order_by_short_jobs(hospital: Hospital) -> None:
    """A server that stops waits for its running jobs: none of them may cover all pending deliveries."""
    outbox, database = hospital.application.outbox, hospital.application.database
    sent: list[bytes] = []
    hospital.application.destinations["engine"].send = lambda payload, key: sent.append(payload) or "AA"  # type: ignore[method-assign, func-returns-value]
    payloads = [str(number).encode() for number in range(3 * AT_A_TIME + 1)]
    for payload in payloads:
        delivery = Delivery(
            destination="engine", idempotency_key=payload.decode(), subject="r", patient=None, payload=payload
        )
        database.write(lambda tx, delivery=delivery: outbox.add(tx, delivery))
    jobs = 0
    while hospital.application.worker.run_one():
        jobs += 1
    assert sent == payloads
    assert jobs == 4
