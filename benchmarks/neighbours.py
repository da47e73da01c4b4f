"""What one sender notices of the others: of conversions, of models, of a body of 16 MB; and of what is behind a create.

Run as ``python -m benchmarks.neighbours``.
"""

import itertools
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from benchmarks.fhir_requests import observation, post
from benchmarks.load import Load, Loader
from benchmarks.measure import in_turns, percentiles, ratio, table
from benchmarks.mllp_messages import message
from benchmarks.processes import ServerProcess, free_ports, serving

ROUNDS: Final = 5
OWN: Final = 150
"""Messages of the one sender in a round."""
OTHERS: Final = 8
BACKLOG: Final = 60
"""Messages of each other sender that wait for their conversion when the one sender begins."""
ACCEPTED: Final = 800
CREATES: Final = 1000
LIVE_S: Final = 10.0
BUNDLE_BYTES: Final = 15_500_000
"""Just below the largest body that is taken."""
_NUMBERS: Final = itertools.count(1)


def of_sender(name: str, framed: bytes) -> bytes:
    """Give a message another MSH-3."""
    fields = framed.split(b"|", 3)
    return b"|".join([*fields[:2], name.encode(), fields[3]])


def main() -> dict[str, Any]:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name, Loader() as loader:
        folders = [Path(name) / str(number) for number in range(3)]
        for folder in folders:
            folder.mkdir()
        with ServerProcess(folders[0]) as server:
            server.wait_ready()
            time.sleep(5)  # the models are loaded in the background
            found: dict[str, Any] = {
                "one sender": _one_sender(loader, server),
                "live, a Bundle": _live(loader, server, again=False),
                "live, one Bundle after the other": _live(loader, server, again=True),
            }
        with ServerProcess(folders[1], {"WORKER_PROCESSES": "0"}) as server, _plain_mllp() as port:
            server.wait_ready()
            found["accepted"] = _accepted(loader, server, port)
        with (
            ServerProcess(folders[2]) as server,
            serving("benchmarks.bare", "{port}", str(Path(name) / "bare")) as bare,
        ):
            server.wait_ready()
            found["creates with NEWS2 behind"] = _vital_signs(loader, server, bare)
    print(_report(found))
    return found


def _jobs(server: ServerProcess) -> int:
    state = httpx.get(f"{server.url}/health/ready", timeout=30).json()
    return sum(state["jobs"].get(status, 0) for status in ("waiting", "running"))


def _drained(server: ServerProcess) -> None:
    while _jobs(server):
        time.sleep(0.2)


def _one_sender(loader: Loader, server: ServerProcess) -> dict[str, Any]:
    def alone() -> float:
        _drained(server)
        return _own_rate(loader, server)

    def among_others() -> float:
        _drained(server)
        backlog = [of_sender(f"OTHER{number % OTHERS}", message()) for number in range(OTHERS * BACKLOG)]
        loader.run(Load(port=server.ports.mllp, protocol="mllp", connections=OTHERS, requests=backlog))
        rate = _own_rate(loader, server)
        if _jobs(server) <= OWN:
            print("  the backlog was gone before the sender had finished")
        return rate

    figures = in_turns({"alone": alone, "among others": among_others}, ROUNDS)
    return _summary(figures, "among others", "alone")


def _own_rate(loader: Loader, server: ServerProcess) -> float:
    own = [of_sender("OWN", message()) for _ in range(OWN)]
    return loader.run(Load(port=server.ports.mllp, protocol="mllp", connections=1, requests=own)).per_second


def _accepted(loader: Loader, server: ServerProcess, port: int) -> dict[str, Any]:
    def measured(to: int) -> Callable[[], float]:
        def run() -> float:
            messages = [message() for _ in range(ACCEPTED)]
            return loader.run(Load(port=to, protocol="mllp", connections=16, requests=messages)).per_second

        return run

    figures = in_turns({"ours, stored": measured(server.ports.mllp), "hl7.mllp": measured(port)}, ROUNDS)
    return _summary(figures, "ours, stored", "hl7.mllp")


def _vital_signs(loader: Loader, server: ServerProcess, bare: int) -> dict[str, Any]:
    def requests() -> Sequence[bytes]:
        signs = (observation(number % 200, 4 * next(_NUMBERS)) for number in range(CREATES))
        return [post("/fhir/Observation", orjson.dumps(_new(sign))) for sign in signs]

    def measured(port: int) -> Callable[[], float]:
        return lambda: loader.run(Load(port=port, protocol="http", connections=16, requests=requests())).per_second

    figures = in_turns({"ours": measured(server.ports.http), "bare": measured(bare)}, ROUNDS)
    return _summary(figures, "ours", "bare")


def _new(sign: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sign.items() if name != "id"}


def _live(loader: Loader, server: ServerProcess, *, again: bool) -> dict[str, Any]:
    """Ask ``/health/live`` while a backlog is converted and a Bundle of 16 MB is validated, once or again and again."""
    _drained(server)
    backlog = [of_sender(f"OTHER{number % OTHERS}", message()) for number in range(OTHERS * BACKLOG)]
    loader.run(Load(port=server.ports.mllp, protocol="mllp", connections=OTHERS, requests=backlog))
    entry = {"resource": _new(observation(1, 1)) | {"note": [{"text": "x" * 200}]}}
    entries = [entry] * (BUNDLE_BYTES // len(orjson.dumps(entry)))
    body = orjson.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries})
    stopped = threading.Event()
    answers: list[int] = []

    def send_bundles() -> None:
        with httpx.Client(timeout=120, headers={"Content-Type": "application/fhir+json"}) as client:
            while not stopped.is_set():
                answers.append(client.post(f"{server.url}/fhir/Bundle", content=body).status_code)
                if not again:
                    break

    sending = threading.Thread(target=send_bundles)
    sending.start()
    waits = _ask(server.ports.http, LIVE_S)
    stopped.set()
    sending.join()
    return {
        "per_second": None,
        **percentiles(waits),
        "p99_ms": round(statistics.quantiles(waits, n=100)[-1] * 1000, 2),
        "longest_ms": round(max(waits) * 1000, 1),
        "asked": len(waits),
        "bundle_mb": round(len(body) / 1e6, 1),
        "bundles": len(answers),
    }


def _ask(port: int, seconds: float) -> list[float]:
    """Ask again and again, in a process of its own, so that only the server is measured."""
    script = (
        "import http.client, sys, time\n"
        f"c = http.client.HTTPConnection('127.0.0.1', {port}); until = time.monotonic() + {seconds}\n"
        "while time.monotonic() < until:\n"
        "    t = time.perf_counter(); c.request('GET', '/health/live'); c.getresponse().read()\n"
        "    print(time.perf_counter() - t); time.sleep(0.005)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()]


def _summary(figures: dict[str, list[float]], of: str, to: str) -> dict[str, Any]:
    rates = {name: round(statistics.median(taken)) for name, taken in figures.items()}
    return {"per_second": rates, "ratio": round(ratio(figures, of, to), 2)}


@contextmanager
def _plain_mllp() -> Iterator[int]:
    port = free_ports().mllp
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.plain_mllp", str(port)])
    try:
        time.sleep(2)
        yield port
    finally:
        process.kill()
        process.wait()


def _report(found: dict[str, Any]) -> str:
    rows = [["what", "figures", "ratio"]]
    for what, figures in found.items():
        shown = figures["per_second"] or {name: value for name, value in figures.items() if name != "per_second"}
        rows.append(
            [what, ", ".join(f"{name} {value}" for name, value in shown.items()), str(figures.get("ratio", ""))]
        )
    return table(rows)


if __name__ == "__main__":
    main()
