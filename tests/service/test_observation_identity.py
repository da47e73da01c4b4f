"""A deletion or a correction finds the Observation that it means, however OBX-14 is written, or a person sees it."""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from fhir_adapter.hl7v2.writer import stamp

from .hospital import Hospital
from .test_order import CALM, inbox_states, score

VITALS = CALM | {"8867-4": ("NM", "140", "/min")}
FILLER = "|O-41^WARDSYS"
PULSE = "8867-4"


def message(
    hospital: Hospital,
    segments: Sequence[str],
    *,
    at: str,
    numbers: str = FILLER,
    report: str = "F",
) -> bytes:
    """Write an ORU^R01 of one order: ``at`` is OBR-7, ``numbers`` are OBR-2 and OBR-3, ``report`` is OBR-25."""
    hospital.sent += 1
    hospital.clock.advance(1)
    lines = [
        f"MSH|^~\\&|WARDSYS|GENERAL|AUSCULTA|GENERAL|{stamp(hospital.clock.now())}||ORU^R01|I{hospital.sent}|P|2.5.1",
        "PID|1||4711^^^HOSPITAL^MR||Invented^Person||19500101|F",
        f"OBR|1|{numbers}|VITALS^^L|||{at}||||||||||||||||||{report}",
        *segments,
    ]
    return "\r".join(lines).encode() + b"\r"


def obx(code: str, value: str, status: str, at: str, sub_id: str = "") -> str:
    kind, _, unit = VITALS[code]
    return f"OBX|1|{kind}|{code}^^LN|{sub_id}|{value}|{unit}^^UCUM|||||{status}|||{at}"


def vitals(at: str) -> list[str]:
    """Write all vital signs of one time; the pulse scores 3."""
    return [obx(code, value, "F", at) for code, (_, value, _) in VITALS.items()]


def measured(hospital: Hospital) -> datetime:
    """Return 37 s past a minute that is over."""
    return (hospital.clock.now() - timedelta(minutes=2)).replace(second=37, microsecond=0)


def receive(hospital: Hospital, *messages: bytes) -> None:
    for raw in messages:
        assert hospital.hl7(raw) == "AA"
        hospital.work()


def pulses(hospital: Hospital) -> list[dict[str, Any]]:
    return hospital.all(f"Observation?code={PULSE}")


def statuses(hospital: Hospital) -> list[str]:
    return sorted(it["status"] for it in pulses(hospital))


def report_of(hospital: Hospital) -> dict[str, Any]:
    (found,) = hospital.all("DiagnosticReport?code=VITALS")
    return found


def unmatched(hospital: Hospital) -> int:
    lines = httpx.get(f"{hospital.web.url}/metrics").text.splitlines()
    (line,) = [line for line in lines if line.startswith("ausculta_messages_unmatched ")]
    return int(line.rpartition(" ")[2])


# A time is the instant, not its text


def same(at: datetime) -> str:
    return stamp(at)


def empty(_: datetime) -> str:
    return ""


def elsewhere(at: datetime) -> str:
    return stamp(at.astimezone(timezone(timedelta(hours=1))))


def to_the_minute(at: datetime) -> str:
    return at.strftime("%Y%m%d%H%M+0000")


def another_time(at: datetime) -> str:
    return stamp(at - timedelta(minutes=1))


@pytest.mark.parametrize("status", ["D", "W"])
@pytest.mark.parametrize(
    ("first", "then"),
    [
        (same, empty),
        (empty, same),
        (same, elsewhere),
        (elsewhere, same),
        (empty, elsewhere),
        (same, to_the_minute),
        (to_the_minute, same),
        (same, another_time),
    ],
)
def test_a_deletion_finds_the_value_whose_time_is_written_differently(
    hospital: Hospital, first: Any, then: Any, status: str
) -> None:
    hospital.admit()
    at = measured(hospital)
    receive(hospital, message(hospital, vitals(first(at)), at=stamp(at)))
    assert score(hospital) == "3 (low-medium)"
    receive(hospital, message(hospital, [obx(PULSE, "140", status, then(at))], at=stamp(at)))
    assert statuses(hospital) == ["entered-in-error"]
    assert "missing pulse" in hospital.results()[-1].summary
    assert unmatched(hospital) == 0


