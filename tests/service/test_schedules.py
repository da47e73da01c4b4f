"""Admission, discharge, cadence and documents, seen from outside: HTTP and MLLP in, runs of a model out."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_adapter.hl7v2.synthesise import adt_a01, adt_a03, adt_a04
from inference.testing_folder import pulse_risk
from privacy.principal import SERVER
from service.application import build
from service.operations import models as operations
from service.triggers.enqueue import start_cadences

from .hospital import ADULT, ILL, Hospital
from .test_fhir_path import put_patient

MODEL = "pulse-risk"
SIX_HOURS = "{kind: schedule, cadence_hours: 6}"
HOUR_S = 3600


@pytest.fixture
def with_model(open_hospital: Callable[..., Hospital], tmp_path: Path) -> Callable[..., Hospital]:
    """Open a hospital with one model, in shadow, that has the given trigger."""

    def open_one(trigger: str) -> Hospital:
        hospital = open_hospital(model_dirs=(pulse_risk(tmp_path / "v1", trigger=trigger),))
        put_patient(hospital)
        return hospital

    return open_one


def put(hospital: Hospital, kind: str, name: str, **content: Any) -> None:
    resource = {"resourceType": kind, "id": name} | content
    answer = httpx.put(f"{hospital.url}/{kind}/{name}", json=resource)
    assert answer.status_code in {200, 201}, answer.text


def stay(hospital: Hospital, status: str, name: str = "e1", kind: str = "IMP", patient: str | None = "p1") -> None:
    """Store an encounter."""
    code = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": kind}
    subject = {"subject": {"reference": f"Patient/{patient}"}} if patient else {}
    put(hospital, "Encounter", name, status=status, **{"class": code}, **subject)


def measure(hospital: Hospital, patient: str = "p1") -> None:
    """Store a pulse of now, so that the next run of the model has an input that it has not had."""
    code = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
    quantity = {"value": 80, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
    pulse = {"resourceType": "Observation", "status": "final", "code": code, "valueQuantity": quantity}
    about = {"subject": {"reference": f"Patient/{patient}"}, "effectiveDateTime": hospital.clock.now().isoformat()}
    assert httpx.post(f"{hospital.url}/Observation", json=pulse | about).status_code == 201


def pending(hospital: Hospital, step: str) -> list[dict[str, Any]]:
    """Return the payloads of the model's jobs that wait for a step."""
    with hospital.application.database.read() as connection:
        waiting = hospital.application.jobs.listing(connection, "waiting")
    return [dict(job.payload) for job in waiting if job.step == step and job.payload["model"] == MODEL]


def versions(hospital: Hospital) -> list[str]:
    """Return the version of the model in each of its results, oldest first."""
    return [row.version for row in hospital.results() if row.model == MODEL]


def runs(hospital: Hospital) -> int:
    return len(versions(hospital))


def after(hospital: Hospital, hours: float) -> int:
    """Let hours pass, measure, do what is due, and return how often the model ran."""
    before = runs(hospital)
    hospital.clock.advance(hours * HOUR_S)
    measure(hospital)
    hospital.work()
    assert hospital.parked() == []
    return runs(hospital) - before


# events


@pytest.mark.parametrize(
    ("event", "counts"), [("admission", [0, 1, 0, 0, 0, 0]), ("discharge", [0, 0, 0, 1, 0, 0])], ids=str
)
def test_an_event_is_a_step_from_one_status_to_the_next(
    with_model: Callable[..., Hospital], event: str, counts: list[int]
) -> None:
    hospital = with_model(f"{{kind: schedule, events: [{event}]}}")
    found = []
    for status in ("planned", "in-progress", "onleave", "finished", "finished", "entered-in-error"):
        stay(hospital, status)
        found.append(after(hospital, 0.1))
    assert found == counts


def test_two_messages_of_one_admission_are_one_event_and_so_is_its_discharge(
    with_model: Callable[..., Hospital],
) -> None:
    hospital = with_model("{kind: schedule, events: [admission, discharge]}")
    at = hospital.clock.now()
    assert hospital.hl7(adt_a01(ADULT, "A1", at)) == "AA"
    hospital.application.worker.run_one()  # the conversion
    ((patient,),) = [{job["patient"] for job in pending(hospital, "assess")}]
    hospital.work()
    assert hospital.hl7(adt_a01(ADULT, "A2", at + timedelta(minutes=1))) == "AA"
    hospital.application.worker.run_one()
    assert pending(hospital, "assess") == []
    discharged = at + timedelta(minutes=2)
    for number, expected in (("A3", [patient]), ("A4", [])):
        assert hospital.hl7(adt_a03(ADULT, number, discharged)) == "AA"
        hospital.application.worker.run_one()
        assert [job["patient"] for job in pending(hospital, "assess")] == expected
        hospital.work()


