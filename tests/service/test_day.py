"""A day at a hospital: at every hour the newest statement about every patient is the right one, at every destination.

Feeds send what a careless hospital sends; the plan draws it (:mod:`.day_plan`), and an oracle that knows nothing of
the product says what is right (:mod:`.day_oracle`). The EHR answers 503 for an hour at lunch.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest

from .day_oracle import statement
from .day_plan import DAY, ZONE, Arrival, Plan, admissions, plan_day
from .hospital import AUTHORITY, Hospital
from .scripted import Answer, ScriptedEhr

PATIENTS = 40
LUNCH = range(6 * 60, 7 * 60)
_SCORE = re.compile(r"NEWS2 (\d+) of 20")
_REASON = re.compile(r"AI result not available: ([^|\"\r]*)")


@pytest.fixture
def ehr() -> Iterator[ScriptedEhr]:
    ehr = ScriptedEhr()
    yield ehr
    ehr.close()


def said_in(text: str) -> str:
    """Return the statement of a text in the words of the oracle."""
    if found := _SCORE.search(text):
        return found[1]
    reason = _REASON.search(text)
    assert reason is not None, text[:300]
    apart = "measured too far apart" if "hours apart" in reason[1] else reason[1]
    return f"not available: {apart}"


def at_ehr(ehr: ScriptedEhr) -> dict[str, str]:
    """Return the newest statement about each patient."""
    newest: dict[str, str] = {}
    for body in ehr.accepted:
        found = re.search(rf"Patient\?identifier={AUTHORITY}\|(\d+)", body)
        assert found is not None
        newest[found[1]] = said_in(body)
    return newest


def at_engine(hospital: Hospital) -> dict[str, str]:
    newest: dict[str, str] = {}
    for message in hospital.engine.received():
        patient = message.first("PID")
        assert patient is not None
        values = [segment.get(5) for segment in message.all("OBX")]
        values += [segment.get(3) for segment in message.all("NTE")]
        numbers = [value for value in values if re.fullmatch(r"[\d.]+", value)]
        newest[patient.get(3, component=1)] = f"{float(numbers[0]):g}" if numbers else said_in("|".join(values))
    return newest


def in_store(hospital: Hospital, references: dict[str, str]) -> dict[str, str]:
    newest: dict[str, str] = {}
    for row in hospital.results():
        if row.model == "news2" and row.subject in references:
            total = re.search(r"total score: (\d+)", row.summary)
            newest[references[row.subject]] = total[1] if total else said_in(row.summary)
    return newest


def references_of(hospital: Hospital) -> dict[str, str]:
    """Return the number of each Patient, by its reference; one number has one Patient."""
    found: dict[str, str] = {}
    url: str | None = f"{hospital.url}/Patient?_count=200"
    while url:
        page = httpx.get(url).json()
        for entry in page.get("entry", []):
            patient = entry["resource"]
            (number,) = [one["value"] for one in patient["identifier"] if one["system"] == AUTHORITY]
            found[f"Patient/{patient['id']}"] = number
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)
    assert len(set(found.values())) == len(found)
    return found


def deliver(hospital: Hospital, arrival: Arrival, references: dict[str, str]) -> None:
    """Let one message or resource arrive."""
    if arrival.hl7:
        assert hospital.hl7(arrival.hl7) == "AA"
        return
    assert arrival.fhir is not None
    path, resource = arrival.fhir
    reference = next(reference for reference, number in references.items() if number == arrival.patient)
    answer = httpx.put(f"{hospital.url}/{path}", json=dict(resource) | {"subject": {"reference": reference}})
    assert answer.status_code in {200, 201}, answer.text


def wrong(plan: Plan, found: dict[str, str], minute: float, asked_at: dict[str, float]) -> list[tuple[str, ...]]:
    """Return patient, right statement and found one, wherever they differ.

    A statement is made when something arrives, so it is right as of then.
    """
    differences = []
    known = plan.known_of()
    for patient in plan.patients:
        right = statement(known[patient.mrn], asked_at.get(patient.mrn, minute))
        if right != found.get(patient.mrn):
            differences.append((patient.mrn, patient.ward.name, str(right), str(found.get(patient.mrn))))
    return differences


def test_at_the_end_of_every_hour_each_newest_statement_is_the_right_one(
    open_hospital: Callable[..., Hospital], ehr: ScriptedEhr
) -> None:
    hospital = open_hospital(ehr_url=ehr.url, time_zone=ZONE)
    plan = plan_day(PATIENTS, seed=20260115)
    for message in admissions(plan):
        assert hospital.hl7(message) == "AA"
    hospital.work()
    references = references_of(hospital)
    assert len(references) == PATIENTS
    asked_at: dict[str, float] = {}
    waiting, now = list(plan.arrivals), 0.0
    for hour in range(1, DAY // 60 + 7):
        ehr.answers = {"": Answer(status=503)} if (hour - 1) * 60 in LUNCH else {}
        while waiting and waiting[0].minute < hour * 60:
            arrival = waiting.pop(0)
            hospital.clock.advance((arrival.minute - now) * 60)
            now = arrival.minute
            deliver(hospital, arrival, references)
            hospital.work()
            asked_at[arrival.patient] = now
        hospital.clock.advance((hour * 60 - now) * 60)
        now = float(hour * 60)
        hospital.work()
        assert wrong(plan, in_store(hospital, references), now, asked_at) == [], f"in the store after hour {hour}"
    assert not waiting
    assert hospital.parked() == []
    assert wrong(plan, at_ehr(ehr), now, asked_at) == []
    assert wrong(plan, at_engine(hospital), now, asked_at) == []
    kinds = Counter("reason" if text.startswith("not") else "score" for text in at_ehr(ehr).values())
    assert kinds["score"] > PATIENTS * 0.7
    assert kinds["reason"] > 0
