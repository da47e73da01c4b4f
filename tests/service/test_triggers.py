"""What each kind of trigger decides: pure functions of the manifest's trigger and of a resource before and after."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest

from inference.manifest import Trigger
from inference.manifest.records import TriggerKind
from service import triggers
from service.triggers import TRIGGERS
from service.triggers.cadence import next_due
from service.triggers.contract import Change, Decision, Repeat, Run

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
P1, P2 = "Patient/p1", "Patient/p2"
AIAST = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "AIAST"}]}


def decide(
    trigger: Trigger, after: dict[str, Any] | None, before: dict[str, Any] | None = None, patient: str | None = P1
) -> Sequence[Decision]:
    """Ask the rule of the trigger's kind about a change of a resource named ``x``."""
    kind = (after or before or {})["resourceType"]
    if patient and kind in {"Observation", "DocumentReference", "DiagnosticReport"}:
        subject = {"subject": {"reference": patient}}
        after, before = (resource and subject | resource for resource in (after, before))
    version = 1 if before is None else 2
    change = Change(type=kind, id="x", version=version, patient=patient, before=before, after=after, at=NOW)
    rule = TRIGGERS[trigger.kind]
    return rule.decide(trigger, change) if kind in rule.types else ()


def test_every_kind_that_a_manifest_may_declare_has_a_rule_and_a_file() -> None:
    assert set(TRIGGERS) == set(get_args(TriggerKind))
    files = {path.stem for path in Path(triggers.__file__).parent.glob("*.py")}
    assert set(TRIGGERS) == files - {"__init__", "contract", "table", "observer", "enqueue", "cadence"}


# codes

PULSE = Trigger(kind="codes", codes=("8867-4",))


def observation(code: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "status": "final", "code": {"coding": [{"code": code}]}} | more


def test_an_observation_runs_the_models_that_name_one_of_its_codes() -> None:
    assert list(decide(PULSE, observation("8867-4"))) == [Run(patient=P1)]
    assert list(decide(PULSE, observation("9999-9"))) == []
    panel = observation("85354-9", component=[{"code": {"coding": [{"code": "8867-4"}]}}])
    assert list(decide(PULSE, panel)) == [Run(patient=P1)]


def test_an_observation_of_ours_or_of_nobody_runs_nothing() -> None:
    assert list(decide(PULSE, observation("8867-4", meta=AIAST))) == []
    assert list(decide(PULSE, observation("8867-4"), patient=None)) == []
    assert list(decide(PULSE, None, observation("8867-4", meta=AIAST))) == []


def test_an_observation_that_goes_runs_again_what_has_a_result() -> None:
    pulse, of_p2 = observation("8867-4"), {"subject": {"reference": P2}}
    assert list(decide(PULSE, None, pulse)) == [Run(patient=P1, again=True)]
    assert list(decide(PULSE, observation("9999-9"), pulse)) == [Run(patient=P1, again=True)]
    assert list(decide(PULSE, None, observation("9999-9"))) == []
    assert list(decide(PULSE, pulse | of_p2, pulse)) == [Run(patient=P2), Run(patient=P1, again=True)]


def test_a_document_that_goes_runs_again_what_has_a_result() -> None:
    gone = [Run(patient=P1, document="DocumentReference/x", again=True)]
    assert list(decide(NOTES, None, document())) == gone
    assert list(decide(NOTES, document(status="entered-in-error"), document())) == gone
    assert list(decide(NOTES, document("99999-9"), document())) == gone
    assert list(decide(NOTES, None, document(status="superseded"))) == []


def test_a_changed_patient_runs_again_what_has_a_result() -> None:
    patient = {"resourceType": "Patient", "id": "p1"}
    assert list(decide(PULSE, patient)) == []
    assert list(decide(PULSE, patient | {"birthDate": "1950-01-01"}, patient)) == [Run(patient=P1, again=True)]


# document

NOTES = Trigger(kind="document", document_types=("11506-3", "18842-5"))
ALL_DOCUMENTS = Trigger(kind="document")


def document(code: str = "11506-3", status: str = "current", **more: Any) -> dict[str, Any]:
    kind = {"coding": [{"system": "http://loinc.org", "code": code}]}
    return {"resourceType": "DocumentReference", "status": status, "type": kind} | more


def report(status: str = "final", code: str = "18748-4", **more: Any) -> dict[str, Any]:
    return {"resourceType": "DiagnosticReport", "status": status, "code": {"coding": [{"code": code}]}} | more


@pytest.mark.parametrize("after", [document(), document("18842-5"), document(docStatus="final")])
def test_a_document_of_a_declared_type_runs_the_model_on_itself(after: dict[str, Any]) -> None:
    assert list(decide(NOTES, after)) == [Run(patient=P1, document="DocumentReference/x")]
    assert list(decide(NOTES, after | {"description": "new"}, after)) == [
        Run(patient=P1, document="DocumentReference/x")
    ]


def test_without_declared_types_every_document_counts() -> None:
    assert list(decide(NOTES, document("99999-9"))) == []
    untyped = {"resourceType": "DocumentReference", "status": "current"}
    assert list(decide(NOTES, untyped)) == []
    for one in (document("99999-9"), untyped):
        assert list(decide(ALL_DOCUMENTS, one)) == [Run(patient=P1, document="DocumentReference/x")]


@pytest.mark.parametrize(
    "after",
    [
        document(status="superseded"),
        document(status="entered-in-error"),
        document(docStatus="preliminary"),
        document(docStatus="entered-in-error"),
        document(meta=AIAST),
    ],
)
def test_a_draft_a_withdrawn_document_and_one_of_ours_run_nothing(after: dict[str, Any]) -> None:
    assert list(decide(ALL_DOCUMENTS, after)) == []