def test_a_discharge_without_an_admission_is_a_discharge_and_an_outpatient_is_not_admitted(
    with_model: Callable[..., Hospital],
) -> None:
    hospital = with_model("{kind: schedule, events: [admission, discharge]}")
    at = hospital.clock.now()
    assert hospital.hl7(adt_a04(ADULT, "A4", at, visit="V-out")) == "AA"
    hospital.application.worker.run_one()
    assert pending(hospital, "assess") == []
    assert hospital.hl7(adt_a03(ADULT, "A3", at, visit="V-in")) == "AA"
    hospital.application.worker.run_one()
    assert len(pending(hospital, "assess")) == 1


def test_an_encounter_of_nobody_runs_nothing(with_model: Callable[..., Hospital]) -> None:
    hospital = with_model("{kind: schedule, cadence_hours: 6, events: [admission]}")
    stay(hospital, "in-progress", patient=None)
    assert pending(hospital, "assess") == pending(hospital, "scheduled-assess") == []


# cadence


def test_a_cadence_runs_from_admission_to_discharge(with_model: Callable[..., Hospital]) -> None:
    hospital = with_model(SIX_HOURS)
    stay(hospital, "planned")
    assert after(hospital, 1) == 0
    stay(hospital, "in-progress")
    assert [after(hospital, hours) for hours in (0, 5, 1, 6, 6)] == [1, 0, 1, 1, 1]
    stay(hospital, "finished")
    assert [after(hospital, 6) for _ in range(3)] == [0, 0, 0]
    assert pending(hospital, "scheduled-assess") == []


def test_a_change_of_the_encounter_begins_no_second_chain(with_model: Callable[..., Hospital]) -> None:
    hospital = with_model(SIX_HOURS)
    for status in ("in-progress", "onleave", "in-progress"):
        stay(hospital, status)
        after(hospital, 0)
    assert len(pending(hospital, "scheduled-assess")) == 1
    assert [after(hospital, 3) for _ in range(4)] == [0, 1, 0, 1]


def test_a_change_while_a_tick_runs_begins_no_second_chain(with_model: Callable[..., Hospital]) -> None:
    hospital = with_model(SIX_HOURS)
    stay(hospital, "in-progress")
    job = hospital.application.database.write(
        lambda tx: hospital.application.jobs.claim(tx, hospital.application.worker.name)
    )
    assert job is not None
    assert job.step == "scheduled-assess"
    stay(hospital, "onleave")
    assert pending(hospital, "scheduled-assess") == []
    hospital.application.database.write(lambda tx: hospital.application.jobs.release(tx, job.worker or ""))
    assert after(hospital, 0) == 1
    assert len(pending(hospital, "scheduled-assess")) == 1


def test_two_encounters_of_one_patient_share_a_chain_until_both_have_ended(with_model: Callable[..., Hospital]) -> None:
    hospital = with_model(SIX_HOURS)
    stay(hospital, "in-progress", "e1", "EMER")
    after(hospital, 2)
    stay(hospital, "in-progress", "e2", "IMP")
    assert [after(hospital, hours) for hours in (0, 4, 6)] == [0, 1, 1]
    stay(hospital, "finished", "e1", "EMER")
    assert after(hospital, 6) == 1
    stay(hospital, "finished", "e2")
    assert after(hospital, 6) == 0


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled", "unknown"])
def test_an_encounter_that_is_corrected_ends_its_chain(with_model: Callable[..., Hospital], status: str) -> None:
    hospital = with_model(SIX_HOURS)
    stay(hospital, "in-progress")
    after(hospital, 0)
    stay(hospital, status)
    assert after(hospital, 6) == 0
    assert pending(hospital, "scheduled-assess") == []


def test_an_encounter_that_is_deleted_ends_its_chain(with_model: Callable[..., Hospital]) -> None:
    hospital = with_model(SIX_HOURS)
    stay(hospital, "in-progress")
    after(hospital, 0)
    assert httpx.delete(f"{hospital.url}/Encounter/e1").is_success
    assert after(hospital, 6) == 0
    assert pending(hospital, "scheduled-assess") == []


def test_an_encounter_that_is_moved_takes_its_chain_to_the_other_patient(with_model: Callable[..., Hospital]) -> None:
    hospital = with_model(SIX_HOURS)
    stay(hospital, "in-progress")
    after(hospital, 0)
    stay(hospital, "in-progress", patient="p2")
    assert after(hospital, 6) == 1  # declined for p2, of whom nothing is known
    assert [job["patient"] for job in pending(hospital, "scheduled-assess")] == ["Patient/p2"]
    assert {row.subject for row in hospital.results()[-1:]} == {"Patient/p2"}