@pytest.mark.parametrize("then", [empty, elsewhere, to_the_minute, another_time])
def test_a_correction_replaces_the_value_whose_time_is_written_differently(hospital: Hospital, then: Any) -> None:
    hospital.admit()
    at = measured(hospital)
    receive(hospital, message(hospital, vitals(stamp(at)), at=stamp(at)))
    receive(hospital, message(hospital, [obx(PULSE, "80", "C", then(at))], at=stamp(at)))
    (pulse,) = pulses(hospital)
    assert (pulse["status"], float(pulse["valueQuantity"]["value"])) == ("corrected", 80)
    assert score(hospital) == "0 (low)"


def test_a_deletion_in_another_form_is_not_undone_by_the_late_original_in_that_form(hospital: Hospital) -> None:
    hospital.admit()
    at = measured(hospital)
    late = message(hospital, [obx(PULSE, "140", "F", elsewhere(at))], at=stamp(at))
    receive(hospital, message(hospital, vitals(stamp(at)), at=stamp(at)))
    receive(hospital, message(hospital, [obx(PULSE, "140", "D", elsewhere(at))], at=stamp(at)), late)
    assert statuses(hospital) == ["entered-in-error"]


def test_of_two_values_of_an_order_a_correction_to_the_minute_changes_the_one_of_that_minute(
    hospital: Hospital,
) -> None:
    hospital.admit()
    at = measured(hospital)
    early = at - timedelta(minutes=30)
    segments = [*vitals(stamp(at)), obx(PULSE, "90", "F", stamp(early))]
    receive(hospital, message(hospital, segments, at=stamp(at)))
    receive(hospital, message(hospital, [obx(PULSE, "80", "C", to_the_minute(at))], at=stamp(at)))
    assert score(hospital) == "0 (low)"
    assert statuses(hospital) == ["corrected", "final"]


def test_a_sub_id_that_is_not_stored_means_no_other_value(hospital: Hospital) -> None:
    hospital.admit()
    at = measured(hospital)
    segments = [it for it in vitals(stamp(at)) if PULSE not in it] + [obx(PULSE, "140", "F", stamp(at), "1")]
    receive(hospital, message(hospital, segments, at=stamp(at)))
    receive(hospital, message(hospital, [obx(PULSE, "80", "D", to_the_minute(at), "2")], at=stamp(at)))
    assert statuses(hospital) == ["entered-in-error", "final"]
    assert unmatched(hospital) == 1
    receive(hospital, message(hospital, [obx(PULSE, "80", "D", to_the_minute(at), "1")], at=stamp(at)))
    assert statuses(hospital) == ["entered-in-error", "entered-in-error"]


# What meets nothing


@pytest.mark.parametrize("status", ["D", "W", "C"])
def test_a_change_of_a_value_that_is_not_stored_is_shown_to_a_person(hospital: Hospital, status: str) -> None:
    hospital.admit()
    at = measured(hospital)
    receive(hospital, message(hospital, vitals(stamp(at)), at=stamp(at)))
    change = message(hospital, [obx(PULSE, "80", status, stamp(at))], at=stamp(at), numbers="|O-99^WARDSYS")
    receive(hospital, change)
    assert inbox_states(hospital)[-2:] == ["done", "unmatched"]
    assert unmatched(hospital) == 1


