"""Durable HL7 v2 messages per second through the real server: an ORU^R01 of thirty OBX, each message unique.

``accepting`` runs without a worker, so it measures the interface alone; with ``converting`` the worker converts the
messages to resources meanwhile. Run as ``python -m benchmarks.mllp_messages``.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.load import Load, Loader
from benchmarks.measure import in_turns, percentiles, ratio, table
from benchmarks.processes import ServerProcess
from fhir_adapter.hl7v2.framing import frame
from fhir_adapter.hl7v2.synthesise import LabResult, SyntheticPatient, oru_labs

ROUNDS: Final = 7
MESSAGES: Final = {1: 200, 16: 800}
"""Connections -> messages per round."""

_RESULTS: Final = [
    LabResult(code=f"{2000 + number}-1", display=f"Analyte {number}", value=f"{number}.10", unit="mmol/L", limits="1-9")
    for number in range(30)
]
_NUMBERS: Final = itertools.count(1)


def message() -> bytes:
    """Return a new framed message."""
    number = next(_NUMBERS)
    patient = SyntheticPatient(
        mrn=f"B{number % 500}",
        authority="HOSPITAL",
        family="Synthetic",
        given="Load",
        birth_date=date(1950, 3, 1),
        sex="F",
    )
    return frame(oru_labs(patient, _RESULTS, f"L{number:09d}", datetime(2026, 1, 15, 12, 0, tzinfo=UTC)))


def main() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, Loader() as loader:
        folders = {kind: Path(name) / kind for kind in ("accepting", "converting")}
        for folder in folders.values():
            folder.mkdir()
        with (
            ServerProcess(folders["accepting"], {"WORKER_THREADS": "0"}) as accepting,
            ServerProcess(folders["converting"]) as converting,
        ):
            servers = {"accepting": accepting, "converting": converting}
            for server in servers.values():
                server.wait_ready()
            time.sleep(5)  # the models are loaded in the background
            found = {str(connections): _rounds(loader, servers, connections) for connections in MESSAGES}
    print(_report(found))
    return found


def _rounds(loader: Loader, servers: dict[str, ServerProcess], connections: int) -> dict[str, Any]:
    waits: dict[str, list[float]] = {name: [] for name in servers}

    def measurement(name: str) -> Callable[[], float]:
        def run() -> float:
            messages = [message() for _ in range(MESSAGES[connections])]
            load = Load(port=servers[name].ports.mllp, protocol="mllp", connections=connections, requests=messages)
            result = loader.run(load)
            waits[name] += result.waits
            return result.per_second

        return run

    figures = in_turns({name: measurement(name) for name in servers}, ROUNDS)
    return {
        "per_second": {name: round(statistics.median(rates)) for name, rates in figures.items()},
        "converting_to_accepting": round(ratio(figures, "converting", "accepting"), 3),
        "waits": {name: percentiles(taken) for name, taken in waits.items()},
    }


def _report(found: dict[str, Any]) -> str:
    rows = [["connections", "accepting/s", "p50 ms", "p95 ms", "while converting/s", "p50 ms", "p95 ms"]]
    for connections, figures in found.items():
        row = [connections]
        for name in ("accepting", "converting"):
            waited = figures["waits"][name]
            row += [str(figures["per_second"][name]), str(waited["p50_ms"]), str(waited["p95_ms"])]
        rows.append(row)
    return table(rows)


if __name__ == "__main__":
    main()
