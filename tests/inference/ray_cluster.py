"""Runs a model on a local Ray cluster of two workers and prints what was seen; a process of its own, as Ray needs."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # else Ray sends statistics to its makers

import ray
from ray import serve

from inference.golden import infer
from inference.loading import load_model
from inference.ray_serve import deploy
from inference.testing import vitals
from kernel.errors import Problem

PULSES = range(60, 92)
MARK = f"AUSCULTA_TEST_CLUSTER={os.getpid()}"
"""In the environment of every process of this cluster, and of no other."""
os.environ.update([MARK.split("=")])


def given(pulse: int) -> Any:
    return vitals(_8867_4=(str(pulse), "/min"), _8480_6=("95", "mm[Hg]"))


def failure_of(runner: Any, items: Any, seconds: float) -> str:
    try:
        runner.predict_within(items, seconds)
    except Exception as failure:  # noqa: BLE001 - the test reads which one it was
        return type(failure).__name__
    return ""


def processes(name: str) -> list[int]:
    """Return the processes of this cluster that run a model."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            is_replica = path.read_bytes().startswith(f"ray::ServeReplica:{name}".encode())
            session = (path.parent / "environ").read_bytes()
        except OSError:
            continue
        if is_replica and MARK.encode() in session:
            found.append(int(path.parent.name))
    return found


def survives(runner: Any, item: Any) -> str:
    """Ask until there is an answer again; return what was raised meanwhile, if anything but ``unavailable``."""
    for _ in range(200):
        try:
            runner.predict_within([item], 60)
        except Problem as problem:
            if problem.category != "unavailable":
                return repr(problem)
        else:
            return "answered"
    return "not answered"


def main(folder: Path) -> None:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    local, runner = load_model(folder), deploy(folder, processes=2)
    name = f"{folder.name}-{local.model.digest[:12]}"
    items = [runner.decode(given(pulse)).item for pulse in PULSES]
    raw = runner.predict_within(items, 60)
    states = serve.status().applications[name].deployments["ModelProcess"].replica_states
    seen = {
        "here": [infer(local, given(pulse)).outputs[0].value for pulse in PULSES],
        "there": [runner.encode(item, one).outputs[0].value for item, one in zip(items, raw, strict=True)],
        "running": states.get("RUNNING"),
        "late": failure_of(runner, items, 0.0),
        "broken": failure_of(runner, ["no item"], 60),
    }
    before = processes(name)
    os.kill(before[0], signal.SIGKILL)
    seen |= {"processes": len(before), "killed": survives(runner, items[0])}
    runner.close()
    seen["left"] = list(serve.status().applications)
    serve.shutdown()
    ray.shutdown()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
