"""No request keeps the event loop for long: the processor time of each of its turns is measured."""

import asyncio.events
import gc
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import uvicorn

from kernel import db, limited

from .examples import observation, patient
from .harness import Server, running

LONGEST_TURN_S = 0.020
LARGE = 300
"""Resources of 50 KB in the Bundle: 15 MB, of the 16 that are accepted."""


@pytest.fixture
def server(tmp_path: Path, empty_database: Path) -> Iterator[Server]:
    shutil.copy(empty_database, tmp_path / "fhir.db")
    with running(tmp_path, body_seconds=60.0) as started:
        yield started


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds of processor time that each turn of an event loop took in its own thread."""
    measured: list[float] = []
    run: Any = asyncio.events.Handle._run

    def timed(handle: Any) -> None:
        before = time.thread_time()
        run(handle)
        measured.append(time.thread_time() - before)

    monkeypatch.setattr(asyncio.events.Handle, "_run", timed)
    gc.collect()
    gc.disable()  # a collection holds up every thread, whoever begins it: it is no turn of a request
    yield measured
    gc.enable()


@pytest.fixture
def url(server: Server, turns: list[float]) -> Iterator[str]:
    """The application over a socket, on an event loop written in Python, whose turns can be measured."""
    bound = socket.create_server(("127.0.0.1", 0))
    serving = uvicorn.Server(uvicorn.Config(server.app, loop="asyncio", log_config=None, lifespan="off", ws="none"))
    thread = threading.Thread(target=serving.run, args=([bound],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}/fhir"
    serving.should_exit = True
    thread.join(30)
    bound.close()


def post(url: str, resource: dict[str, Any]) -> httpx.Response:
    headers = {"Content-Type": "application/fhir+json"}
    return httpx.post(url, content=orjson.dumps(resource), headers=headers, timeout=120)


def large(number: int) -> dict[str, Any]:
    notes = [{"text": f"{number} {place} " + "x" * 90} for place in range(450)]
    return observation(note=notes)


def bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    entries = [{"resource": it, "request": {"method": "POST", "url": it["resourceType"]}} for it in resources]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def test_neither_a_large_bundle_nor_a_large_page_nor_a_resource_at_the_limit_holds_up_the_loop(
    url: str, turns: list[float]
) -> None:
    everything = bundle(*(large(number) for number in range(LARGE)))
    assert 14 * 2**20 < len(orjson.dumps(everything)) < 16 * 2**20
    at_limit = large(0)
    at_limit["note"] += [{"text": "y" * (63 * 1024 - len(orjson.dumps(at_limit)))}]
    post(f"{url}/Observation", observation())  # what is imported and compiled at the first request
    del turns[:]
    with ThreadPoolExecutor(8) as pool:
        heavy = pool.submit(post, url, everything)
        others = [pool.submit(post, f"{url}/Observation", observation(value)) for value in range(100)]
        others += [pool.submit(post, f"{url}/Observation", at_limit) for _ in range(5)]
        assert {it.result().status_code for it in others} == {201}
        assert heavy.result().status_code == 200
        pages = [pool.submit(httpx.get, f"{url}/Observation?code=8867-4&_count=200", timeout=120) for _ in range(3)]
        assert {it.result().status_code for it in pages} == {200}
    assert len(turns) > 100
    assert max(turns) < LONGEST_TURN_S, sorted(turns)[-5:]


def test_a_search_that_takes_long_is_carried_out_in_a_thread(
    url: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at the clock finds that the time is over: the loop stops reading, and a thread reads all of it."""
    server.database.write(lambda _: None)
    for value in range(40):
        assert post(f"{url}/Observation", observation(value)).status_code == 201
    expected = httpx.get(f"{url}/Observation?code=8867-4&_count=100").json()
    monkeypatch.setattr(db, "BRIEF_S", -1.0)
    monkeypatch.setattr(limited, "_STEPS_BETWEEN_LOOKS", 1)
    found = httpx.get(f"{url}/Observation?code=8867-4&_count=100").json()
    assert [it["fullUrl"] for it in found["entry"]] == [it["fullUrl"] for it in expected["entry"]]
    assert len(found["entry"]) == 40


@pytest.mark.parametrize(
    "query",
    [
        "Observation?_count=1000&_summary=true",
        "Observation?_count=1000&_elements=code",
        "Observation?code:text=none",
        "Patient?_revinclude=Observation:patient&_elements=name",
        "Observation?_count=1000&_include=Observation:subject",
        "Observation?_summary=count&code:text=none",
    ],
)
def test_no_form_of_a_search_holds_up_the_loop(server: Server, url: str, turns: list[float], query: str) -> None:
    named = {"display": "none of these is asked for", "code": "x"}
    resources = [observation(code={"coding": [named] * 8}, note=[{"text": "y"}] * 20) for _ in range(900)]
    server.client.post("/", json=bundle(patient(), *resources)).raise_for_status()
    httpx.get(f"{url}/{query}", timeout=60).raise_for_status()  # what is compiled at the first search
    del turns[:]
    httpx.get(f"{url}/{query}", timeout=60).raise_for_status()
    assert max(turns) < LONGEST_TURN_S, sorted(turns)[-5:]
