"""Subscriptions of R4 (subscription.html): what is sent, in which order, and what becomes of a bad subscriber."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from kernel.errors import Problem
from privacy.principal import Principal
from service.flows.notify import AT_A_TIME
from service.operations import subscriptions as operations

from .hospital import Hospital
from .subscriber import Dripping, Subscriber, rest_hook

HEART_RATE = "8867-4"


@pytest.fixture
def subscriber() -> Iterator[Subscriber]:
    server = Subscriber()
    yield server
    server.close()


@pytest.fixture
def hospital(open_hospital: Callable[..., Hospital]) -> Hospital:
    return opened(open_hospital)


def opened(open_hospital: Callable[..., Hospital], **changes: Any) -> Hospital:
    """Open a hospital without destinations that may notify loopback."""
    alone = {"ehr_url": "", "interface_engine": None, "pacs": None}
    return open_hospital(**{**alone, "subscription_hosts": ("127.0.0.1",), **changes})


def heart_rate(value: int, code: str = HEART_RATE, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "valueQuantity": {"value": value, "unit": "/min"},
        **more,
    }


def post(hospital: Hospital, resource: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(f"{hospital.url}/{resource['resourceType']}", json=resource)
    assert answer.status_code == 201, answer.text
    hospital.work()
    return answer.json()


def put(hospital: Hospital, resource: dict[str, Any]) -> httpx.Response:
    answer = httpx.put(f"{hospital.url}/{resource['resourceType']}/{resource['id']}", json=resource)
    hospital.work()
    return answer


def refusal(hospital: Hospital, resource: dict[str, Any]) -> str:
    answer = httpx.post(f"{hospital.url}/Subscription", json=resource)
    assert answer.status_code == 422, answer.text
    return answer.json()["issue"][0]["details"]["text"]


def values(subscriber: Subscriber) -> list[int]:
    return [it.json["valueQuantity"]["value"] for it in subscriber.take()]


def test_each_matching_create_and_update_is_put_to_the_endpoint_in_its_order(
    hospital: Hospital, subscriber: Subscriber
) -> None:
    asked = post(hospital, rest_hook(subscriber.url, f"Observation?code=http://loinc.org|{HEART_RATE}"))
    assert hospital.get(f"Subscription/{asked['id']}")["status"] == "active"
    first = post(hospital, heart_rate(80))
    post(hospital, heart_rate(20, code="9279-1"))
    put(hospital, {**heart_rate(81), "id": first["id"]})
    sent = subscriber.take()
    assert [(it.method, it.path) for it in sent] == [("PUT", f"/hook/Observation/{first['id']}")] * 2
    assert [it.json["meta"]["versionId"] for it in sent] == ["1", "2"]
    assert sent[0].json == first
    assert sent[0].headers["Content-Type"] == "application/fhir+json"


def test_without_a_payload_an_empty_post_is_sent(hospital: Hospital, subscriber: Subscriber) -> None:
    asked = rest_hook(subscriber.url, "Observation?")
    del asked["channel"]["payload"]
    post(hospital, asked)
    post(hospital, heart_rate(80))
    (sent,) = subscriber.take()
    assert (sent.method, sent.path, sent.body) == ("POST", "/hook", b"")


def test_a_transaction_notifies_of_each_of_its_resources(hospital: Hospital, subscriber: Subscriber) -> None:
    post(hospital, rest_hook(subscriber.url, "Observation?value-quantity=gt100"))
    entries = [
        {"resource": heart_rate(value), "request": {"method": "POST", "url": "Observation"}} for value in (99, 101, 102)
    ]
    httpx.post(hospital.url, json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    hospital.work()
    assert values(subscriber) == [101, 102]


@pytest.mark.parametrize(
    "criteria",
    [
        "Observation?subject.name=x",
        "Patient?_has:Observation:patient:code=1",
        "Observation?_count=5",
        "Observation?_include=Observation:subject",
        "Observation?nonsense=1",
        "Observation?code:above=1",
        "Nonsense?code=1",
        "AuditEvent?action=R",
        "Subscription?status=active",
        "urn:ausculta:topic:nonsense",
    ],
)
def test_criteria_that_cannot_be_watched_are_refused(hospital: Hospital, subscriber: Subscriber, criteria: str) -> None:
    assert refusal(hospital, rest_hook(subscriber.url, criteria))
    assert hospital.get("Subscription").get("entry", []) == []


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://169.254.169.254/latest",
        "http://127.0.0.1.evil.example/",
        "http://127.0.0.1@evil.example/",
        "http://localhost:1/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "http://127.0.0.1:99999/",
        "http:127.0.0.1/",
    ],
)
def test_an_endpoint_that_the_site_has_not_allowed_is_refused(hospital: Hospital, endpoint: str) -> None:
    assert refusal(hospital, rest_hook(endpoint, "Observation?"))


def test_no_host_is_allowed_unless_the_settings_name_it(
    open_hospital: Callable[..., Hospital], subscriber: Subscriber
) -> None:
    hospital = opened(open_hospital, subscription_hosts=())
    assert "SUBSCRIPTION_HOSTS" in refusal(hospital, rest_hook(subscriber.url, "Observation?"))


def test_the_server_itself_is_no_endpoint(open_hospital: Callable[..., Hospital]) -> None:
    hospital = opened(open_hospital, public_url="http://127.0.0.1:4711")
    assert "itself" in refusal(hospital, rest_hook("http://127.0.0.1:4711/fhir", "Observation?"))


def test_what_only_the_server_may_set_is_refused(hospital: Hospital, subscriber: Subscriber) -> None:
    asked = rest_hook(subscriber.url, "Observation?")
    assert refusal(hospital, {**asked, "status": "active"})
    assert refusal(hospital, {**asked, "end": "2001-01-01T00:00:00Z"})
    assert refusal(hospital, rest_hook(subscriber.url, "Observation?", type="websocket"))
    assert refusal(hospital, rest_hook(subscriber.url, "Observation?", payload="application/fhir+xml"))


def test_an_active_subscription_keeps_its_status_but_not_with_another_endpoint(
    hospital: Hospital, subscriber: Subscriber
) -> None:
    asked = post(hospital, rest_hook(subscriber.url, "Observation?"))
    present = hospital.get(f"Subscription/{asked['id']}")
    assert put(hospital, {**present, "reason": "another"}).status_code == 200
    moved = {**present, "channel": {**present["channel"], "endpoint": f"{subscriber.url}/2"}}
    assert put(hospital, moved).status_code == 422
    assert put(hospital, {**moved, "status": "requested"}).status_code == 200
    assert hospital.get(f"Subscription/{asked['id']}")["status"] == "active"


def test_a_header_is_sent_and_cannot_be_read_or_copied_to_another_endpoint(
    hospital: Hospital, subscriber: Subscriber
) -> None:
    asked = post(
        hospital, rest_hook(subscriber.url, "Observation?", header=["Authorization: Bearer secret-of-the-app"])
    )
    post(hospital, heart_rate(80))
    assert [it.headers["Authorization"] for it in subscriber.take()] == ["Bearer secret-of-the-app"]
    for path in (f"Subscription/{asked['id']}", f"Subscription/{asked['id']}/_history", "Subscription"):
        assert "secret-of-the-app" not in str(hospital.get(path))
    present = hospital.get(f"Subscription/{asked['id']}")
    stolen = rest_hook(f"{subscriber.url}/thief", "Observation?", header=present["channel"]["header"])
    assert "again" in refusal(hospital, stolen)
    assert put(hospital, {**present, "reason": "with what was read"}).status_code == 200
    post(hospital, heart_rate(81))
    assert [it.headers["Authorization"] for it in subscriber.take()] == ["Bearer secret-of-the-app"]


@pytest.mark.parametrize("header", ["Host: evil", "Content-Length: 5", "A: b\r\nC: d", "no colon"])
def test_a_header_that_would_change_the_request_is_refused(
    hospital: Hospital, subscriber: Subscriber, header: str
) -> None:
    assert refusal(hospital, rest_hook(subscriber.url, "Observation?", header=[header]))


def test_off_stops_it_at_once_and_so_does_its_end(hospital: Hospital, subscriber: Subscriber) -> None:
    asked = post(hospital, rest_hook(subscriber.url, "Observation?"))
    put(hospital, {**hospital.get(f"Subscription/{asked['id']}"), "status": "off"})
    post(hospital, heart_rate(80))
    until = (hospital.clock.now().replace(microsecond=0)).isoformat().replace("+00:00", "Z")
    hospital.clock.advance(-3600)
    ending = post(hospital, rest_hook(subscriber.url, "Observation?") | {"end": until})
    hospital.clock.advance(3601)
    post(hospital, heart_rate(81))
    assert subscriber.take() == []
    assert hospital.get(f"Subscription/{ending['id']}")["status"] == "off"


def test_an_endpoint_that_fails_for_days_gets_everything_in_order_when_it_is_back(
    hospital: Hospital, subscriber: Subscriber
) -> None:
    post(hospital, rest_hook(subscriber.url, "Observation?"))
    subscriber.status = 500
    for value in (1, 2, 3):
        post(hospital, heart_rate(value))
    attempts = len(subscriber.take())
    assert attempts == 1
    for _ in range(2 * 24 * 4):
        hospital.clock.advance(15 * 60)
        hospital.work()
    retried = values(subscriber)
    assert set(retried) == {1}
    assert 40 < len(retried) < 80  # seconds at first, then one an hour
    subscriber.status = 200
    hospital.clock.advance(3600)
    hospital.work()
    assert values(subscriber) == [1, 2, 3]


def test_after_the_days_of_the_setting_it_is_in_error_and_its_events_wait(
    open_hospital: Callable[..., Hospital], subscriber: Subscriber
) -> None:
    hospital = opened(open_hospital, subscription_retry_days=1.0)
    asked = post(hospital, rest_hook(subscriber.url, "Observation?"))
    subscriber.status = 500
    post(hospital, heart_rate(1))
    for _ in range(30):
        hospital.clock.advance(3600)
        hospital.work()
    present = hospital.get(f"Subscription/{asked['id']}")
    assert (present["status"], present["error"]) == ("error", "the endpoint has failed for 1 days: it answered 500")
    subscriber.take()
    post(hospital, heart_rate(2))
    hospital.clock.advance(7200)
    hospital.work()
    assert subscriber.take() == []
    subscriber.status = 200
    del present["error"]
    assert put(hospital, {**present, "status": "requested"}).status_code == 200
    assert values(subscriber) == [1, 2]
    assert hospital.get(f"Subscription/{asked['id']}")["status"] == "active"


def test_retry_after_is_obeyed(hospital: Hospital, subscriber: Subscriber) -> None:
    post(hospital, rest_hook(subscriber.url, "Observation?"))
    subscriber.status, subscriber.headers = 503, {"Retry-After": "600"}
    post(hospital, heart_rate(1))
    for seconds in (1, 2, 300, 290):
        hospital.clock.advance(seconds)
        hospital.work()
    assert len(subscriber.take()) == 1
    subscriber.status, subscriber.headers = 200, {}
    hospital.clock.advance(10)
    hospital.work()
    assert values(subscriber) == [1]


def test_410_ends_it(hospital: Hospital, subscriber: Subscriber) -> None:
    asked = post(hospital, rest_hook(subscriber.url, "Observation?"))
    subscriber.status = 410
    post(hospital, heart_rate(1))
    present = hospital.get(f"Subscription/{asked['id']}")
    assert present["status"] == "off"
    assert "410" in present["error"]
    hospital.clock.advance(7200)
    post(hospital, heart_rate(2))
    assert len(subscriber.take()) == 1


def test_a_redirect_is_not_followed(hospital: Hospital, subscriber: Subscriber) -> None:
    other = Subscriber()
    try:
        post(hospital, rest_hook(subscriber.url, "Observation?"))
        subscriber.status, subscriber.headers = 307, {"Location": other.url}
        post(hospital, heart_rate(1))
        assert (len(subscriber.take()), other.take()) == (1, [])
    finally:
        other.close()


def test_a_huge_answer_is_not_read(hospital: Hospital, subscriber: Subscriber) -> None:
    subscriber.answer = bytes(64 * 1024 * 1024)
    post(hospital, rest_hook(subscriber.url, "Observation?"))
    post(hospital, heart_rate(1))
    assert values(subscriber) == [1]
    assert subscriber.cut_off.wait(10)


@pytest.mark.parametrize("closes", [True, False])
def test_one_that_drips_or_closes_costs_its_timeout_and_blocks_nobody(
    hospital: Hospital, subscriber: Subscriber, closes: bool
) -> None:
    dripping = Dripping(closes=closes)
    try:
        timeout = {"url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-timeout"}
        extension = [{**timeout, "valueUnsignedInt": 1}]
        bad = post(hospital, rest_hook(dripping.url, "Observation?", extension=extension))
        post(hospital, rest_hook(subscriber.url, "Observation?"))
        begun = time.monotonic()
        post(hospital, heart_rate(1))
        assert time.monotonic() - begun < 20  # the bytes never end
        assert values(subscriber) == [1]
        assert dripping.requests == 1
        assert hospital.get(f"Subscription/{bad['id']}")["status"] == "active"
    finally:
        dripping.close()


def test_subscribers_take_a_few_places_alone_and_wait_for_each_other(
    hospital: Hospital, subscriber: Subscriber
) -> None:
    post(hospital, rest_hook(subscriber.url, "Observation?"))
    places = hospital.application.notifications._places
    for _ in range(AT_A_TIME):
        assert places.acquire(blocking=False)
    post(hospital, heart_rate(1))
    assert subscriber.take() == []
    places.release()
    hospital.clock.advance(1)
    hospital.work()
    assert values(subscriber) == [1]


def test_one_that_cannot_be_reached_does_not_keep_the_server_from_starting(
    open_hospital: Callable[..., Hospital], subscriber: Subscriber
) -> None:
    hospital = opened(open_hospital, subscription_retry_days=3.0)
    post(hospital, rest_hook("http://127.0.0.1:1/", "Observation?"))
    post(hospital, rest_hook(subscriber.url, "Observation?"))
    post(hospital, heart_rate(1))
    for _ in range(2):
        hospital.application.database.write(hospital.application.notifications.start)
    hospital.work()
    assert values(subscriber) == [1]


def test_every_notification_is_recorded_as_a_disclosure(hospital: Hospital, subscriber: Subscriber) -> None:
    asked = post(hospital, rest_hook(subscriber.url, "Observation?"))
    made = post(hospital, heart_rate(1))
    events = hospital.all(f"AuditEvent?entity=Observation/{made['id']}/_history/1&_count=50")
    disclosed = [it for it in events if asked["id"] in str(it["agent"])]
    assert len(disclosed) == 1
    assert subscriber.url in str(disclosed[0]["agent"])


def test_what_a_model_in_shadow_says_is_sent_only_to_those_who_ask_for_its_tag(
    hospital: Hospital, subscriber: Subscriber
) -> None:
    tag = "urn:ausculta:model-status|shadow"
    post(hospital, rest_hook(subscriber.url, "Observation?status=final"))
    post(hospital, rest_hook(f"{subscriber.url}/shadow", f"Observation?_tag={tag}"))
    shadow = {"tag": [{"system": "urn:ausculta:model-status", "code": "shadow"}]}
    post(hospital, heart_rate(1, meta=shadow))
    assert [it.path.rpartition("/Observation")[0] for it in subscriber.take()] == ["/hook/shadow"]


def test_a_fault_in_comparing_stops_the_subscription_and_not_the_change(
    hospital: Hospital, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = post(hospital, rest_hook(subscriber.url, "Observation?"))

    def broken(*_: object) -> bool:
        msg = "broken"
        raise KeyError(msg)

    monkeypatch.setattr("fhir_adapter.subscriptions.definition.matches", broken)
    post(hospital, heart_rate(1))
    present = hospital.get(f"Subscription/{asked['id']}")
    assert (present["status"], present["error"]) == ("error", "a change could not be compared with the criteria")


PERSON = Principal(client="command line", client_address="", user="person")


def test_a_person_replays_a_subscription_in_error_or_stops_it(
    open_hospital: Callable[..., Hospital], subscriber: Subscriber
) -> None:
    hospital = opened(open_hospital, subscription_retry_days=0.01)
    asked = post(hospital, rest_hook(subscriber.url, "Observation?"))
    context = hospital.application.operations
    subscriber.status = 500
    for value in (1, 2):
        post(hospital, heart_rate(value))
        hospital.clock.advance(1800)
        hospital.work()
    (listed,) = operations.listing(context)
    assert (listed.state, listed.events, listed.sent) == ("error", 2, 0)
    subscriber.take()
    subscriber.status = 200
    operations.replay(context, PERSON, asked["id"])
    hospital.work()
    assert values(subscriber) == [1, 2]
    assert hospital.get(f"Subscription/{asked['id']}")["status"] == "active"
    operations.stop(context, PERSON, asked["id"], "the app is retired")
    hospital.work()
    post(hospital, heart_rate(3))
    assert subscriber.take() == []
    present = hospital.get(f"Subscription/{asked['id']}")
    assert (present["status"], present["error"]) == ("off", "it was stopped here")
    with pytest.raises(Problem, match="nothing is sent"):
        operations.replay(context, PERSON, asked["id"])
    recorded = str(hospital.all("AuditEvent?_count=200"))
    assert "subscription-replayed" in recorded
    assert "subscription-stopped" in recorded