def test_a_discharge_that_is_taken_back_begins_the_chain_again(with_model: Callable[..., Hospital]) -> None:
    hospital = with_model(SIX_HOURS)
    for status in ("in-progress", "finished"):
        stay(hospital, status)
        after(hospital, 6)
    stay(hospital, "in-progress")
    assert [after(hospital, hours) for hours in (0, 6)] == [1, 1]


def test_after_an_outage_the_model_runs_once_and_then_at_the_times_as_before(
    with_model: Callable[..., Hospital],
) -> None:
    hospital = with_model(SIX_HOURS)
    stay(hospital, "in-progress")
    assert [after(hospital, hours) for hours in (0, 62, 3, 1)] == [1, 1, 0, 1]


def test_a_tick_whose_inputs_are_those_of_the_last_one_adds_no_result(with_model: Callable[..., Hospital]) -> None:
    hospital = with_model(SIX_HOURS)
    measure(hospital)
    stay(hospital, "in-progress")
    hospital.work()
    hospital.clock.advance(6 * HOUR_S)
    hospital.work()
    assert [row.kind for row in hospital.results() if row.model == MODEL] == ["prediction"]
    hospital.clock.advance(7 * HOUR_S)  # the pulse leaves the window of 12 hours: the inputs are others
    hospital.work()
    assert runs(hospital) == 2


def test_a_restart_keeps_the_chain_and_begins_no_second_one(with_model: Callable[..., Hospital]) -> None:
    hospital = with_model(SIX_HOURS)
    stay(hospital, "in-progress")
    after(hospital, 0)
    restarted = build(hospital.application.settings, clock=hospital.clock)
    try:
        restarted.database.write(lambda tx: start_cadences(tx, restarted.jobs))
        restarted.worker.register()
        hospital.clock.advance(6 * HOUR_S)
        measure(hospital)
        while restarted.worker.run_one():
            pass
        assert runs(hospital) == 2
        assert len(pending(hospital, "scheduled-assess")) == 1
    finally:
        restarted.close()


# the model's life


def test_a_model_that_is_registered_while_patients_are_admitted_begins_with_them(
    hospital: Hospital, tmp_path: Path
) -> None:
    put_patient(hospital)
    stay(hospital, "in-progress", "e1")
    stay(hospital, "finished", "e2", patient="p2")
    stay(hospital, "in-progress", "e3", "AMB", patient="p3")
    measure(hospital)
    operations.register(hospital.application.operations, SERVER, pulse_risk(tmp_path / "v1", trigger=SIX_HOURS))
    assert after(hospital, 0) == 1
    assert [job["patient"] for job in pending(hospital, "scheduled-assess")] == ["Patient/p1"]


