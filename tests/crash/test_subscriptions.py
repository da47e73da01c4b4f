"""A server with two workers is killed while it notifies: nothing is lost, and no event gets another number."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.processes import ServerProcess

sys.path.insert(0, str(Path(__file__).parents[1] / "service"))
from subscriber import Subscriber, named, on_topic

pytestmark = [pytest.mark.crash, pytest.mark.timeout(240)]

KILLS = 3
EACH = 40


@pytest.fixture
def subscriber() -> Iterator[Subscriber]:
    server = Subscriber()
    yield server
    server.close()


def result(number: int) -> dict[str, object]:
    return {
        "resourceType": "Observation",
        "status": "preliminary",
        "meta": {
            "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "AIAST"}]
        },
        "identifier": [{"system": "urn:ausculta:result", "value": f"r{number}"}],
        "code": {"text": "score"},
        "valueInteger": number,
    }


def test_every_acknowledged_change_is_notified_under_one_number(tmp_path: Path, subscriber: Subscriber) -> None:
    settings = {"SUBSCRIPTION_HOSTS": "127.0.0.1", "WORKER_PROCESSES": "2"}
    acknowledged: set[str] = set()
    with ServerProcess(tmp_path, settings) as server:
        server.wait_ready()
        url = f"http://127.0.0.1:{server.ports.http}/fhir"
        asked = on_topic(subscriber.url, "urn:ausculta:topic:new-result")
        made = httpx.post(f"{url}/Subscription", json=asked)
        assert made.status_code == 201, made.text
        for run in range(KILLS + 1):
            answered = threading.Event()

            def send(run: int = run, answered: threading.Event = answered) -> None:
                for number in range(run * EACH, (run + 1) * EACH):
                    try:
                        answer = httpx.post(f"{url}/Observation", json=result(number), timeout=10)
                    except httpx.HTTPError:
                        continue
                    if answer.status_code == 201:
                        acknowledged.add(answer.json()["id"])
                    if number % EACH == EACH // 2:
                        answered.set()
                answered.set()

            sender = threading.Thread(target=send)
            sender.start()
            answered.wait(60)
            if run < KILLS:
                server.kill()
            sender.join()
            if run < KILLS:
                server.start()
                server.wait_ready()
        status = f"{url}/Subscription/{made.json()['id']}/$status"
        number = int(
            named(httpx.get(status).json()["entry"][0]["resource"], "events-since-subscription-start")["valueString"]
        )
        waited = threading.Event()
        for _ in range(600):
            if len(by_number(subscriber)) >= number:
                break
            waited.wait(0.1)
    notified = by_number(subscriber)
    assert sorted(notified) == list(range(1, number + 1))
    assert all(len(focus) == 1 for focus in notified.values())
    assert acknowledged <= {focus.rpartition("/")[2] for each in notified.values() for focus in each}
    assert len({focus for each in notified.values() for focus in each}) == number
    assert len(acknowledged) > EACH


def by_number(subscriber: Subscriber) -> dict[int, set[str]]:
    """Return what each event was about, by its number."""
    found: dict[int, set[str]] = {}
    for sent in list(subscriber.received):
        for part in sent.status["parameter"]:
            if part["name"] == "notification-event":
                event = int(named(part, "event-number", "part")["valueString"])
                found.setdefault(event, set()).add(named(part, "focus", "part")["valueReference"]["reference"])
    return found
