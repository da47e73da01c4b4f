"""Results of different patients are sent at the same time, those of one patient one after the other."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from kernel import backlog, destination_states
from kernel.errors import Category, Problem
from service.destinations import read_destinations
from service.destinations.table import MOST_PARALLEL

from .hospital import ADULT, Hospital
from .scripted import TOGETHER_S, Answer, ScriptedEhr, ScriptedEngine, accept
from .test_held_deliveries import deliveries, pass_time

PATIENTS = tuple(replace(ADULT, mrn=f"P{number}") for number in range(9))
AWAY = Answer(status=503, text="")
UNAUTHORIZED = Answer(status=401, text="")
AWAY_PROBLEM = Problem(Category.UNAVAILABLE, "away")


@pytest.fixture
def hospital(open_hospital: Callable[..., Hospital], ehr: ScriptedEhr) -> Hospital:
    return open_hospital(ehr_url=ehr.url, interface_engine=None, pacs=None)


def queue(hospital: Hospital, ehr: ScriptedEhr, *pulses: str) -> None:
    """Have a result of each patient wait for each pulse, because the EHR is away."""
    ehr.answers[""] = AWAY
    for pulse in pulses:
        for patient in PATIENTS:
            assert hospital.hl7(hospital.vitals(patient, pulse=pulse)) == "AA"
        hospital.work()
        hospital.clock.advance(1)
    assert len(deliveries(hospital, "pending")) == len(PATIENTS) * len(pulses)
    ehr.requests.clear()


def test_after_an_outage_one_is_tried_and_then_many_are_sent_at_the_same_time(
    hospital: Hospital, ehr: ScriptedEhr
) -> None:
    """From the second on, the EHR answers only when eight requests wait for it together."""
    queue(hospital, ehr, "131")
    del ehr.answers[""]
    ehr.answers_together(8, after=1)
    pass_time(hospital, 0.1)
    assert len(ehr.accepted) == len(PATIENTS)
    assert deliveries(hospital, "pending") == []


def test_each_patients_results_arrive_in_their_order(hospital: Hospital, ehr: ScriptedEhr) -> None:
    queue(hospital, ehr, "131", "100", "60")
    del ehr.answers[""]
    pass_time(hospital, 0.1)
    for patient in PATIENTS:
        received = [body.partition("urn:ausculta:result|")[2][:64] for body in ehr.of(patient.mrn)]
        assert len(received) == 3
        assert received == [row.id for row in hospital.results() if row.id in received]


def test_many_that_fail_together_are_one_failure_of_the_ehr(hospital: Hospital, ehr: ScriptedEhr) -> None:
    """One result is accepted, then our credentials are refused while eight are on their way: one pause, not eight."""
    queue(hospital, ehr, "131")
    tried_first = PATIENTS[3]  # the three before it have failed, and are held a little longer
    ehr.answers = {f"|{patient.mrn}": UNAUTHORIZED for patient in PATIENTS if patient is not tried_first}
    ehr.answers_together(8, after=1)
    hospital.clock.advance(5)
    hospital.work()
    with hospital.application.database.read() as connection:
        pauses = destination_states.pauses(connection, "ehr")
    assert (len(ehr.requests), len(ehr.accepted), pauses) == (9, 1, 1)


def test_an_engine_may_have_several_connections(open_hospital: Callable[..., Hospital]) -> None:
    engine = ScriptedEngine()
    table = {"name": "wide", "kind": "mllp", "host": "127.0.0.1", "port": engine.port, "parallel": 3}
    try:
        hospital = open_hospital(ehr_url="", interface_engine=None, pacs=None, destination=(table,))
        barrier = threading.Barrier(3)

        def together(raw: bytes) -> bytes | None:
            barrier.wait(TOGETHER_S)
            return accept(raw)

        with hospital.application.database.read() as connection:
            assert backlog.paused_until(connection, "wide") is None
        hospital.application.database.write(
            lambda tx: hospital.application.outbox.pause(tx, "wide", timedelta(seconds=5), AWAY_PROBLEM)
        )
        for patient in PATIENTS[:4]:
            hospital.hl7(hospital.vitals(patient))
        hospital.work()
        engine.replies = {f"|{patient.mrn}^".encode(): together for patient in PATIENTS[1:4]}
        pass_time(hospital, 0.01)
        assert len(engine.arrived) == 4
        assert deliveries(hospital, "pending") == []
    finally:
        engine.close()


@pytest.mark.parametrize("parallel", [0, MOST_PARALLEL + 1, "8", True])
def test_a_senseless_number_is_refused_by_its_name(parallel: object) -> None:
    table = {"name": "wide", "kind": "fhir", "url": "http://localhost/fhir", "parallel": parallel}
    with pytest.raises(Problem, match=f"destination wide: parallel must be a number from 1 to {MOST_PARALLEL}"):
        read_destinations([table])
