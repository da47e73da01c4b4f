"""One checkout against another: both servers run at the same time, and rounds alternate.

Two figures that are taken one after the other on a machine whose speed varies say little. Here each round measures both
servers, and the ratio is the median over the rounds. Run as ``python -m benchmarks.against CHECKOUT``, where CHECKOUT
has a virtual environment ``.venv`` in which that version is installed.
"""

import argparse
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks import fhir_creates, mllp_messages, post_to_result
from benchmarks.hospital import drain
from benchmarks.load import Load, Loader
from benchmarks.measure import in_turns, ratio, table
from benchmarks.processes import ServerProcess

ROUNDS: Final = 9
PATIENTS: Final = 150

_OTHER: Final = "other"
_THIS: Final = "this"
_BUSY: Final = "SELECT count(*) FROM jobs WHERE status IN ('waiting', 'running')"


@dataclass(frozen=True, kw_only=True)
class Work:
    """One kind of load."""

    title: str
    protocol: str
    connections: int
    #: Without, messages are only accepted.
    converting: bool = True


WORKS: Final = (
    Work(title="durable creates/s, 1 connection", protocol="http", connections=1),
    Work(title="durable creates/s, 16 connections", protocol="http", connections=16),
    Work(title="30-OBX ORU accepted/s, 1 connection", protocol="mllp", connections=1, converting=False),
    Work(title="30-OBX ORU accepted/s, 16 connections", protocol="mllp", connections=16, converting=False),
    Work(title="the same while messages are converted", protocol="mllp", connections=16),
)


def main(checkout: Path) -> dict[str, Any]:
    """Measure both, print a table and return its figures."""
    programs = {_OTHER: checkout / ".venv" / "bin" / "ausculta", _THIS: Path(sys.executable).parent / "ausculta"}
    rows: list[tuple[str, Mapping[str, Sequence[float]]]] = []
    with Loader() as loader:
        for work in WORKS:
            rows += _measure(loader, programs, work)
    rows += _results(programs)
    found = {
        title: {
            **{name: round(statistics.median(figures[name]), 2) for name in programs},
            "ratio": round(ratio(figures, _THIS, _OTHER), 3),
        }
        for title, figures in rows
    }
    head = ["", _OTHER, _THIS, "ratio"]
    print(table([head, *([title, *(str(value) for value in figures.values())] for title, figures in found.items())]))
    return found


def _servers(stack: ExitStack, programs: Mapping[str, Path], settings: Mapping[str, str]) -> dict[str, ServerProcess]:
    servers: dict[str, ServerProcess] = {}
    for name, program in programs.items():
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers[name] = stack.enter_context(ServerProcess(folder, settings, program=program))
        servers[name].wait_ready()
    time.sleep(5)  # the models are loaded in the background
    return servers


def _measure(
    loader: Loader, programs: Mapping[str, Path], work: Work
) -> list[tuple[str, Mapping[str, Sequence[float]]]]:
    with ExitStack() as stack:
        servers = _servers(stack, programs, {} if work.converting else {"WORKER_THREADS": "0"})
        converted: dict[str, list[float]] = {name: [] for name in programs}

        def one(name: str) -> float:
            server = servers[name]
            begun = time.perf_counter()
            found = loader.run(_load(server, work))
            if work.protocol == "mllp" and work.converting:
                _wait_until_idle(server)
                converted[name].append(len(found.waits) / (time.perf_counter() - begun))
            return found.per_second

        figures = in_turns({name: lambda name=name: one(name) for name in programs}, ROUNDS)
        rows: list[tuple[str, Mapping[str, Sequence[float]]]] = [(work.title, figures)]
        return [*rows, ("30-OBX ORU accepted and converted/s", converted)] if converted[_THIS] else rows


def _load(server: ServerProcess, work: Work) -> Load:
    if work.protocol == "http":
        count, port = fhir_creates.REQUESTS[work.connections], server.ports.http
        requests = [fhir_creates.request(number) for number in range(count)]
    else:
        count, port = mllp_messages.MESSAGES[work.connections] // (2 if work.converting else 1), server.ports.mllp
        requests = [mllp_messages.message() for _ in range(count)]
    return Load(port=port, protocol=work.protocol, connections=work.connections, requests=requests)


def _wait_until_idle(server: ServerProcess) -> None:
    with closing(sqlite3.connect(f"file:{server.data / 'ausculta.db'}?mode=ro", uri=True)) as database:
        while database.execute(_BUSY).fetchone()[0]:
            time.sleep(0.05)


def _results(programs: Mapping[str, Path]) -> list[tuple[str, Mapping[str, Sequence[float]]]]:
    """Measure from the POST of the last Observation of a set to 201, and to the stored result, in milliseconds."""
    answered: dict[str, list[float]] = {name: [] for name in programs}
    stored: dict[str, list[float]] = {name: [] for name in programs}
    with ExitStack() as stack:
        servers = _servers(stack, programs, {})
        client = stack.enter_context(httpx.Client())
        last: dict[str, dict[str, bytes]] = {}
        databases: dict[str, sqlite3.Connection] = {}
        for name, server in servers.items():
            last[name] = {f"p{n}": post_to_result.admit(client, server.url, f"p{n}") for n in range(PATIENTS)}
            drain(server, lambda: 0, patience_s=240.0)
            reader = sqlite3.connect(f"file:{server.data / 'ausculta.db'}?mode=ro", uri=True)
            databases[name] = stack.enter_context(closing(reader))
        for number in range(PATIENTS):
            patient = f"p{number}"
            for name in list(programs)[:: 1 if number % 2 == 0 else -1]:
                to_201, to_result = post_to_result.time_one(
                    client, servers[name].url, databases[name], patient, last[name][patient]
                )
                answered[name].append(to_201 * 1000)
                stored[name].append(to_result * 1000)
                time.sleep(0.05)  # what the server still does for this one is not counted to the next
    return [("POST of a vital sign to 201, ms", answered), ("the same to the stored RiskAssessment, ms", stored)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="another checkout with its own .venv")
    main(parser.parse_args().checkout.resolve())
