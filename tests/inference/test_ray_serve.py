"""The same runner as a deployment of Ray Serve, on a local cluster of two workers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from inference import ray_serve
from kernel.errors import Category, Problem

from . import tiny_models as tiny

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = Path(__file__).with_name("ray_cluster.py")


def test_two_processes_of_ray_answer_as_the_runner_does_and_one_may_be_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    folder = tiny.bring(tmp_path / "tiny", "xgboost", {"weights.ubj": tiny.xgboost_bytes()})
    path = os.pathsep.join([str(REPOSITORY), *(entry for entry in sys.path if entry)])
    done = subprocess.run(
        [sys.executable, str(CLUSTER), str(folder)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": path},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["there"] == seen["here"]
    assert len(set(seen["here"])) > 2
    assert (seen["running"], seen["processes"]) == (2, 2)
    assert seen["late"] == "TimeoutError"
    assert seen["broken"] == "ValueError"
    assert seen["killed"] == "answered"
    assert seen["left"] == []


def test_without_ray_the_refusal_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_serve.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Problem, match=r"pip install '\.\[ray\]'") as refused:
        ray_serve.deploy(tmp_path)
    assert refused.value.category is Category.UNSUPPORTED