def test_two_values_that_a_correction_may_mean_are_left_alone_and_shown_to_a_person(hospital: Hospital) -> None:
    hospital.admit()
    at = measured(hospital)
    segments = [*vitals(stamp(at)), obx(PULSE, "90", "F", stamp(at - timedelta(seconds=10)))]
    receive(hospital, message(hospital, segments, at=stamp(at)))
    receive(hospital, message(hospital, [obx(PULSE, "80", "D", to_the_minute(at))], at=stamp(at)))
    assert statuses(hospital) == ["entered-in-error", "final", "final"]
    assert unmatched(hospital) == 1


# An order with the placer's number only


@pytest.mark.parametrize("then", [same, empty, elsewhere, to_the_minute])
def test_a_deletion_finds_the_value_of_an_order_with_a_placer_number_only(hospital: Hospital, then: Any) -> None:
    hospital.admit()
    at = measured(hospital)
    receive(hospital, message(hospital, vitals(stamp(at)), at=stamp(at), numbers="P-7^EHR|"))
    receive(hospital, message(hospital, [obx(PULSE, "140", "D", then(at))], at=stamp(at), numbers="P-7^EHR|"))
    assert statuses(hospital) == ["entered-in-error"]
    assert unmatched(hospital) == 0


def test_a_filler_number_that_comes_later_belongs_to_the_order_of_the_placer(hospital: Hospital) -> None:
    hospital.admit()
    at = measured(hospital)
    receive(hospital, message(hospital, vitals(stamp(at)), at=stamp(at), numbers="P-7^EHR|"))
    receive(hospital, message(hospital, [obx(PULSE, "80", "C", stamp(at))], at=stamp(at), numbers="P-7^EHR|F-1^LAB"))
    assert statuses(hospital) == ["corrected"]


# The report of the order


def test_a_correction_keeps_the_results_that_it_does_not_mention(hospital: Hospital) -> None:
    hospital.admit()
    at = measured(hospital)
    receive(hospital, message(hospital, vitals(stamp(at)), at=stamp(at)))
    before = report_of(hospital)["result"]
    assert len(before) == 7
    receive(hospital, message(hospital, [obx(PULSE, "80", "C", stamp(at))], at=stamp(at), report="C"))
    assert report_of(hospital)["result"] == before


def test_a_deleted_value_leaves_the_report(hospital: Hospital) -> None:
    hospital.admit()
    at = measured(hospital)
    receive(hospital, message(hospital, vitals(stamp(at)), at=stamp(at)))
    (pulse,) = pulses(hospital)
    before = report_of(hospital)["result"]
    receive(hospital, message(hospital, [obx(PULSE, "140", "D", stamp(at))], at=stamp(at), report="C"))
    gone = {"reference": f"Observation/{pulse['id']}"}
    assert report_of(hospital)["result"] == [it for it in before if it != gone]


def test_a_cancelled_order_takes_its_preliminary_values_away_and_no_final_one(hospital: Hospital) -> None:
    hospital.admit()
    at = measured(hospital)
    segments = [*vitals(stamp(at))[:-1], obx(PULSE, "140", "P", stamp(at))]
    receive(hospital, message(hospital, segments, at=stamp(at)))
    assert score(hospital) == "3 (low-medium)"
    receive(hospital, message(hospital, [], at=stamp(at), report="X"))
    assert statuses(hospital) == ["cancelled"]
    assert {it["status"] for it in hospital.all("Observation?code=59408-5")} == {"final"}
    assert report_of(hospital)["status"] == "cancelled"
    assert "missing pulse" in hospital.results()[-1].summary


# Not asked


def test_a_value_that_was_not_asked_for_is_no_value(hospital: Hospital) -> None:
    hospital.admit()
    at = measured(hospital)
    segments = [*vitals(stamp(at))[:-1], obx(PULSE, "80", "N", stamp(at))]
    receive(hospital, message(hospital, segments, at=stamp(at)))
    (pulse,) = pulses(hospital)
    assert "valueQuantity" not in pulse
    assert pulse["dataAbsentReason"]["coding"][0]["code"] == "not-asked"
    assert "AI result not available" in hospital.results()[-1].summary
