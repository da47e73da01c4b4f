"""Pages while what is paged changes: each resource that was there throughout is seen exactly once."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import httpx
import pytest

from .examples import observation
from .harness import Server

STAYING = [f"stay-{place}" for place in range(60)]


def pages(client: httpx.Client, url: str) -> Iterator[list[str]]:
    onward: str | None = url
    while onward:
        page = client.get(onward).json()
        yield [it["resource"]["id"] for it in page.get("entry", [])]
        onward = next((it["url"] for it in page["link"] if it["relation"] == "next"), None)


def stocked(server: Server) -> None:
    for name in STAYING:
        server.clock.advance(1)
        assert server.put(observation(id=name)).status_code == 201


@pytest.mark.parametrize("query", ["", "_sort=_lastUpdated&", "_sort=-_lastUpdated&", "patient=p1&", "code=8867-4&"])
def test_what_is_changed_between_two_pages_is_neither_missed_nor_seen_twice(server: Server, query: str) -> None:
    stocked(server)
    seen: list[str] = []
    change = random.Random(query)
    for page in pages(server.client, f"/Observation?{query}_count=7"):
        seen += page
        for name in change.sample(STAYING, 12):
            server.clock.advance(1)
            assert server.put(observation(value=change.random(), id=name)).status_code == 200
        server.clock.advance(1)
        server.post(observation(id="new"))
        assert len(seen) < 1000
    assert sorted(name for name in seen if name.startswith("stay-")) == sorted(STAYING)


def test_sixteen_writers_change_what_is_paged(server: Server) -> None:
    stocked(server)
    stop = Event()

    def write(writer: int) -> int:
        change, number = random.Random(writer), 0
        with httpx.Client(base_url=server.url, headers={"Content-Type": "application/fhir+json"}) as client:
            while not stop.is_set():
                server.clock.advance(1)
                body: dict[str, Any] = observation(value=change.random(), id=change.choice(STAYING))
                client.put(f"/Observation/{body['id']}", json=body)
                own = observation(id=f"w{writer}")
                client.put(f"/Observation/w{writer}", json=own)
                client.delete(f"/Observation/w{writer}")
                number += 1
        return number

    with ThreadPoolExecutor(16) as pool:
        running = [pool.submit(write, writer) for writer in range(16)]
        try:
            for _ in range(4):
                seen = [name for page in pages(server.client, "/Observation?_count=5") for name in page]
                staying = sorted(name for name in seen if name.startswith("stay-"))
                assert staying == sorted(STAYING)
        finally:
            stop.set()
        assert all(it.result() > 0 for it in running)


def test_a_link_of_another_search_is_refused(server: Server) -> None:
    stocked(server)
    page = server.client.get("/Observation?_count=2&_sort=date,_id").json()
    (onward,) = [it["url"] for it in page["link"] if it["relation"] == "next"]
    cursor = onward.rpartition("_cursor=")[2]
    assert server.client.get(f"/Observation?_cursor={cursor}").status_code == 400
    assert server.client.get(f"/Observation?_sort=date,_id&_cursor={cursor}").status_code == 200
    assert server.client.get("/Observation?_cursor=W10").status_code == 400