def test_a_document_about_nobody_such_as_a_model_card_runs_nothing() -> None:
    assert list(decide(ALL_DOCUMENTS, document(), patient=None)) == []


def test_a_report_with_text_is_a_document() -> None:
    as_document = [Run(patient=P1, document="DiagnosticReport/x")]
    assert list(decide(ALL_DOCUMENTS, report(conclusion="No fracture."))) == as_document
    assert list(decide(ALL_DOCUMENTS, report("amended", presentedForm=[{"contentType": "text/plain"}]))) == as_document
    assert (
        list(decide(Trigger(kind="document", document_types=("18748-4",)), report(conclusion="None."))) == as_document
    )
    assert list(decide(ALL_DOCUMENTS, report())) == []
    assert list(decide(ALL_DOCUMENTS, report("preliminary", conclusion="No fracture?"))) == []
    assert list(decide(ALL_DOCUMENTS, report(conclusion="No fracture.", meta=AIAST))) == []
    assert list(decide(NOTES, report(conclusion="No fracture."))) == []


# schedule

EVENTS = {
    "admission": Trigger(kind="schedule", events=("admission",)),
    "discharge": Trigger(kind="schedule", events=("discharge",)),
}
CADENCE = Trigger(kind="schedule", cadence_hours=Decimal(6))


def encounter(status: str, kind: str = "IMP", patient: str | None = P1, **more: Any) -> dict[str, Any]:
    subject = {"subject": {"reference": patient}} if patient else {}
    return {"resourceType": "Encounter", "status": status, "class": {"code": kind}} | subject | more


def ended(hours_ago: float) -> dict[str, Any]:
    return {"period": {"end": (NOW - timedelta(hours=hours_ago)).isoformat()}}


@pytest.mark.parametrize(
    ("before", "after", "event"),
    [
        (None, encounter("planned"), None),
        (None, encounter("in-progress"), "admission"),
        (encounter("planned"), encounter("in-progress"), "admission"),
        (encounter("arrived"), encounter("in-progress"), "admission"),
        (encounter("in-progress"), encounter("in-progress", location=[]), None),
        (encounter("in-progress"), encounter("onleave"), None),
        (encounter("onleave"), encounter("in-progress"), None),
        (encounter("in-progress"), encounter("finished"), "discharge"),
        (encounter("onleave"), encounter("finished"), "discharge"),
        (encounter("planned"), encounter("finished"), "discharge"),
        (encounter("finished"), encounter("finished", location=[]), None),
        (encounter("finished"), encounter("in-progress"), None),
        (encounter("in-progress"), encounter("cancelled"), None),
        (encounter("in-progress"), encounter("entered-in-error"), None),
        (encounter("entered-in-error"), encounter("finished"), None),
        (encounter("entered-in-error"), encounter("in-progress"), "admission"),
        (encounter("in-progress"), None, None),
        # the class: an outpatient is not admitted, an emergency patient is
        (None, encounter("in-progress", "AMB"), None),
        (encounter("in-progress", "AMB"), encounter("finished", "AMB"), None),
        (encounter("in-progress", "AMB"), encounter("in-progress", "IMP"), "admission"),
        (None, encounter("in-progress", "EMER"), "admission"),
        (encounter("in-progress", "EMER"), encounter("in-progress", "IMP"), None),
        (encounter("in-progress", "IMP"), encounter("finished", "AMB"), "discharge"),
        # a discharge whose admission was never sent, and the stays of the past that an EHR loads
        (None, encounter("finished", **ended(1)), "discharge"),
        (None, encounter("finished", **ended(25)), None),
        (None, encounter("finished"), None),
        # moved to the right patient
        (encounter("in-progress", patient=P2), encounter("in-progress"), "admission"),
    ],
)
def test_the_events_of_an_encounter(
    before: dict[str, Any] | None, after: dict[str, Any] | None, event: str | None
) -> None:
    for name, trigger in EVENTS.items():
        assert list(decide(trigger, after, before)) == ([Run(patient=P1)] if name == event else [])


@pytest.mark.parametrize(
    ("after", "repeats"),
    [
        (encounter("planned"), False),
        (encounter("in-progress"), True),
        (encounter("onleave"), True),
        (encounter("finished"), False),
        (encounter("in-progress", "AMB"), False),
        *((encounter("in-progress", kind), True) for kind in ("ACUTE", "NONAC", "OBSENC", "EMER")),
    ],
)
def test_a_cadence_runs_while_the_patient_is_admitted(after: dict[str, Any], repeats: bool) -> None:
    for before in (None, encounter("in-progress"), encounter("finished")):
        assert list(decide(CADENCE, after, before)) == ([Repeat(patient=P1)] if repeats else [])


def test_an_encounter_of_nobody_decides_nothing() -> None:
    for trigger in (*EVENTS.values(), CADENCE):
        assert list(decide(trigger, encounter("in-progress", patient=None), patient=None)) == []


def test_missed_ticks_are_left_out_and_the_grid_is_kept() -> None:
    six = timedelta(hours=6)
    assert next_due(NOW, NOW, six) == NOW + six
    assert next_due(NOW, NOW + timedelta(minutes=3), six) == NOW + six
    assert next_due(NOW, NOW + six, six) == NOW + 2 * six
    assert next_due(NOW, NOW + timedelta(hours=61), six) == NOW + 11 * six


# study


def test_no_change_of_a_resource_triggers_a_model_of_studies() -> None:
    for resource in (observation("8867-4"), document(), encounter("in-progress")):
        assert decide(Trigger(kind="study"), resource) == ()
