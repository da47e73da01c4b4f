"""A peer that refuses the results of many patients in the same words is at fault itself: it is held, and not they."""

from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest

from service.settings import HostPort

from .hospital import ADULT, Hospital
from .scripted import Answer, Reply, ScriptedEhr, ScriptedEngine, reject
from .test_held_deliveries import OUTCOME, deliveries, pass_time, score
from .test_undelivered import page, post, ready

WARD = tuple(replace(ADULT, mrn=f"WARD{number}") for number in range(8))
REFUSED = Answer(status=422, text=OUTCOME)


def refuse(raw: bytes) -> bytes | None:
    """AE: the engine does not know our message type."""
    answer = reject(raw)
    return None if answer is None else answer.replace(b"MSA|AR|", b"MSA|AE|")


@pytest.fixture
def hospital(open_hospital: Callable[..., Hospital], ehr: ScriptedEhr) -> Hospital:
    return open_hospital(ehr_url=ehr.url, interface_engine=None, pacs=None)


def test_a_peer_that_refuses_everybody_is_held_and_nothing_is_parked(hospital: Hospital, ehr: ScriptedEhr) -> None:
    ehr.answers[""] = REFUSED
    score(hospital, *WARD)
    assert hospital.parked() == []
    state = ready(hospital)
    assert state["status"] == "warn"
    said = "the FHIR server answered 422, for 5 patients in a row"
    assert state["deliveries"]["ehr"]["output"] == said
    queue = page(hospital, "queue")
    assert ("ehr is paused" in queue, said in queue) == (True, True)
    assert 'ausculta_destination_paused{destination="ehr"} 1' in httpx.get(f"{hospital.web.url}/metrics").text


def test_a_held_peer_is_probed_by_one_result_at_a_time_and_gets_everything_in_the_end(
    hospital: Hospital, ehr: ScriptedEhr
) -> None:
    ehr.answers[""] = REFUSED
    score(hospital, *WARD)
    ehr.requests.clear()
    pass_time(hospital, 1)
    assert 100 < len(ehr.requests) < 130  # one each half minute
    assert hospital.parked() == []
    ehr.answers.clear()
    pass_time(hospital, 0.5)
    assert {patient.mrn: len(ehr.of(patient.mrn)) for patient in WARD} == dict.fromkeys((p.mrn for p in WARD), 1)
    assert ready(hospital)["status"] == "pass"


def test_fewer_are_parked_one_by_one(hospital: Hospital, ehr: ScriptedEhr) -> None:
    ehr.answers[""] = REFUSED
    score(hospital, *WARD[:4])
    assert len(hospital.parked()) == 4


def test_the_results_of_one_patient_are_no_reason_to_hold_the_peer(hospital: Hospital, ehr: ScriptedEhr) -> None:
    ehr.answers[""] = REFUSED
    for pulse in range(100, 109):
        score(hospital, WARD[0], pulse=str(pulse))
        hospital.clock.advance(60)
    assert hospital.parked() != []
    assert "paused_until" not in ready(hospital)["deliveries"]["ehr"]


def test_patients_who_are_refused_among_others_park_only_themselves(hospital: Hospital, ehr: ScriptedEhr) -> None:
    for patient in WARD[::2]:
        ehr.answers[f"|{patient.mrn}"] = REFUSED
    ehr.answers["|none"] = REFUSED
    score(hospital, *WARD, *(replace(ADULT, mrn=f"OTHER{number}") for number in range(3)))
    assert len(hospital.parked()) == 4
    assert len(ehr.accepted) == 7


def test_what_is_refused_again_after_the_peer_has_recovered_is_parked(hospital: Hospital, ehr: ScriptedEhr) -> None:
    ehr.answers[""] = REFUSED
    score(hospital, *WARD)
    del ehr.answers[""]
    ehr.answers[f"|{WARD[0].mrn}"] = REFUSED
    pass_time(hospital, 0.5)
    assert hospital.parked() == ["the FHIR server answered 422"]
    assert len(ehr.accepted) == len(WARD) - 1


def test_the_number_is_a_setting(open_hospital: Callable[..., Hospital], ehr: ScriptedEhr) -> None:
    hospital = open_hospital(ehr_url=ehr.url, interface_engine=None, pacs=None, refusals_in_a_row=0)
    ehr.answers[""] = REFUSED
    score(hospital, *WARD)
    assert len(hospital.parked()) == len(WARD)


def test_a_person_who_replays_ends_the_pause(hospital: Hospital, ehr: ScriptedEhr) -> None:
    ehr.answers[""] = REFUSED
    score(hospital, *WARD)
    ehr.answers.clear()
    assert post(hospital, f"deliveries/{deliveries(hospital, 'pending')[0].id}/replay") == 303
    hospital.work()
    assert len(ehr.accepted) >= 1
    assert "paused_until" not in ready(hospital)["deliveries"].get("ehr", {})


@pytest.mark.parametrize("reply", [refuse, reject], ids=["AE", "AR"])
def test_an_engine_that_refuses_everybody_is_held(open_hospital: Callable[..., Hospital], reply: Reply) -> None:
    engine = ScriptedEngine()
    try:
        address = HostPort(host="127.0.0.1", port=engine.port)
        hospital = open_hospital(ehr_url="", interface_engine=address, pacs=None)
        engine.replies[b""] = reply
        score(hospital, *WARD)
        pass_time(hospital, 3)
        assert hospital.parked() == []
        assert ready(hospital)["deliveries"]["engine"]["paused_until"]
        engine.replies.clear()
        pass_time(hospital, 1)
        assert len(engine.accepted) == len(WARD)
    finally:
        engine.close()
