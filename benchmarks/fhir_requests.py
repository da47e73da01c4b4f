"""FHIR requests per second: creates against a bare FastAPI (:mod:`benchmarks.bare`), reads, searches, transactions.

Run as ``python -m benchmarks.fhir_requests``. Everything is durable and audited; the same server has 10,000
Observations of 100 patients, in four codes. The worker is off: no model runs behind a create.
"""

import random
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from benchmarks.fhir_creates import request as create_request
from benchmarks.load import Load, Loader
from benchmarks.measure import in_turns, percentiles, ratio, table
from benchmarks.processes import ServerProcess, serving

ROUNDS: Final = 5
PATIENTS: Final = 100
EACH: Final = 100
"""Observations of a patient."""
CODES: Final = ("8867-4", "9279-1", "8310-5", "29463-7")
ENTRIES: Final = 100
"""Resources of a transaction."""


def observation(patient: int, number: int) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"o{patient}-{number}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": CODES[number % len(CODES)]}]},
        "subject": {"reference": f"Patient/p{patient}"},
        "effectiveDateTime": f"2026-01-{1 + number % 28:02d}T12:00:00+00:00",
        "valueQuantity": {"value": 71.5, "unit": "1", "system": "http://unitsofmeasure.org", "code": "1"},
    }


def transaction(method: str, resources: Sequence[dict[str, Any]]) -> bytes:
    entries = [
        {
            "resource": it if method == "PUT" else {name: value for name, value in it.items() if name != "id"},
            "request": {"method": method, "url": f"Observation/{it['id']}" if method == "PUT" else "Observation"},
        }
        for it in resources
    ]
    return orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/fhir+json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def workloads() -> dict[str, tuple[int, list[bytes]]]:
    """Name -> connections and requests of one round."""
    chosen = random.Random(7)

    def reads() -> Iterator[bytes]:
        return (get(f"/fhir/Observation/o{chosen.randrange(PATIENTS)}-{chosen.randrange(EACH)}") for _ in range(2000))

    searches = [
        get(f"/fhir/Observation?subject=Patient/p{chosen.randrange(PATIENTS)}&code={CODES[0]}&_count=20")
        for _ in range(600)
    ]
    transactions = [
        post("/fhir", transaction("POST", [observation(chosen.randrange(PATIENTS), it) for it in range(ENTRIES)]))
        for _ in range(20)
    ]
    return {
        "read by id, 1 connection": (1, list(reads())[:600]),
        "read by id, 16 connections": (16, list(reads())),
        "search of 20, 1 connection": (1, searches[:200]),
        "search of 20, 16 connections": (16, searches),
        "transaction of 100, 1 connection": (1, transactions),
        "transaction of 100, 4 connections": (4, transactions),
    }


def main() -> dict[str, Any]:
    """Measure and print."""
    with (
        tempfile.TemporaryDirectory() as name,
        Loader() as loader,
        ServerProcess(Path(name), {"WORKER_THREADS": "0"}) as server,
        serving("benchmarks.bare", "{port}", str(Path(name) / "bare")) as bare_port,
    ):
        server.wait_ready()
        _fill(server.url)
        found = {f"create, {number}": _creates(loader, server, bare_port, number) for number in (1, 16)}
        for what, (connections, requests) in workloads().items():
            found[what] = _rate(loader, server, connections, requests)
    print(_report(found))
    return found


def _fill(url: str) -> None:
    headers = {"Content-Type": "application/fhir+json"}
    for patient in range(PATIENTS):
        body = transaction("PUT", [observation(patient, number) for number in range(EACH)])
        httpx.post(f"{url}/fhir", content=body, headers=headers, timeout=120).raise_for_status()


def _creates(loader: Loader, server: ServerProcess, bare_port: int, connections: int) -> dict[str, Any]:
    requests = [create_request(number) for number in range(300 if connections == 1 else 2000)]

    def measured(port: int) -> Callable[[], float]:
        load = Load(port=port, protocol="http", connections=connections, requests=requests)
        return lambda: loader.run(load).per_second

    contestants = {"ours": measured(server.ports.http), "bare": measured(bare_port)}
    for warm_up in contestants.values():
        warm_up()
    figures = in_turns(contestants, ROUNDS)
    return {
        "per_second": round(statistics.median(figures["ours"])),
        "bare_per_second": round(statistics.median(figures["bare"])),
        "ours_to_bare": round(ratio(figures, "ours", "bare"), 2),
    }


def _rate(loader: Loader, server: ServerProcess, connections: int, requests: Sequence[bytes]) -> dict[str, Any]:
    load = Load(port=server.ports.http, protocol="http", connections=connections, requests=requests)
    loader.run(load)
    rates, waits = [], list[float]()
    for _ in range(ROUNDS):
        result = loader.run(load)
        rates.append(result.per_second)
        waits.extend(result.waits)
    return {"per_second": round(statistics.median(rates)), **percentiles(waits)}


def _report(found: dict[str, Any]) -> str:
    rows = [["what", "per second", "p50 ms", "p95 ms", "bare per second", "ours : bare"]]
    rows += [
        [
            what,
            *(str(figures.get(it, "")) for it in ("per_second", "p50_ms", "p95_ms", "bare_per_second", "ours_to_bare")),
        ]
        for what, figures in found.items()
    ]
    return table(rows)


if __name__ == "__main__":
    main()
