"""Subscriptions of the R5 backport: topics, handshake, heartbeat, the three contents, ``$status`` and ``$events``."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from fhir_adapter.store.document import of
from fhir_adapter.store.validate import Validator
from fhir_adapter.subscriptions.topics import TOPICS
from privacy.principal import Principal
from service.operations import subscriptions as operations

from .hospital import Hospital
from .subscriber import Subscriber, named, on_topic, rest_hook
from .test_dicom_path import CHEST
from .test_subscriptions import heart_rate, opened, post, put, refusal

NEW = "urn:ausculta:topic:new-result"
REPLACED = "urn:ausculta:topic:result-replaced"
NONE = "urn:ausculta:topic:no-result"


@pytest.fixture
def subscriber() -> Iterator[Subscriber]:
    server = Subscriber()
    yield server
    server.close()


@pytest.fixture
def hospital(open_hospital: Callable[..., Hospital]) -> Hospital:
    return opened(open_hospital)


def result(value: int, status: str = "preliminary", **more: Any) -> dict[str, Any]:
    """Return what a model states."""
    return heart_rate(value) | {
        "status": status,
        "meta": {
            "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "AIAST"}],
            **more.pop("meta", {}),
        },
        "identifier": [{"system": "urn:ausculta:result", "value": f"r{value}"}],
        **more,
    }


def operation(hospital: Hospital, path: str) -> dict[str, Any]:
    return hospital.get(f"Subscription/{path}")


def test_a_handshake_comes_first_and_activates_it(hospital: Hospital, subscriber: Subscriber) -> None:
    subscriber.status = 500
    asked = post(hospital, on_topic(subscriber.url, NEW))
    (handshake,) = subscriber.take()
    assert handshake.kind == "handshake"
    assert handshake.headers["Content-Type"] == "application/fhir+json"
    assert named(handshake.status, "events-since-subscription-start")["valueString"] == "0"
    assert hospital.get(f"Subscription/{asked['id']}")["status"] == "requested"
    post(hospital, result(1))
    subscriber.status = 200
    hospital.clock.advance(60)
    hospital.work()
    assert [it.kind for it in subscriber.take()] == ["handshake", "event-notification"]
    assert hospital.get(f"Subscription/{asked['id']}")["status"] == "active"


def test_a_person_can_have_the_handshake_tried_at_once(hospital: Hospital, subscriber: Subscriber) -> None:
    subscriber.status = 500
    asked = post(hospital, on_topic(subscriber.url, NEW))
    for _ in range(5):
        hospital.clock.advance(3600)
        hospital.work()
    subscriber.status = 200
    hospital.work()
    assert hospital.get(f"Subscription/{asked['id']}")["status"] == "requested"
    person = Principal(client="command line", client_address="", user="person")
    operations.replay(hospital.application.operations, person, asked["id"])
    hospital.work()
    assert hospital.get(f"Subscription/{asked['id']}")["status"] == "active"


def test_what_is_sent_is_valid_r4(hospital: Hospital, subscriber: Subscriber) -> None:
    post(hospital, on_topic(subscriber.url, NEW, "full-resource"))
    post(hospital, result(1))
    validator = Validator()
    sent = subscriber.take()
    assert [it.kind for it in sent] == ["handshake", "event-notification"]
    for request in sent:
        validator.check(of(request.json))
        assert request.json["type"] == "history"


@pytest.mark.parametrize(
    ("content", "has_focus", "has_resource"),
    [("empty", False, False), ("id-only", True, False), ("full-resource", True, True)],
)
def test_the_content_is_what_was_asked_for(
    hospital: Hospital, subscriber: Subscriber, content: str, has_focus: bool, has_resource: bool
) -> None:
    post(hospital, on_topic(subscriber.url, NEW, content))
    made = post(hospital, result(1))
    _, sent = subscriber.take()
    event = named(sent.status, "notification-event")
    assert [part["name"] for part in event["part"]] == ["event-number", "timestamp"] + ["focus"] * has_focus
    assert len(sent.json["entry"]) == 1 + has_focus
    assert any("resource" in it for it in sent.json["entry"][1:]) is has_resource
    if has_focus:
        assert sent.json["entry"][1]["fullUrl"].endswith(f"/fhir/Observation/{made['id']}")
    if has_resource:
        assert sent.json["entry"][1]["resource"] == made


def test_the_topics_tell_results_apart(hospital: Hospital, subscriber: Subscriber) -> None:
    for topic in (NEW, REPLACED, NONE):
        post(hospital, on_topic(f"{subscriber.url}/{topic.rpartition(':')[2]}", topic))
    subscriber.take()
    post(hospital, heart_rate(1))
    stated = post(hospital, result(2))
    absent = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "error"}]}
    nothing = result(3, dataAbsentReason=absent)
    del nothing["valueQuantity"]
    post(hospital, nothing)
    put(hospital, {**stated, "status": "entered-in-error"})
    assert [it.path for it in subscriber.take()] == ["/hook/new-result", "/hook/no-result", "/hook/result-replaced"]


def test_a_models_own_result_is_notified(hospital: Hospital, subscriber: Subscriber) -> None:
    post(hospital, on_topic(subscriber.url, NEW, "id-only", "RiskAssessment?"))
    subscriber.take()
    hospital.admit()
    hospital.hl7(hospital.vitals())
    hospital.work()
    (sent,) = subscriber.take()
    assert "RiskAssessment/" in sent.json["entry"][1]["fullUrl"]


def test_a_result_that_replaces_another_is_notified_once(hospital: Hospital, subscriber: Subscriber) -> None:
    post(hospital, on_topic(subscriber.url, REPLACED))
    subscriber.take()
    hospital.dicom(replace(CHEST, view="AP", instance=2))
    hospital.rest()
    assert subscriber.take() == []
    hospital.dicom(CHEST)  # PA, which the model prefers
    hospital.rest()
    (sent,) = subscriber.take()
    assert "Provenance/" in sent.json["entry"][1]["fullUrl"]


def test_filters_narrow_a_topic(hospital: Hospital, subscriber: Subscriber) -> None:
    post(hospital, on_topic(subscriber.url, NEW, "id-only", "Observation?value-quantity=gt5"))
    subscriber.take()
    for value in (4, 6):
        post(hospital, result(value))
    assert [it.numbers for it in subscriber.take()] == [[1]]


@pytest.mark.parametrize(
    "wrong", ["Observation?subject.name=x", "Patient?name=x", "Observation?_count=1", "Observation?nonsense=1"]
)
def test_a_filter_that_cannot_be_honoured_is_refused(hospital: Hospital, subscriber: Subscriber, wrong: str) -> None:
    assert refusal(hospital, on_topic(subscriber.url, NEW, "id-only", wrong))


def test_other_extensions_of_the_backport_are_refused(hospital: Hospital, subscriber: Subscriber) -> None:
    assert refusal(hospital, on_topic(subscriber.url, NEW, "everything"))
    assert refusal(hospital, on_topic(subscriber.url, NEW, additional_channel_type=1))
    assert refusal(hospital, rest_hook(subscriber.url, NEW))
    for number in ({"heartbeat_period": 9}, {"timeout": 31}, {"max_count": 101}):
        assert "whole number" in refusal(hospital, on_topic(subscriber.url, NEW, **number))
    assert refusal(hospital, on_topic(subscriber.url, "urn:ausculta:topic:other"))


def test_a_shadow_result_is_notified_only_where_its_tag_is_asked_for(
    hospital: Hospital, subscriber: Subscriber
) -> None:
    post(hospital, on_topic(f"{subscriber.url}/all", NEW))
    post(hospital, on_topic(f"{subscriber.url}/shadow", NEW, "id-only", "Observation?_tag=shadow"))
    subscriber.take()
    post(hospital, result(1, meta={"tag": [{"system": "urn:ausculta:model-status", "code": "shadow"}]}))
    assert [it.path for it in subscriber.take()] == ["/hook/shadow"]


def test_a_heartbeat_comes_when_nothing_else_did(hospital: Hospital, subscriber: Subscriber) -> None:
    post(hospital, on_topic(subscriber.url, NEW, heartbeat_period=60))
    subscriber.take()
    for seconds, expected in ((59, []), (1, ["heartbeat"]), (30, [])):
        hospital.clock.advance(seconds)
        hospital.work()
        assert [it.kind for it in subscriber.take()] == expected
    post(hospital, result(1))
    assert [it.kind for it in subscriber.take()] == ["event-notification"]
    hospital.clock.advance(59)
    hospital.work()
    assert subscriber.take() == []
    hospital.clock.advance(1)
    hospital.work()
    (beat,) = subscriber.take()
    assert named(beat.status, "events-since-subscription-start")["valueString"] == "1"


def test_events_that_wait_go_together_up_to_the_count_asked_for(hospital: Hospital, subscriber: Subscriber) -> None:
    post(hospital, on_topic(subscriber.url, NEW, max_count=2))
    subscriber.status = 503
    for value in range(5):
        post(hospital, result(value))
    subscriber.take()
    subscriber.status = 200
    hospital.clock.advance(60)
    hospital.work()
    sent = subscriber.take()
    assert [it.numbers for it in sent] == [[1], [2, 3], [4, 5]] or [it.numbers for it in sent] == [[1, 2], [3, 4], [5]]


def test_a_repeated_notification_has_the_same_number_and_id(hospital: Hospital, subscriber: Subscriber) -> None:
    post(hospital, on_topic(subscriber.url, NEW))
    subscriber.take()
    subscriber.status = 500
    post(hospital, result(1))
    hospital.clock.advance(10)
    hospital.work()
    first, second = subscriber.take()
    assert first.numbers == second.numbers == [1]
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


def test_status_and_events_can_be_asked_for(hospital: Hospital, subscriber: Subscriber) -> None:
    asked = post(hospital, on_topic(subscriber.url, NEW))
    other = post(hospital, on_topic(subscriber.url, NONE))
    for value in range(1, 5):
        post(hospital, result(value))
    own = operation(hospital, f"{asked['id']}/$status")["entry"][0]["resource"]
    assert (named(own, "type")["valueCode"], named(own, "status")["valueCode"]) == ("query-status", "active")
    assert named(own, "events-since-subscription-start")["valueString"] == "4"
    assert operation(hospital, "$status")["total"] == 2
    assert operation(hospital, f"$status?id={other['id']}")["total"] == 1
    assert operation(hospital, "$status?status=error")["total"] == 0
    answer = operation(hospital, f"{asked['id']}/$events?eventsSinceNumber=2&eventsUntilNumber=3&content=full-resource")
    numbers = [
        named(part, "event-number", "part")["valueString"]
        for part in answer["entry"][0]["resource"]["parameter"]
        if part["name"] == "notification-event"
    ]
    assert numbers == ["2", "3"]
    assert [it["resource"]["valueQuantity"]["value"] for it in answer["entry"][1:]] == [2, 3]
    Validator().check(of(answer))
    for wrong in ("$events?eventsSinceNumber=x", "$events?nonsense=1", "$status?nonsense=1"):
        assert httpx.get(f"{hospital.url}/Subscription/{asked['id']}/{wrong}").status_code == 400
    assert httpx.get(f"{hospital.url}/Subscription/none/$events").status_code == 404


def test_events_recorded_while_it_was_in_error_can_be_asked_for(
    open_hospital: Callable[..., Hospital], subscriber: Subscriber
) -> None:
    hospital = opened(open_hospital, subscription_retry_days=0.1)
    asked = post(hospital, on_topic(subscriber.url, NEW))
    subscriber.status = 500
    for value in (1, 2):
        post(hospital, result(value))
        for _ in range(4):
            hospital.clock.advance(3600)
            hospital.work()
    own = operation(hospital, f"{asked['id']}/$status")["entry"][0]["resource"]
    assert named(own, "status")["valueCode"] == "error"
    assert "500" in named(own, "error")["valueCodeableConcept"]["text"]
    assert len(operation(hospital, f"{asked['id']}/$events")["entry"]) == 3


def test_metadata_names_the_topics(hospital: Hospital) -> None:
    (stated,) = [it for it in hospital.get("metadata")["rest"][0]["resource"] if it["type"] == "Subscription"]
    assert [it["valueCanonical"] for it in stated["extension"]] == list(TOPICS)
    assert {it["name"] for it in stated["operation"]} == {"validate", "status", "events"}
