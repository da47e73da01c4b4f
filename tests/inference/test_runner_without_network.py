"""No runner but ``remote`` opens a connection: every one is loaded and predicts where sockets cannot be made."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from inference.remote.permitted import RemoteHosts
from inference.runners import RUNNERS

from . import tiny_models as tiny
from .code_models import needs_isolation
from .model_server import ModelServer

BROUGHT: Mapping[str, tuple[Any, Callable[[], dict[str, bytes]]]] = {
    "sklearn": ("sklearn", lambda: {"weights.skops": tiny.skops_bytes(tiny.logistic())}),
    "xgboost": ("xgboost", lambda: {"weights.ubj": tiny.xgboost_bytes()}),
    "lightgbm": ("lightgbm", lambda: {"weights.txt": tiny.lightgbm_bytes()}),
    "onnx": ("onnx", lambda: {"weights.onnx": tiny.onnx_bytes()}),
    "torch-program": ("torch-program", lambda: {"weights.pt2": tiny.program_bytes()}),
    "torch-network": (
        {"kind": "torch-network", "network": "mlp", "arguments": {"hidden": [4]}, "transform": "sigmoid"},
        lambda: {"weights.safetensors": tiny.network_bytes(tiny.perceptron())},
    ),
    "code": ("code", lambda: {"model.py": b"load = lambda files: lambda rows: rows[:, :1] / 200"}),
    "linear": ("linear", lambda: {"weights.safetensors": linear_bytes()}),
}

BUNDLED = {"score": "news2", "torch-image-classifier": "cxr_pneumonia"}
"""Runners of models that bring code: tried with the model that comes with the software."""

BLOCKED = """
import socket, sys
from pathlib import Path

def refuse(*_args, **_more):
    raise RuntimeError("a socket was opened")

class Refused(socket.socket):
    def __new__(cls, *args, **more):
        refuse()

socket.socket = Refused
socket.create_connection = socket.getaddrinfo = refuse
import _socket
_socket.socket = Refused

def audit(event, _arguments):
    if event.startswith("socket."):
        raise RuntimeError(event)

sys.addaudithook(audit)

from inference.loading import load_model
runner = load_model(Path(sys.argv[1]), run_code=True)  # its golden cases are predicted
print("predicted with", runner.model.manifest.runner)
"""


def linear_bytes() -> bytes:
    import numpy as np
    from safetensors.numpy import save

    return bytes(save({"weight": np.array([0.05, -0.05]), "bias": np.array([0.0])}))


def transformer(folder: Path) -> Path:
    files = tiny.transformer_files(folder / "saved", "sequence", ("home", "icu", "ward"))
    return tiny.bring(
        folder / "tiny",
        {"kind": "transformers", "task": "sequence"},
        files,
        outputs=[tiny.CLASSES],
        inputs={"name": "note", "kind": "text"},
        trigger={"kind": "document", "document_types": []},
        golden=tiny.NOTE,
    )


@pytest.mark.parametrize(
    "runner",
    [
        pytest.param(name, marks=[needs_isolation] if name == "code" else [])
        for name in sorted(RUNNERS.keys() - {"remote"})
    ],
)
def test_a_runner_loads_and_predicts_without_a_network(tmp_path: Path, runner: str) -> None:
    if runner in BUNDLED:
        import inference.models

        folder = Path(inference.models.__file__).parent / BUNDLED[runner]
    elif runner == "transformers":
        folder = transformer(tmp_path)
    else:
        declared, files = BROUGHT[runner]
        folder = tiny.bring(tmp_path / "tiny", declared, files(), run_code=True)
    done = load_where_sockets_are_blocked(folder, tmp_path)
    assert done.stdout == f"predicted with {runner}\n", done.stderr


def test_a_remote_model_opens_no_socket_to_a_host_that_nobody_listed(tmp_path: Path) -> None:
    with ModelServer() as server:
        options = {"kind": "remote", "url": server.url, "model": "risk", "transform": "sigmoid"}
        folder = tiny.bring(tmp_path / "tiny", options, {}, remote_hosts=RemoteHosts(allowed=("127.0.0.1",)))
    done = load_where_sockets_are_blocked(folder, tmp_path)
    assert "REMOTE_MODEL_HOSTS" in done.stderr, done.stderr
    assert "a socket was opened" not in done.stderr


def load_where_sockets_are_blocked(folder: Path, home: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, str(folder)],
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
