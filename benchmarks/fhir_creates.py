"""Durable FHIR creates per second, compared with the same server without validation and without the commit.

Run as ``python -m benchmarks.fhir_creates``.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.load import Load, Loader
from benchmarks.measure import in_turns, percentiles, ratio, table
from benchmarks.processes import ServerProcess, serving
from benchmarks.twin import KINDS

ROUNDS: Final = 7
REQUESTS: Final = {1: 300, 16: 1500}
"""Connections -> creates per round."""


def request(number: int) -> bytes:
    """Return one create request: an Observation of a weight, which no model reads."""
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7", "display": "Body weight"}]},
        "subject": {"reference": f"Patient/p{number % 1000}"},
        "effectiveDateTime": "2026-01-15T12:00:00+00:00",
        "valueQuantity": {"value": 71.5, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
    }
    body = orjson.dumps(observation)
    head = "POST /fhir/Observation HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/fhir+json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def twin(kind: str, folder: Path) -> AbstractContextManager[int]:
    """Run a variant of the server (:mod:`benchmarks.twin`) and yield its port."""
    return serving("benchmarks.twin", kind, "{port}", str(folder / kind))


def main() -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as name,
        Loader() as loader,
        ServerProcess(Path(name)) as server,
        twin("unsaved", Path(name)) as unsaved,
        twin("ceiling", Path(name)) as ceiling,
    ):
        server.wait_ready()
        time.sleep(5)  # the models are loaded in the background
        ports = {"durable": server.ports.http, **dict(zip(KINDS, (unsaved, ceiling), strict=True))}
        found = {str(connections): _rounds(loader, ports, connections) for connections in REQUESTS}
    print(_report(found))
    return found


def _rounds(loader: Loader, ports: dict[str, int], connections: int) -> dict[str, Any]:
    requests = [request(number) for number in range(REQUESTS[connections])]
    waits: list[float] = []

    def measurement(name: str) -> Callable[[], float]:
        load = Load(port=ports[name], protocol="http", connections=connections, requests=requests)

        def run() -> float:
            result = loader.run(load)
            if name == "durable":
                waits.extend(result.waits)
            return result.per_second

        return run

    contestants = {name: measurement(name) for name in ports}
    for warm_up in contestants.values():
        warm_up()
    waits.clear()
    figures = in_turns(contestants, ROUNDS)
    return {
        "per_second": {name: round(statistics.median(rates)) for name, rates in figures.items()},
        "durable_to_ceiling": round(ratio(figures, "durable", "ceiling"), 3),
        "durable_to_unsaved": round(ratio(figures, "durable", "unsaved"), 3),
        **percentiles(waits),
    }


def _report(found: dict[str, Any]) -> str:
    rows = [["connections", "durable/s", "validated, unsaved/s", "ceiling/s", "durable : ceiling", "p50 ms", "p95 ms"]]
    for connections, figures in found.items():
        rates = figures["per_second"]
        rows.append(
            [
                connections,
                *(str(rates[name]) for name in ("durable", "unsaved", "ceiling")),
                f"{figures['durable_to_ceiling']:.2f}",
                str(figures["p50_ms"]),
                str(figures["p95_ms"]),
            ]
        )
    return table(rows)


if __name__ == "__main__":
    main()
