"""The models over HTTP (``/v2``) against LitServe: the same logistic model of one feature, in the same run.

Run as ``python -m benchmarks.inference_servers``. LitServe 0.2.19 runs from an environment of its own, which is made
below ``benchmarks/results`` when it is not there; where it cannot be installed it is left out. ``/v2`` records each
call durably before it answers; the variant that does not is here for the comparison alone.
"""

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.http_load import Target, ask
from benchmarks.measure import in_turns, percentiles, ratio, table
from kernel.clock import SystemClock

LITSERVE: Final = "litserve==0.2.19"
ENVIRONMENT: Final = Path(__file__).parent / "results" / "litserve"
ROUNDS: Final = 5
SECONDS: Final = 2.0
AT_ONCE: Final = 32
COMPARED: Final = """
import math, sys
import litserve

class Risk(litserve.LitAPI):
    def setup(self, device):
        self.weight, self.bias, self.mean, self.scale = 0.5, 0.25, 80.0, 10.0

    def decode_request(self, request):
        return float(request["pulse"])

    def batch(self, inputs):
        return inputs

    def unbatch(self, output):
        return output

    def predict(self, pulses):
        rows = pulses if isinstance(pulses, list) else [pulses]
        found = [1 / (1 + math.exp(-(self.weight * (one - self.mean) / self.scale + self.bias))) for one in rows]
        return found if isinstance(pulses, list) else found[0]

    def encode_response(self, output):
        return {"risk": output}

if __name__ == "__main__":
    api = Risk(max_batch_size=int(sys.argv[2]), batch_timeout=0.004) if int(sys.argv[2]) > 1 else Risk()
    litserve.LitServer(api, accelerator="cpu").run(port=int(sys.argv[1]), generate_client_file=False, log_level="error")
"""


def serve(port: int, folder: Path, *, records: bool) -> None:
    """Serve the model under ``/v2`` in this process, until it is ended."""
    from inference import registry
    from inference.testing_folder import PULSE_RISK, pulse_risk
    from service.api import http_application
    from service.application import build
    from service.inference_protocol import routes
    from service.listeners.http import http_server, listening_socket
    from service.settings import load

    model = pulse_risk(folder / PULSE_RISK)
    application = build(load({}, None, data_dir=folder / "data", device="cpu", model_dirs=(model,)))
    now = SystemClock().now()
    application.database.write(
        lambda tx: registry.set_status(tx, PULSE_RISK, "1.0.0", "active", by="benchmark", at=now)
    )
    if not records:

        async def nothing(*_: Any) -> None:
            """Record nothing."""

        routes.record = nothing  # type: ignore[assignment]
    http_server(http_application(application)).run([listening_socket("127.0.0.1", port)])


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], target: Target) -> Iterator[Target]:
    """Run a server until the end of the block; it is ready when it has answered."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError, RuntimeError, IndexError, EOFError):
                ask(target, 1, 0.05)
                break
            if server.poll() is not None:
                raise RuntimeError(f"the server has ended: {command}")
            time.sleep(0.1)
        yield target
    finally:
        server.terminate()
        server.wait(20)


def other_python() -> str:
    """Return the interpreter that has LitServe, or an empty text where it cannot be installed."""
    python = Path(os.environ.get("LITSERVE_PYTHON", ENVIRONMENT / "bin" / "python"))
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
        done = subprocess.run([python, "-m", "pip", "install", "-q", LITSERVE], check=False, capture_output=True)
        if done.returncode:
            return ""
    return str(python)


def main() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as held:
        folder, targets = Path(name), {}
        body = b'{"inputs":[{"name":"pulse","datatype":"FP64","shape":[1],"data":[90.0]}],"outputs":[{"name":"risk"}]}'
        for variant, records in (("/v2, recorded", "1"), ("/v2, not recorded", "0")):
            port = free_port()
            command = [sys.executable, "-m", "benchmarks.inference_servers", str(port), str(folder / records), records]
            target = Target(port=port, path="/v2/models/pulse-risk/infer", body=body)
            targets[variant] = held.enter_context(running(command, target))
        python = other_python()
        if python:
            (folder / "litserve_server.py").write_text(COMPARED)
            for variant, size in (("LitServe", "1"), ("LitServe, batches", str(AT_ONCE))):
                port = free_port()
                target = Target(port=port, path="/predict", body=b'{"pulse": 90.0}')
                command = [python, str(folder / "litserve_server.py"), str(port), size]
                targets[variant] = held.enter_context(running(command, target))
        else:
            print(f"{LITSERVE} cannot be installed here: it is left out")
        return measured(targets)


def measured(targets: dict[str, Target]) -> dict[str, Any]:
    alone: dict[str, list[float]] = {name: [] for name in targets}

    def latency(name: str) -> float:
        taken = ask(targets[name], 1, SECONDS)
        alone[name] += taken
        return statistics.median(taken)

    def rate(name: str) -> float:
        return len(ask(targets[name], AT_ONCE, SECONDS)) / SECONDS

    single = in_turns({name: lambda name=name: latency(name) for name in targets}, ROUNDS)
    many = in_turns({name: lambda name=name: rate(name) for name in targets}, ROUNDS)
    rows = [["server", "p50 ms, 1 connection", "p95 ms", f"per second, {AT_ONCE} connections"]]
    figures: dict[str, Any] = {}
    for name in targets:
        figures[name] = percentiles(alone[name]) | {"per_second": round(statistics.median(many[name]))}
        rows.append([name, *(str(figures[name][key]) for key in ("p50_ms", "p95_ms", "per_second"))])
    print(table(rows))
    for other in [name for name in targets if name.startswith("LitServe")]:
        for mine in [name for name in targets if name.startswith("/v2")]:
            figures[f"{mine} / {other}"] = [round(ratio(single, mine, other), 2), round(ratio(many, mine, other), 2)]
            print(f"{mine} / {other}: time {ratio(single, mine, other):.2f}, requests {ratio(many, mine, other):.2f}")
    return figures


if __name__ == "__main__":
    if len(sys.argv) > 1:
        place = Path(sys.argv[2])
        place.mkdir(parents=True)
        serve(int(sys.argv[1]), place, records=sys.argv[3] == "1")
    else:
        main()
