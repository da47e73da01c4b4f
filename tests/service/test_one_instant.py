"""Several values of one instant: those that contradict each other give a delivered reason, and none is picked silently.

Also the precision of times: which of two values is newer is not decided by seconds that a sender did not state. Each
story enters by a socket; what counts is what the EHR and the engine have received.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from .hospital import Hospital
from .test_gaps import LAB_RISK, POTASSIUM, lab_risk
from .test_gaps import newest as risk

FLOW, FRACTION = "3151-8", "3150-6"
ACVPU, GLASGOW = "67775-7", "9269-2"
BY_PULSE_OXIMETRY, IN_ARTERIAL_BLOOD = "59408-5", "2708-6"
PULSE = "8867-4"
MINUTE, SECOND = "%Y%m%d%H%M", "%Y%m%d%H%M%S"

Value = tuple[str, str, str, str]
"""OBX-2, OBX-3.1, OBX-5 and OBX-6."""


def number(code: str, value: str, unit: str = "%") -> Value:
    return "NM", code, value, unit


def oru(hospital: Hospital, *values: Value, at: datetime | None = None, form: str = "%Y%m%d%H%M%S") -> bytes:
    """Write an ORU^R01 with values that were measured at one time, written in a form of DTM."""
    hospital.sent += 1
    measured = f"{at or hospital.clock.now():{form}}"
    sent = f"{hospital.clock.now():%Y%m%d%H%M%S}+0000"
    lines = [
        f"MSH|^~\\&|WARDSYS|GENERAL|AUSCULTA|GENERAL|{sent}||ORU^R01^ORU_R01|I{hospital.sent}|P|2.5.1",
        "PID|1||4711^^^HOSPITAL^MR||Invented^Person||19500101|F",
        f"OBR|1||I{hospital.sent}|VITALS^Vital signs^L|||{measured}",
    ]
    for place, (kind, code, value, unit) in enumerate(values, start=1):
        lines.append(f"OBX|{place}|{kind}|{code}^^LN||{value}|{unit}^^UCUM|||||F|||{measured}")
    return "\r".join(lines).encode() + b"\r"


def said(hospital: Hospital) -> str:
    """Return the newest result in one line; the EHR and the engine have it."""
    row = hospital.results()[-1]
    assert row.id in str(hospital.ehr.received("RiskAssessment")[0])
    assert row.id in hospital.engine.received()[-1].first("OBR").get(3)
    return str(row.summary)


@pytest.fixture
def scored(hospital: Hospital) -> Hospital:
    """A hospital in which a patient has a score of 19, and a minute has passed since."""
    hospital.admit()
    assert hospital.hl7(hospital.vitals()) == "AA"
    hospital.work()
    assert said(hospital).endswith("total score: 19 (high)")
    hospital.clock.advance(60)
    return hospital


# Two values of one instant


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            (number(FLOW, "0", "L/min"), number(FRACTION, "40")),
            "contradictory: supplemental oxygen or room air (0 L/min by 3151-8, 40 % by 3150-6)",
        ),
        (
            (number(FRACTION, "40"), number(FLOW, "0", "L/min")),
            "contradictory: supplemental oxygen or room air (0 L/min by 3151-8, 40 % by 3150-6)",
        ),
        (
            (("ST", ACVPU, "Alert", ""), number(GLASGOW, "8", "{score}")),
            "contradictory: level of consciousness (alert by 67775-7, 8 by 9269-2)",
        ),
        (
            (number(BY_PULSE_OXIMETRY, "97"), number(IN_ARTERIAL_BLOOD, "80")),
            "contradictory: oxygen saturation (97 % by 59408-5, 80 % by 2708-6)",
        ),
    ],
    ids=["oxygen", "oxygen, the other order", "consciousness", "saturation"],
)
def test_two_values_of_one_instant_that_contradict_each_other_are_a_delivered_reason_that_names_both(
    scored: Hospital, values: tuple[Value, ...], reason: str
) -> None:
    assert scored.hl7(oru(scored, *values)) == "AA"
    scored.work()
    assert said(scored) == f"AI result not available: {reason}"
    (refused, *_) = scored.ehr.received("RiskAssessment")
    assert reason in str(refused)
    assert reason in scored.engine.received()[-1].first("NTE").get(3)
    basis = {one["reference"].split("/Observation/")[-1].split("/")[0] for one in refused["basis"]}
    assert {one["id"] for _, code, _, _ in values for one in newest_of(scored, code)} <= basis
    page = httpx.get(f"{scored.web.url}/console/results/{scored.results()[-1].id}")
    assert reason in page.text


def newest_of(hospital: Hospital, code: str) -> list[dict[str, object]]:
    """Return the Observation of a code whose time is now."""
    now = f"{hospital.clock.now():%Y-%m-%dT%H:%M:%S}"
    return [one for one in hospital.all(f"Observation?code={code}") if one["effectiveDateTime"].startswith(now)]


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ((number(FLOW, "2", "L/min"), number(FRACTION, "28")), 19),
        ((number(FLOW, "0", "L/min"), number(FRACTION, "21")), 17),
        ((("ST", ACVPU, "Alert", ""), number(GLASGOW, "15", "{score}")), 16),
        ((("ST", ACVPU, "Voice", ""), number(GLASGOW, "13", "{score}")), 19),
        ((number(BY_PULSE_OXIMETRY, "97"), number(IN_ARTERIAL_BLOOD, "96.4")), 16),
    ],
    ids=["on oxygen", "on room air", "alert", "not alert", "the same points"],
)
def test_two_values_that_mean_the_same_to_the_model_do_not_contradict_each_other(
    scored: Hospital, values: tuple[Value, ...], total: int
) -> None:
    scored.hl7(oru(scored, *values))
    scored.work()
    assert said(scored).endswith(f"total score: {total} (high)")


def test_two_values_contradict_each_other_where_nobody_can_say_which_is_newer(scored: Hospital) -> None:
    """The laboratory writes seconds and the ward does not: both times may mean the same instant."""
    start = scored.clock.now()
    scored.clock.advance(60)
    scored.hl7(oru(scored, number(IN_ARTERIAL_BLOOD, "80"), at=start + timedelta(seconds=30)))
    scored.clock.advance(1)
    scored.hl7(oru(scored, number(BY_PULSE_OXIMETRY, "97"), at=start, form=MINUTE))
    scored.work()
    assert "contradictory: oxygen saturation" in said(scored)


def test_a_newer_value_ends_a_contradiction(scored: Hospital) -> None:
    scored.hl7(oru(scored, number(BY_PULSE_OXIMETRY, "97"), number(IN_ARTERIAL_BLOOD, "80")))
    scored.work()
    assert "contradictory" in said(scored)
    scored.clock.advance(60)
    scored.hl7(oru(scored, number(BY_PULSE_OXIMETRY, "96")))
    scored.work()
    assert said(scored).endswith("total score: 16 (high)")


def test_two_values_of_one_code_at_one_instant_do_not_contradict_the_later_arrival_counts(scored: Hospital) -> None:
    at = scored.clock.now()
    for value in ("70", "100"):
        scored.hl7(oru(scored, number(PULSE, value, "/min"), at=at))
        scored.work()
        scored.clock.advance(1)
    assert said(scored).endswith("total score: 17 (high)")


# Two values of one code in one message: neither arrived later


def twice(hospital: Hospital, *values: Value) -> bytes:
    """Write values of one code that OBX-4 tells apart."""
    message = oru(hospital, *values)
    for place, (kind, code, value, _) in enumerate(values, start=1):
        message = message.replace(
            f"OBX|{place}|{kind}|{code}^^LN||{value}|".encode(),
            f"OBX|{place}|{kind}|{code}^^LN|{place}|{value}|".encode(),
        )
    return message


def pulse(value: str) -> Value:
    return number(PULSE, value, "/min")


@pytest.mark.parametrize("values", [("135", "75"), ("75", "135")])
def test_two_values_of_one_code_in_one_message_contradict_each_other_in_any_order(
    scored: Hospital, values: tuple[str, str]
) -> None:
    scored.hl7(twice(scored, *map(pulse, values)))
    scored.work()
    assert "contradictory: pulse (" in said(scored)
    assert all(f"{value} /min by {PULSE}" in said(scored) for value in values)
    assert len(newest_of(scored, PULSE)) == 2
    basis = str(scored.ehr.received("RiskAssessment")[0]["basis"])
    assert all(one["id"] in basis for one in newest_of(scored, PULSE))


def test_two_values_of_one_code_in_one_message_that_mean_the_same_are_scored(scored: Hospital) -> None:
    scored.hl7(twice(scored, pulse("70"), pulse("75")))
    scored.work()
    assert said(scored).endswith("total score: 16 (high)")


def test_a_value_in_a_later_message_ends_the_contradiction_of_one_message(scored: Hospital) -> None:
    at = scored.clock.now()
    scored.hl7(twice(scored, pulse("135"), pulse("75")))
    scored.work()
    scored.clock.advance(1)
    scored.hl7(oru(scored, pulse("70"), at=at))
    scored.work()
    assert said(scored).endswith("total score: 16 (high)")


@pytest.mark.parametrize("values", [("135", ">300"), (">300", "135")])
def test_a_value_beside_one_of_its_message_that_cannot_be_used_is_not_picked(
    scored: Hospital, values: tuple[str, str]
) -> None:
    given = [("SN", PULSE, ">^300", "/min") if value == ">300" else pulse(value) for value in values]
    scored.hl7(twice(scored, *given))
    scored.work()
    assert "unreadable pulse" in said(scored)


def test_two_values_of_one_code_in_one_bundle_contradict_each_other(scored: Hospital) -> None:
    (patient,) = scored.all("Patient")
    entries = [
        {
            "resource": {
                "resourceType": "Observation",
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": PULSE}]},
                "subject": {"reference": f"Patient/{patient['id']}"},
                "effectiveDateTime": f"{scored.clock.now():%Y-%m-%dT%H:%M:%S}Z",
                "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": "/min"},
            },
            "request": {"method": "POST", "url": "Observation"},
        }
        for value in (135, 75)
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert httpx.post(scored.url, json=bundle).status_code == 200
    scored.work()
    assert "contradictory: pulse" in said(scored)


def test_a_repeated_value_contradicts_the_other_of_its_field(scored: Hospital) -> None:
    scored.hl7(oru(scored, pulse("135~75")))
    scored.work()
    assert "contradictory: pulse" in said(scored)


# The precision of a time


def pulses(hospital: Hospital, *sent: tuple[str, str, int]) -> None:
    """Send pulses, each in a message of its own: the value, the form of its time, and after which second of now."""
    start = hospital.clock.now()
    hospital.clock.advance(60)
    for value, form, second in sent:
        at = start + timedelta(seconds=second)
        assert hospital.hl7(oru(hospital, number(PULSE, value, "/min"), at=at, form=form)) == "AA"
        hospital.clock.advance(1)
        hospital.work()


def test_a_value_with_its_time_to_the_minute_counts_when_it_arrives_after_one_of_that_minute(scored: Hospital) -> None:
    pulses(scored, ("131", SECOND, 30), ("70", MINUTE, 45))
    assert said(scored).endswith("total score: 16 (high)")
    assert "pulse 70 /min" in str(scored.ehr.received("RiskAssessment")[0])


def test_a_value_with_its_time_to_the_second_counts_when_it_arrives_after_one_of_that_minute(scored: Hospital) -> None:
    pulses(scored, ("131", MINUTE, 45), ("70", SECOND, 30))
    assert said(scored).endswith("total score: 16 (high)")


def test_a_value_of_the_minute_before_is_older_whenever_it_arrives(scored: Hospital) -> None:
    pulses(scored, ("70", SECOND, 61), ("131", MINUTE, 59))
    assert said(scored).endswith("total score: 16 (high)")


def test_a_value_that_was_overtaken_to_the_second_does_not_come_back_by_a_value_of_the_minute(scored: Hospital) -> None:
    """It arrives last and is older than the value of second 50, whatever the value of the minute is."""
    pulses(scored, ("100", MINUTE, 10), ("70", SECOND, 50), ("131", SECOND, 30))
    assert said(scored).endswith("total score: 16 (high)")


def test_a_time_at_the_full_minute_by_fhir_may_be_of_a_clock_without_seconds(scored: Hospital) -> None:
    pulses(scored, ("131", SECOND, 30))
    scored.clock.advance(1)
    (patient,) = scored.all("Patient")
    minute = scored.clock.now().replace(second=0) - timedelta(minutes=1)
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": PULSE}]},
        "subject": {"reference": f"Patient/{patient['id']}"},
        "effectiveDateTime": f"{minute:%Y-%m-%dT%H:%M}:00.000Z",
        "valueQuantity": {"value": 70, "system": "http://unitsofmeasure.org", "code": "/min"},
    }
    assert httpx.post(f"{scored.url}/Observation", json=observation).status_code == 201
    scored.work()
    assert said(scored).endswith("total score: 16 (high)")


# A limit in a window of which the greatest or least value counts


@pytest.fixture
def laboratory(open_hospital: Callable[..., Hospital], tmp_path: Path) -> Hospital:
    """A hospital with a model that reads the greatest creatinine of 24 hours; it bears one feature without a value."""
    hospital = open_hospital(model_dirs=(lab_risk(tmp_path / LAB_RISK),))
    hospital.set_model(LAB_RISK, "active")
    hospital.set_model("news2", "retired")
    hospital.admit()
    return hospital


def panel(hospital: Hospital, *creatinine: tuple[str, str]) -> str:
    values: list[Value] = [
        number(POTASSIUM, "5.0", "mmol/L"),
        number("2524-7", "3.0", "mmol/L"),
        number("2345-7", "6.0", "mmol/L"),
    ]
    hospital.hl7(oru(hospital, *values))
    for kind, value in creatinine:
        hospital.clock.advance(60)
        hospital.hl7(oru(hospital, (kind, "2160-0", value, "mg/dL")))
    hospital.work()
    return risk(hospital)


def test_a_limit_above_the_greatest_value_of_a_window_leaves_the_feature_without_a_value(
    laboratory: Hospital,
) -> None:
    text = panel(laboratory, ("NM", "2.0"), ("SN", ">^20"))
    assert "Computed without creatinine (known only as a limit: >20 mg/dL)." in text
    assert "Values left out" not in text


def test_a_limit_below_the_greatest_value_of_a_window_cannot_change_it(laboratory: Hospital) -> None:
    text = panel(laboratory, ("NM", "2.0"), ("SN", "<^0.5"))
    assert "Computed without" not in text
    assert "Values left out: creatinine (unreadable)." in text
