"""A day at a hospital: at every hour the newest statement about every patient is the right one, at every destination.

Feeds send what a careless hospital sends; the plan draws it (:mod:`.day_plan`), and an oracle that knows nothing of
the product says what is right (:mod:`.day_oracle`). The EHR answers 503 for an hour at lunch.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx
import pytest

from dicom_node.scu import send as c_store
from kernel.errors import PeerProblem

from .day_oracle import statement
from .day_plan import DAY, START, ZONE, Arrival, Plan, admissions, plan_day
from .hospital import AUTHORITY, Hospital
from .scripted import Answer, ScriptedEhr

PATIENTS = 200
FILMS = 20
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
        if '"code":"news2"' in body.replace(" ", ""):
            newest[found[1]] = said_in(body)
    return newest


def at_engine(hospital: Hospital) -> dict[str, str]:
    newest: dict[str, str] = {}
    for message in hospital.engine.received():
        patient = message.first("PID")
        assert patient is not None
        if patient.get(3, component=1).startswith("9"):
            continue  # a child, of whom there are films alone
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


def to(hospital: Hospital, minute: float) -> float:
    """Advance the clock to a minute of the day, unless it is later already; return the minute that it is."""
    missing = (START + timedelta(minutes=minute) - hospital.clock.now()).total_seconds()
    hospital.clock.advance(max(0.0, missing))
    return max(minute, (hospital.clock.now() - START).total_seconds() / 60)


def deliver(hospital: Hospital, arrival: Arrival, references: dict[str, str]) -> None:
    """Let one message, resource or study arrive."""
    if arrival.images:
        hospital.dicom(*arrival.images)
        hospital.rest()
        return
    if arrival.routed_back:
        c_store([hospital.pacs.file(uid) for uid in hospital.pacs.arrivals], hospital.peer)
        hospital.rest()
        return
    if arrival.hl7 and arrival.supported:
        assert hospital.hl7(arrival.hl7) == "AA"
        return
    if arrival.hl7:
        with pytest.raises(PeerProblem, match=r"\(AR\)"):
            hospital.hl7(arrival.hl7)
        return
    assert arrival.fhir is not None
    path, resource = arrival.fhir
    reference = next(reference for reference, number in references.items() if number == arrival.patient)
    answer = httpx.put(f"{hospital.url}/{path}", json=dict(resource) | {"subject": {"reference": reference}})
    assert answer.status_code in {200, 201}, answer.text


def about_films(hospital: Hospital, ehr: ScriptedEhr, plan: Plan) -> list[tuple[str, int, int, int]]:
    """Return number, and statements at EHR, engine and PACS, of each film that has not one statement everywhere."""
    reports = [hospital.pacs.dataset(uid) for uid in hospital.pacs.arrivals]
    at_pacs = Counter(str(report.PatientID) for report in reports if report.Modality == "SR")
    patients = [message.first("PID") for message in hospital.engine.received()]
    sent = Counter(patient.get(3, component=1) for patient in patients if patient is not None)
    counts = [(mrn, len(ehr.of(mrn)), sent[mrn], at_pacs[mrn]) for mrn in plan.filmed]
    return [one for one in counts if one[1:] != (1, 1, 1)]


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
    hospital.set_model("cxr-pneumonia", "active")
    plan = plan_day(PATIENTS, FILMS, seed=20260115)
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
            now = to(hospital, arrival.minute)
            deliver(hospital, arrival, references)
            hospital.work()
            if arrival.supported:
                asked_at[arrival.patient] = now
        now = to(hospital, hour * 60)
        hospital.work()
        assert wrong(plan, in_store(hospital, references), now, asked_at) == [], f"in the store after hour {hour}"
    assert not waiting
    assert hospital.parked() == []
    assert wrong(plan, at_ehr(ehr), now, asked_at) == []
    assert wrong(plan, at_engine(hospital), now, asked_at) == []
    assert about_films(hospital, ehr, plan) == []
    kinds = Counter("reason" if text.startswith("not") else "score" for text in at_ehr(ehr).values())
    assert kinds["score"] > PATIENTS * 0.7
    assert kinds["reason"] > 0
