"""Many corrections of what is not stored: the work grows with the message, and not with what is stored as well."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir_adapter.hl7v2.conversion import Context
from fhir_adapter.hl7v2.message import Message
from fhir_adapter.hl7v2.messages import convert, identity
from fhir_adapter.patient_identity import Pseudonyms

STORED = 300
CORRECTIONS = 300
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Counting:
    """Pseudonyms that count how often they are asked."""

    real: Pseudonyms
    asked: int = 0

    def resource_id(self, resource_type: str, system: str, value: str) -> str:
        self.asked += 1
        return self.real.resource_id(resource_type, system, value)


def message(count: int, status: str, *, first: datetime, sub_ids: bool, key: str = "") -> Message:
    """Write an ORU^R01 with so many heart rates, a minute apart; without an order number where it has a key, MSH-10."""
    lines = [
        f"MSH|^~\\&|W|G|A|G|20260115120000+0000||ORU^R01|{key or 'I1'}|P|2.5.1",
        "PID|1||4711^^^HOSPITAL^MR||I^P||19500101|F",
        f"OBR|1||{'' if key else 'O-41^W'}|VITALS^^L|||20260101000000",
    ]
    for number in range(count):
        at = f"{first + timedelta(minutes=number):%Y%m%d%H%M%S}"
        sub_id = number if sub_ids else ""
        lines.append(f"OBX|{number + 1}|NM|8867-4^^LN|{sub_id}|80|/min^^UCUM|||||{status}|||{at}")
    return Message.parse("\r".join(lines).encode() + b"\r")


@pytest.mark.parametrize("sub_ids", [False, True])
def test_each_correction_costs_the_same_however_much_is_stored(
    context: Context, monkeypatch: pytest.MonkeyPatch, sub_ids: bool
) -> None:
    kept = convert(message(STORED, "F", first=MIDNIGHT, sub_ids=sub_ids), context).resources
    stored = {(resource["resourceType"], resource["id"]): resource for resource in kept}
    counting, looked_at = Counting(context.pseudonyms), [0]
    whole = identity._moment

    def moment(found: identity.Stored) -> datetime | None:
        looked_at[0] += 1
        return whole(found)

    monkeypatch.setattr(identity, "_moment", moment)
    again = replace(context, pseudonyms=counting, current=lambda kind, name: stored.get((kind, name)))
    missing = message(CORRECTIONS, "C", first=MIDNIGHT + timedelta(days=30), sub_ids=sub_ids)
    assert convert(missing, again).unmatched == CORRECTIONS
    assert looked_at[0] <= STORED + 2 * CORRECTIONS
    assert counting.asked <= 10 * CORRECTIONS


def test_each_late_original_costs_the_same_however_much_is_stored(context: Context) -> None:
    """Of a sender without order numbers, so that nothing but the origins finds what it means."""
    first = message(STORED, "C", first=MIDNIGHT, sub_ids=False, key="I1")
    kept = convert(first, context)
    stored = {(resource["resourceType"], resource["id"]): resource for resource in kept.resources}
    asked: list[str] = []

    def current(kind: str, name: str) -> Mapping[str, Any] | None:
        asked.append(name)
        return stored.get((kind, name))

    again = replace(context, current=current, origins=lambda _patient, _start, _end: kept.origins)
    late = message(STORED, "F", first=MIDNIGHT, sub_ids=False, key="I2")
    found = convert(late, again)
    observations = {resource["id"] for resource in kept.resources if resource["resourceType"] == "Observation"}
    assert {it["id"] for it in found.resources if it["resourceType"] == "Observation"} == observations
    assert len(asked) <= STORED + 10
