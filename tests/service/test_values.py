"""Which value counts: clocks that differ, values that cannot be used, and a reason wherever there is no result.

Each story enters by a socket; what counts is what the EHR has received.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx
import pytest

from fhir_adapter.hl7v2 import writer

from .hospital import Hospital
from .scripted import Answer, ScriptedEhr

PULSE = "8867-4"


def newest(hospital: Hospital) -> str:
    """Return the newest result in one line."""
    return str(hospital.results()[-1].summary)


def pulse(hospital: Hospital, value: str, *, ahead: timedelta = timedelta(0), **fields: str) -> bytes:
    """Write an ORU^R01 with one pulse, measured ``ahead`` of now; a field such as ``obx11`` replaces what it has."""
    stamp = writer.stamp(hospital.clock.now() + ahead)
    hospital.sent += 1
    obx = {"obx2": "NM", "obx5": value, "obx11": "F", "obx14": stamp, "msh7": stamp} | fields
    lines = [
        f"MSH|^~\\&|WARDSYS|GENERAL|AUSCULTA|GENERAL|{obx['msh7']}||ORU^R01^ORU_R01|P{hospital.sent}|P|2.5.1",
        "PID|1||4711^^^HOSPITAL^MR||Invented^Person||19500101|F",
        f"OBR|1||P{hospital.sent}|VITALS^Vital signs^L|||{obx['obx14']}",
        f"OBX|1|{obx['obx2']}|{PULSE}^Heart rate^LN||{obx['obx5']}|/min^/min^UCUM|||||{obx['obx11']}|||{obx['obx14']}",
    ]
    return "\r".join(lines).encode() + b"\r"


@pytest.fixture
def scored(hospital: Hospital) -> Hospital:
    """A hospital in which a patient has a score of 19."""
    hospital.admit()
    assert hospital.hl7(hospital.vitals()) == "AA"
    hospital.work()
    assert newest(hospital).endswith("total score: 19 (high)")
    return hospital


def test_a_value_stamped_within_the_tolerance_of_clocks_is_scored_at_once(scored: Hospital) -> None:
    assert scored.hl7(pulse(scored, "70", ahead=timedelta(seconds=30))) == "AA"
    scored.work()
    assert newest(scored).endswith("total score: 16 (high)")
    assert len(scored.ehr.received("RiskAssessment")) == 2


def test_a_value_in_the_future_gives_a_reason_and_a_score_when_its_time_has_come(scored: Hospital) -> None:
    assert scored.hl7(pulse(scored, "70", ahead=timedelta(minutes=20))) == "AA"
    scored.work()
    assert newest(scored) == "AI result not available: in the future: pulse"
    assert len(scored.ehr.received("RiskAssessment")) == 2
    ready = httpx.get(f"{scored.web.url}/health/ready").json()
    assert (ready["status"], ready["values_in_the_future"]) == ("warn", 1)
    assert "ausculta_values_in_the_future 1" in httpx.get(f"{scored.web.url}/metrics").text
    scored.clock.advance(14 * 60)
    scored.work()
    assert newest(scored) == "AI result not available: in the future: pulse"
    scored.clock.advance(2 * 60)
    scored.work()
    assert newest(scored).endswith("total score: 16 (high)")
    assert len(scored.ehr.received("RiskAssessment")) == 3
    assert httpx.get(f"{scored.web.url}/health/ready").json()["status"] == "pass"


def test_a_wait_for_a_value_in_the_future_does_not_hold_up_what_comes_meanwhile(scored: Hospital) -> None:
    scored.hl7(pulse(scored, "70", ahead=timedelta(hours=10)))
    scored.work()
    scored.clock.advance(60)
    scored.hl7(pulse(scored, "100"))
    scored.work()
    assert newest(scored).endswith("total score: 17 (high)")


def test_the_tolerance_is_a_setting(open_hospital: Callable[..., Hospital]) -> None:
    hospital = open_hospital(clock_tolerance_s=0.0)
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.hl7(pulse(hospital, "70", ahead=timedelta(seconds=2)))
    hospital.work()
    assert newest(hospital) == "AI result not available: in the future: pulse"
    hospital.clock.advance(2)
    hospital.work()
    assert newest(hospital).endswith("total score: 16 (high)")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"obx14": "20260115"}, "untimed: pulse"),
        ({"obx14": "202601151155", "msh7": "20260115120100"}, "untimed: pulse"),
        ({"obx11": ""}, "no status: pulse"),
        ({"obx5": ""}, "stated as absent: pulse"),
        ({"obx2": "SN", "obx5": "<^85"}, "unreadable pulse"),
        ({"obx2": "SN", "obx5": "<^85", "obx11": "f"}, "unreadable pulse"),
        ({"obx5": "7000"}, "implausible pulse"),
    ],
)
def test_a_newer_value_that_cannot_be_used_is_a_delivered_reason_and_no_older_value(
    scored: Hospital, fields: dict[str, str], reason: str
) -> None:
    scored.clock.advance(60)
    assert scored.hl7(pulse(scored, "70", **fields)) == "AA"
    scored.work()
    assert newest(scored) == f"AI result not available: {reason}"
    (refused, _) = scored.ehr.received("RiskAssessment")
    assert reason in str(refused)


def test_a_lower_case_result_status_is_the_status_of_the_table(scored: Hospital) -> None:
    scored.clock.advance(60)
    scored.hl7(pulse(scored, "70", obx11="f"))
    scored.work()
    assert newest(scored).endswith("total score: 16 (high)")


def test_a_newer_unusable_value_that_arrives_by_fhir_is_a_delivered_reason(scored: Hospital) -> None:
    scored.clock.advance(60)
    (patient,) = scored.all("Patient")
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "59408-5"}]},
        "subject": {"reference": f"Patient/{patient['id']}"},
        "effectiveDateTime": scored.clock.now().isoformat(),
        "valueQuantity": {
            "value": 85,
            "comparator": "<",
            "unit": "%",
            "system": "http://unitsofmeasure.org",
            "code": "%",
        },
    }
    assert httpx.post(f"{scored.url}/Observation", json=observation).status_code == 201
    scored.work()
    assert newest(scored) == "AI result not available: unreadable oxygen saturation"


def test_values_of_13_hours_ago_are_too_old_and_not_missing(scored: Hospital) -> None:
    scored.clock.advance(13 * 3600)
    scored.hl7(pulse(scored, "70"))
    scored.work()
    assert newest(scored) == (
        "AI result not available: too old: respiratory rate, oxygen saturation, supplemental oxygen or room air, "
        "systolic blood pressure, level of consciousness, temperature"
    )


def test_values_of_different_sets_of_observations_are_not_added_up(scored: Hospital) -> None:
    scored.clock.advance(5 * 3600)
    scored.hl7(pulse(scored, "70"))
    scored.work()
    assert "measured more than 4 hours apart; the oldest is respiratory rate" in newest(scored)


def test_the_text_of_every_result_says_how_old_its_oldest_value_is(scored: Hospital) -> None:
    scored.clock.advance(3 * 3600)
    scored.hl7(pulse(scored, "70"))
    scored.work()
    (risk, _) = scored.ehr.received("RiskAssessment")
    assert "Oldest value: respiratory rate, 3 h 1 min old." in str(risk)
    assert "Oldest value: respiratory rate, 3 h 1 min old." in scored.engine.received()[-1].first("NTE").get(3)


def test_a_chatty_monitor_does_not_hide_the_other_values(scored: Hospital) -> None:
    """2,400 heart rates in 40 minutes are all newer than the set of vital signs."""
    (patient,) = scored.all("Patient")
    begin = scored.clock.now()
    scored.clock.advance(3600)
    entries = [
        {
            "request": {"method": "POST", "url": "Observation"},
            "resource": {
                "resourceType": "Observation",
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": PULSE}]},
                "subject": {"reference": f"Patient/{patient['id']}"},
                "effectiveDateTime": (begin + timedelta(seconds=second)).isoformat(),
                "valueQuantity": {"value": 70, "system": "http://unitsofmeasure.org", "code": "/min"},
            },
        }
        for second in range(2400)
    ]
    for part in range(0, len(entries), 400):
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries[part : part + 400]}
        assert httpx.post(scored.url, json=bundle, timeout=60).status_code == 200
    scored.work()
    assert newest(scored).endswith("total score: 16 (high)")


def test_after_our_clock_was_set_back_the_values_that_have_arrived_still_count(hospital: Hospital) -> None:
    """Our clock was an hour fast; the senders' clocks were right all the time."""
    hospital.admit()
    fast = timedelta(hours=1)
    written = hospital.clock.now() - timedelta(minutes=1)
    message = hospital.vitals().replace(writer.stamp(written).encode(), writer.stamp(written - fast).encode())
    hospital.hl7(message)
    hospital.work()
    hospital.clock.advance(-3600)
    hospital.application.worker.heartbeat()
    hospital.hl7(pulse(hospital, "70"))
    hospital.work()
    assert newest(hospital).endswith("total score: 16 (high)")


