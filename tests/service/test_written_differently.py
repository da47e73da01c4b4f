"""A late original, a late preliminary value and a withdrawal mean the stored value, however they are written."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import pytest

from fhir_adapter.hl7v2.writer import stamp

from .hospital import Hospital
from .test_observation_identity import pulses, receive, statuses, to_the_minute, unmatched
from .test_order import inbox_states, minutes, order, score

SCORES_3, SCORES_0 = "3 (low-medium)", "0 (low)"
ORDER: Final = "|X^LAB"
NO_ORDER: Final = "|"


def to_the_second(at: datetime) -> str:
    return stamp(at)


@dataclass(frozen=True, kw_only=True)
class Written:
    """How a message writes what identifies a value."""

    time: Callable[[datetime], str] = to_the_second
    name: str = "x"
    sub_id: str = ""
    #: OBR-2 and OBR-3.
    numbers: str = ORDER
    #: OBR-1.
    position: str = "1"
    #: MSH-3.
    sender: str = "WARDSYS"
    #: OBX-3.3.
    system: str = "LN"
    #: OBR-7, where it is another time than OBX-14.
    ordered: datetime | None = None
    #: OBR-22.
    changed: datetime | None = None
    report: str = "F"


def pulse(
    hospital: Hospital, value: str, status: str, at: datetime, written: Written, *, sent: datetime | None = None
) -> bytes:
    """Write an ORU^R01 with one pulse; ``sent`` is MSH-7, by default now."""
    hospital.sent += 1
    hospital.clock.advance(1)
    time = written.time(at)
    ordered = time if written.ordered is None else stamp(written.ordered)
    changed = "" if written.changed is None else stamp(written.changed)
    sent_at = stamp(sent or hospital.clock.now())
    lines = [
        f"MSH|^~\\&|{written.sender}|GENERAL|AUSCULTA|GENERAL|{sent_at}||ORU^R01|W{hospital.sent}|P|2.5.1",
        "PID|1||4711^^^HOSPITAL^MR||Invented^Person||19500101|F",
        f"OBR|{written.position}|{written.numbers}|VITALS^^L|||{ordered}|||||||||||||||{changed}|||{written.report}",
        f"OBX|1|NM|8867-4^{written.name}^{written.system}|{written.sub_id}|{value}|/min^^UCUM|||||{status}|||{time}",
    ]
    return "\r".join(lines).encode() + b"\r"


def base_set(hospital: Hospital) -> datetime:
    """Store seven normal vital signs of another order, and return a later time, 4 min ago and 37 s past the minute."""
    hospital.admit()
    now = hospital.clock.now()
    hospital.hl7(order(hospital, "70", "F", sent=now - minutes(8), measured=now - minutes(9)))
    hospital.work()
    assert score(hospital) == SCORES_0
    return (now - minutes(5)).replace(second=37, microsecond=0)


def values(hospital: Hospital) -> list[float]:
    return sorted(float(it["valueQuantity"]["value"]) for it in pulses(hospital))


PLAIN: Final = Written()
BY_MINUTE: Final = Written(time=to_the_minute)
NAMED: Final = Written(name="Pulse")
SUB_ID: Final = Written(sub_id="1")
FORMS: Final = [
    pytest.param(PLAIN, BY_MINUTE, id="original to the minute"),
    pytest.param(BY_MINUTE, PLAIN, id="correction to the minute"),
    pytest.param(SUB_ID, PLAIN, id="original without OBX-4"),
    pytest.param(PLAIN, SUB_ID, id="correction without OBX-4"),
    pytest.param(PLAIN, NAMED, id="another text in OBX-3.2"),
    pytest.param(PLAIN, Written(position="2"), id="another OBR-1"),
    pytest.param(PLAIN, Written(numbers="|X"), id="OBR-3 without its authority"),
    pytest.param(PLAIN, Written(numbers="P-1|X^LAB"), id="a placer's number too"),
    pytest.param(Written(numbers=NO_ORDER), Written(numbers=NO_ORDER), id="no order number"),
    pytest.param(
        Written(numbers=NO_ORDER), Written(numbers=NO_ORDER, time=to_the_minute), id="no number, to the minute"
    ),
    pytest.param(PLAIN, Written(numbers=NO_ORDER), id="order number on the correction only"),
]


# What is older


@pytest.mark.parametrize(("correction", "original"), FORMS)
def test_an_older_original_that_is_written_differently_does_not_undo_a_correction(
    hospital: Hospital, correction: Written, original: Written
) -> None:
    at = base_set(hospital)
    receive(hospital, pulse(hospital, "135", "C", at, correction))
    assert score(hospital) == SCORES_3
    receive(hospital, pulse(hospital, "75", "F", at, original, sent=at))
    assert score(hospital) == SCORES_3
    assert values(hospital) == [70, 135]
    assert inbox_states(hospital)[-1] == "older"


def test_an_original_with_an_earlier_obr_22_does_not_undo_a_correction_to_the_minute(hospital: Hospital) -> None:
    at = base_set(hospital)
    early, late = at + minutes(1), at + minutes(2)
    receive(hospital, pulse(hospital, "135", "C", at, Written(time=to_the_minute, changed=late)))
    receive(hospital, pulse(hospital, "75", "F", at, Written(changed=early), sent=at))
    assert score(hospital) == SCORES_3
    assert values(hospital) == [70, 135]


@pytest.mark.parametrize("late", [BY_MINUTE, NAMED], ids=["to the minute", "another text in OBX-3.2"])
def test_a_late_preliminary_value_that_is_written_differently_does_not_undo_a_final_one(
    hospital: Hospital, late: Written
) -> None:
    at = base_set(hospital)
    receive(hospital, pulse(hospital, "135", "F", at, PLAIN))
    assert score(hospital) == SCORES_3
    receive(hospital, pulse(hospital, "75", "P", at, late))
    assert score(hospital) == SCORES_3
    assert values(hospital) == [70, 135]


def test_a_late_preliminary_value_of_one_time_does_not_undo_a_final_one_with_an_earlier_obr_7(
    hospital: Hospital,
) -> None:
    """Monitors write when they send into OBR-7, and when they measured into OBX-14."""
    at = base_set(hospital)
    receive(hospital, pulse(hospital, "135", "F", at, Written(ordered=at)))
    receive(hospital, pulse(hospital, "75", "P", at, Written(ordered=at + minutes(2))))
    assert score(hospital) == SCORES_3
    assert values(hospital) == [70, 135]


@pytest.mark.parametrize("numbers", [ORDER, NO_ORDER], ids=["order", "no order number"])
def test_a_withdrawn_value_does_not_come_back_to_the_minute(hospital: Hospital, numbers: str) -> None:
    at = base_set(hospital)
    written = Written(numbers=numbers)
    receive(hospital, pulse(hospital, "135", "F", at, written), pulse(hospital, "135", "W", at, written))
    assert score(hospital) == SCORES_0
    receive(hospital, pulse(hospital, "135", "F", at, Written(numbers=numbers, time=to_the_minute), sent=at))
    assert score(hospital) == SCORES_0
    assert statuses(hospital) == ["entered-in-error", "final"]


@pytest.mark.parametrize("numbers", [ORDER, NO_ORDER], ids=["order", "no order number"])
def test_a_deletion_that_comes_first_holds_when_the_original_comes_to_the_minute(
    hospital: Hospital, numbers: str
) -> None:
    at = base_set(hospital)
    receive(hospital, pulse(hospital, "135", "D", at, Written(numbers=numbers)))
    receive(hospital, pulse(hospital, "135", "F", at, Written(numbers=numbers, time=to_the_minute), sent=at))
    assert score(hospital) == SCORES_0
    assert statuses(hospital) == ["entered-in-error", "final"]


# What means one value


@pytest.mark.parametrize(
    "deletion",
    [
        pytest.param(Written(position="2"), id="another OBR-1"),
        pytest.param(Written(numbers="|X"), id="OBR-3 without its authority"),
        pytest.param(Written(sender="OTHERAPP"), id="another MSH-3"),
        pytest.param(NAMED, id="another text in OBX-3.2"),
        pytest.param(SUB_ID, id="OBX-4 on the deletion only"),
        pytest.param(Written(system=""), id="OBX-3 without its coding system"),
    ],
)
def test_a_deletion_finds_the_value_of_its_order_number(hospital: Hospital, deletion: Written) -> None:
    at = base_set(hospital)
    receive(hospital, pulse(hospital, "135", "F", at, PLAIN))
    assert score(hospital) == SCORES_3
    receive(hospital, pulse(hospital, "135", "D", at, deletion))
    assert score(hospital) == SCORES_0
    assert unmatched(hospital) == 0


@pytest.mark.parametrize("status", ["D", "W"])
@pytest.mark.parametrize("time", [to_the_second, to_the_minute])
def test_a_sender_without_order_numbers_withdraws_its_value(
    hospital: Hospital, status: str, time: Callable[[datetime], str]
) -> None:
    at = base_set(hospital)
    receive(hospital, pulse(hospital, "135", "F", at, Written(numbers=NO_ORDER)))
    assert score(hospital) == SCORES_3
    receive(hospital, pulse(hospital, "135", status, at, Written(numbers=NO_ORDER, time=time)))
    assert score(hospital) == SCORES_0
    assert unmatched(hospital) == 0


# What means another value


@pytest.mark.parametrize(
    ("later", "value"),
    [
        pytest.param(Written(numbers="|Y^LAB"), "D", id="another order number"),
        pytest.param(Written(numbers=NO_ORDER, sender="OTHERAPP"), "D", id="another sender without the order number"),
        pytest.param(Written(sender="OTHERAPP"), "F", id="a final value of another sender"),
    ],
)
def test_what_is_of_another_order_or_sender_means_another_value(hospital: Hospital, later: Written, value: str) -> None:
    at = base_set(hospital)
    receive(hospital, pulse(hospital, "135", "F", at, PLAIN), pulse(hospital, "135", value, at, later))
    assert values(hospital).count(135) == 2
    assert unmatched(hospital) == (value == "D")


@pytest.mark.parametrize("numbers", [ORDER, NO_ORDER], ids=["order", "no order number"])
def test_values_of_a_monitor_every_ten_seconds_stay_apart(hospital: Hospital, numbers: str) -> None:
    at = base_set(hospital).replace(second=0)
    written = Written(numbers=numbers)
    for number in range(7):
        receive(hospital, pulse(hospital, str(80 + number), "F", at + timedelta(seconds=10 * number), written))
    assert values(hospital) == [70, *range(80, 87)]


def test_two_values_of_a_message_never_become_one(hospital: Hospital) -> None:
    """A value to the minute is stored; which of two later ones it is, nobody can say."""
    at = base_set(hospital)
    receive(hospital, pulse(hospital, "80", "F", at, BY_MINUTE))
    both = (
        pulse(hospital, "81", "F", at, PLAIN)
        + pulse(hospital, "82", "F", at + timedelta(seconds=9), PLAIN).splitlines(keepends=True)[3]
    )
    receive(hospital, both)
    assert values(hospital) == [70, 80, 81, 82]


# The second wall: which of two Observations counts


@pytest.mark.parametrize(("first", "then"), [("C", "F"), ("C", "P"), ("F", "P")])
def test_of_two_observations_of_one_time_the_corrected_one_counts_before_the_final_and_the_preliminary(
    hospital: Hospital, first: str, then: str
) -> None:
    """Of two senders, so that they are two Observations."""
    at = base_set(hospital)
    receive(hospital, pulse(hospital, "135", first, at, PLAIN))
    receive(hospital, pulse(hospital, "75", then, at, Written(time=to_the_minute, sender="OTHERAPP")))
    assert values(hospital) == [70, 75, 135]
    assert score(hospital) == SCORES_3


# What counts as older


@pytest.mark.parametrize("status", ["D", "W", "X"])
def test_a_withdrawal_that_was_applied_is_not_counted_as_older(hospital: Hospital, status: str) -> None:
    at = base_set(hospital)
    receive(hospital, pulse(hospital, "90", "F", at, PLAIN))
    receive(hospital, pulse(hospital, "135", "C", at, Written(report="C")))
    receive(hospital, pulse(hospital, "135", status, at, Written(report="F")))
    assert score(hospital) == SCORES_0
    assert inbox_states(hospital)[-1] == "done"