def test_a_model_from_the_settings_begins_when_the_server_starts(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_patient(hospital)
    stay(hospital, "in-progress")
    measure(hospital)
    hospital.work()
    settings = replace(hospital.application.settings, model_dirs=(pulse_risk(tmp_path / "v1", trigger=SIX_HOURS),))
    restarted = build(settings, clock=hospital.clock)
    monkeypatch.setattr(restarted.worker, "start", restarted.worker.register)  # no threads: the test does the work
    monkeypatch.setattr(restarted.writer, "warm_up", lambda: None)
    monkeypatch.setattr(restarted.runtime, "warm_up", lambda: None)
    restarted.start()
    try:
        while restarted.worker.run_one():
            pass
        assert runs(hospital) == 1
    finally:
        restarted.close()


def test_without_a_cadence_nobody_looks_for_patients(with_model: Callable[..., Hospital]) -> None:
    hospital = with_model("{kind: schedule, events: [admission]}")
    stay(hospital, "in-progress")
    hospital.work()
    hospital.application.database.write(lambda tx: start_cadences(tx, hospital.application.jobs))
    with hospital.application.database.read() as connection:
        assert hospital.application.jobs.listing(connection, "waiting") == []


def test_a_new_version_takes_over_the_chain(with_model: Callable[..., Hospital], tmp_path: Path) -> None:
    hospital = with_model(SIX_HOURS)
    context = hospital.application.operations
    operations.activate(context, SERVER, MODEL)
    stay(hospital, "in-progress")
    after(hospital, 0)
    hospital.clock.advance(HOUR_S)
    two_hours = "{kind: schedule, cadence_hours: 2}"
    operations.register(context, SERVER, pulse_risk(tmp_path / "v2", version="2.0.0", trigger=two_hours))
    operations.activate(context, SERVER, MODEL, "2.0.0")
    assert [after(hospital, hours) for hours in (0, 5, 2, 2)] == [0, 1, 1, 1]
    assert versions(hospital) == ["1.0.0", "2.0.0", "2.0.0", "2.0.0"]
    assert len(pending(hospital, "scheduled-assess")) == 1


def test_versions_in_shadow_run_at_the_ticks_of_the_active_one(
    with_model: Callable[..., Hospital], tmp_path: Path
) -> None:
    hospital = with_model(SIX_HOURS)
    context = hospital.application.operations
    operations.activate(context, SERVER, MODEL)
    operations.register(context, SERVER, pulse_risk(tmp_path / "v2", version="2.0.0", trigger=SIX_HOURS))
    stay(hospital, "in-progress")
    assert [after(hospital, hours) for hours in (0, 6)] == [2, 2]
    assert sorted(versions(hospital)) == ["1.0.0", "1.0.0", "2.0.0", "2.0.0"]


def test_a_retired_model_ends_its_chain(with_model: Callable[..., Hospital]) -> None:
    hospital = with_model(SIX_HOURS)
    stay(hospital, "in-progress")
    after(hospital, 0)
    operations.retire(hospital.application.operations, SERVER, MODEL)
    assert after(hospital, 6) == 0
    assert pending(hospital, "scheduled-assess") == []


def test_a_stopped_model_says_so_once_and_begins_again_when_it_is_resumed(with_model: Callable[..., Hospital]) -> None:
    hospital = with_model(SIX_HOURS)
    stay(hospital, "in-progress")
    after(hospital, 0)
    operations.stop(hospital.application.operations, SERVER, MODEL, "drift")
    assert [after(hospital, 6) for _ in range(3)] == [1, 0, 0]
    ours = [row for row in hospital.results() if row.model == MODEL]
    assert ours[-1].summary == "AI result not available: the model was stopped: drift"
    assert pending(hospital, "scheduled-assess") == []
    operations.resume(hospital.application.operations, SERVER, MODEL, "repaired")
    assert [after(hospital, hours) for hours in (0, 6)] == [1, 1]


# documents


def note(hospital: Hospital, name: str = "d1", **changes: Any) -> None:
    kind = {"coding": [{"system": "http://loinc.org", "code": "11506-3"}]}
    subject = {"reference": "Patient/p1"}
    content = [{"attachment": {"contentType": "text/plain", "data": "V2VsbC4="}}]
    put(
        hospital,
        "DocumentReference",
        name,
        **{"status": "current", "type": kind, "subject": subject, "content": content, **changes},
    )


def test_each_document_is_one_run_on_that_document(with_model: Callable[..., Hospital]) -> None:
    hospital = with_model("{kind: document, document_types: [11506-3]}")
    note(hospital)
    note(hospital, description="the same document, changed before it was read")
    note(hospital, "d2")
    note(hospital, "d3", type={"coding": [{"system": "http://loinc.org", "code": "34117-2"}]})
    about = {"model": MODEL, "version": "1.0.0", "patient": "Patient/p1"}
    assert pending(hospital, "assess") == [
        about | {"document": "DocumentReference/d1"},
        about | {"document": "DocumentReference/d2"},
    ]


def test_a_draft_is_read_when_it_is_complete_and_a_document_of_nobody_never(
    with_model: Callable[..., Hospital],
) -> None:
    hospital = with_model("{kind: document}")
    note(hospital, docStatus="preliminary")
    note(hospital, "d2", subject={"display": "somebody"})
    assert pending(hospital, "assess") == []
    note(hospital, docStatus="final")
    assert [job["document"] for job in pending(hospital, "assess")] == ["DocumentReference/d1"]


def test_what_this_server_writes_is_no_document_to_read(with_model: Callable[..., Hospital]) -> None:
    """A result brings a model card, and a report that a person has signed keeps its label."""
    hospital = with_model("{kind: document}")
    hospital.admit()
    hospital.hl7(hospital.vitals(**ILL))
    hospital.work()
    assert len(hospital.all("DocumentReference")) == 1
    label = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "AIAST"}
    code = {"coding": [{"system": "http://loinc.org", "code": "18748-4"}]}
    signed = {"status": "final", "code": code, "subject": {"reference": "Patient/p1"}, "conclusion": "Pneumonia."}
    put(hospital, "DiagnosticReport", "ours", meta={"security": [label]}, **signed)
    assert pending(hospital, "assess") == []
    assert runs(hospital) == 0
    put(hospital, "DiagnosticReport", "theirs", **signed)
    assert [job["document"] for job in pending(hospital, "assess")] == ["DiagnosticReport/theirs"]