def test_a_clock_that_is_set_back_holds_neither_a_delivery_nor_a_job(
    open_hospital: Callable[..., Hospital], scripted_ehr: ScriptedEhr
) -> None:
    hospital = open_hospital(ehr_url=scripted_ehr.url, interface_engine=None, pacs=None)
    scripted_ehr.answers["|4711"] = Answer(status=503)
    assert hospital.hl7(hospital.vitals()) == "AA"
    hospital.work()
    assert scripted_ehr.accepted == []
    scripted_ehr.answers.clear()
    hospital.clock.advance(-3600)
    hospital.application.worker.heartbeat()
    hospital.clock.advance(60)
    hospital.work()
    assert len(scripted_ehr.accepted) == 1


@pytest.fixture
def scripted_ehr() -> Iterator[ScriptedEhr]:
    server = ScriptedEhr()
    yield server
    server.close()


def test_a_value_of_a_clock_that_is_ahead_gives_way_to_one_that_is_measured_after_it(scored: Hospital) -> None:
    """All within the tolerance of clocks: the later measurement counts, whatever the first one's stamp."""
    scored.hl7(pulse(scored, "70", ahead=timedelta(seconds=100)))
    scored.work()
    assert newest(scored).endswith("total score: 16 (high)")
    scored.clock.advance(10)
    scored.hl7(pulse(scored, "131"))
    scored.work()
    assert newest(scored).endswith("total score: 19 (high)")
    scored.clock.advance(200)
    scored.hl7(pulse(scored, "132"))
    scored.work()
    assert newest(scored).endswith("total score: 19 (high)")


def test_a_value_of_the_future_does_not_return_when_its_time_comes_and_a_newer_one_was_measured(
    scored: Hospital,
) -> None:
    scored.hl7(pulse(scored, "70", ahead=timedelta(minutes=10)))
    scored.work()
    scored.clock.advance(30)
    scored.hl7(pulse(scored, "100"))
    scored.work()
    assert newest(scored).endswith("total score: 17 (high)")
    for _ in range(12):
        scored.clock.advance(60)
        scored.work()
    assert newest(scored).endswith("total score: 17 (high)")
