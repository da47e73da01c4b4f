"""A model computes in bfloat16 where its folder allows it, the device can, and every golden case still holds."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import structlog
import torch

from inference.digest import seal
from inference.golden import infer
from inference.loading import AnyRunner, load_model
from inference.runners import torch_device
from kernel.errors import Problem

from .test_runner_tabular import facts, refusal
from .tiny_models import bring, network_bytes, perceptron


@pytest.fixture(autouse=True)
def _a_device_with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_device, "has_bf16", lambda _device: True)


def network() -> torch.nn.Module:
    """Return a perceptron whose answers differ by more than a thousandth between the precisions."""
    made = perceptron()
    with torch.no_grad():
        made[0].weight *= 2
    return made


def brought(folder: Path, *, tolerance: Mapping[str, float] | None = None, **options: Any) -> Path:
    """Bring the network."""
    runner = {"kind": "torch-network", "network": "mlp", "arguments": {"hidden": [4]}, "transform": "sigmoid"}
    bring(folder, runner | options, {"weights.safetensors": network_bytes(network())})
    if tolerance is not None:
        path = folder / "golden" / "one.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tolerance": tolerance}))
        seal(folder)
    return folder


def loaded(folder: Path) -> tuple[AnyRunner, float]:
    runner = load_model(folder)
    found = infer(runner, facts(101, 93)).outputs[0].value
    assert found is not None
    return runner, found


def exact() -> float:
    with torch.no_grad():
        return float(torch.sigmoid(network()(torch.tensor([[101.0, 93.0]]))))


def lower() -> float:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        return float(torch.sigmoid(network()(torch.tensor([[101.0, 93.0]])).double()))


def test_the_precisions_differ_by_more_than_a_golden_case_allows_by_default() -> None:
    assert abs(lower() / exact() - 1) > 1e-3


def test_bf16_is_used_where_the_golden_cases_allow_it(tmp_path: Path) -> None:
    _, found = loaded(brought(tmp_path / "tiny", tolerance={"relative": 0.2}, precision="bf16"))
    assert found == pytest.approx(lower(), rel=1e-6)


def test_a_golden_case_that_no_longer_holds_keeps_the_model_in_single_precision(tmp_path: Path) -> None:
    _, found = loaded(brought(tmp_path / "tiny", precision="bf16"))
    assert found == pytest.approx(exact(), rel=1e-6)


def test_the_log_names_the_case_and_how_far_off_it_is(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        loaded(brought(tmp_path / "tiny", precision="bf16"))
    (line,) = [line for line in lines if line["event"] == "precision_not_kept"]
    said = r".* golden case one as it should: outputs\[risk\].value is (\S+) and (\S+) is expected, by (\S+) of it"
    shown = re.fullmatch(said, line["reason"])
    assert shown is not None, line["reason"]
    found, expected, share = map(float, shown.groups())
    assert share == pytest.approx(abs(found / expected - 1), rel=0.05)
    assert share > 1e-3


def test_a_folder_that_does_not_allow_bf16_is_run_in_single_precision(tmp_path: Path) -> None:
    runner, found = loaded(brought(tmp_path / "tiny", tolerance={"relative": 0.2}))
    assert runner.precisions() == ("single",)
    assert found == pytest.approx(exact(), rel=1e-6)


def test_a_device_without_bf16_computes_in_single_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_device, "has_bf16", lambda _device: False)
    _, found = loaded(brought(tmp_path / "tiny", tolerance={"relative": 0.2}, precision="bf16"))
    assert found == pytest.approx(exact(), rel=1e-6)


def test_a_folder_that_is_not_what_was_approved_is_refused_whatever_the_lower_precision_answers(tmp_path: Path) -> None:
    folder = brought(tmp_path / "tiny", tolerance={"relative": 0.001}, precision="bf16")
    path = folder / "golden" / "one.json"
    case = json.loads(path.read_text())
    case["expected"]["outputs"][0]["value"] *= 1.01
    path.write_text(json.dumps(case))
    seal(folder)
    with pytest.raises(Problem, match="golden case one"):
        load_model(folder)


def test_another_precision_is_refused_with_the_line_to_change(tmp_path: Path) -> None:
    detail = refusal(lambda: brought(tmp_path / "tiny", precision="int4"))
    assert detail == "model.yaml.runner.precision must be one of: single, bf16"
