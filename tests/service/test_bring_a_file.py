"""Each kind of file that an engineer brings answers on what the hospital sent, by the documented path alone."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ..inference import tiny_models as tiny  # noqa: TID252 - the models of the tests of the runners
from .hospital import Hospital
from .test_input_kinds import letter, put

AUSCULTA = Path(sys.executable).with_name("ausculta")

BROUGHT: Mapping[str, Callable[[], dict[str, bytes]]] = {
    "sklearn": lambda: {"weights.skops": tiny.skops_bytes(tiny.logistic())},
    "xgboost": lambda: {"weights.ubj": tiny.xgboost_bytes()},
    "lightgbm": lambda: {"weights.txt": tiny.lightgbm_bytes()},
    "onnx": lambda: {"weights.onnx": tiny.onnx_bytes()},
    "torch-network": lambda: {"weights.safetensors": tiny.network_bytes(rising())},
    "torch-program": lambda: {"weights.pt2": tiny.program_bytes()},
}


DECLARED: Mapping[str, Mapping[str, Any]] = {
    "torch-network": {
        "kind": "torch-network",
        "network": "mlp",
        "arguments": {"hidden": [4]},
        "transform": "sigmoid",
        "scale": {"pulse": 100, "systolic": 100},
    }
}
"""Runners that need options."""


def rising() -> Any:
    """Make a perceptron whose number rises with both features."""
    import torch

    network = tiny.perceptron()
    with torch.no_grad():
        for name, value in {"0.weight": 3.0, "0.bias": 0.0, "2.weight": 1.0, "2.bias": -23.0}.items():
            network.get_parameter(name).fill_(value)
    return network


@pytest.mark.parametrize("runner", BROUGHT)
def test_a_file_becomes_a_result_on_what_the_hospital_sent(hospital: Hospital, tmp_path: Path, runner: str) -> None:
    folder = tiny.bring(tmp_path / f"tiny-{runner}", DECLARED.get(runner, runner), BROUGHT[runner]())
    environment = {"AUSCULTA_DATA_DIR": str(tmp_path / "ausculta"), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
    added = subprocess.run(
        [AUSCULTA, "models", "add", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (added.returncode, added.stderr) == (0, "")
    hospital.admit()
    answers: list[Any] = []
    for pulse, systolic in (("60", "100"), ("150", "80")):
        hospital.clock.advance(60)
        hospital.hl7(hospital.vitals(pulse=pulse, systolic=systolic))
        hospital.work()
        answers.append([row for row in hospital.results() if row.model == folder.name][-1])
    assert [row.kind for row in answers] == ["prediction", "prediction"]
    calm, ill = (json.loads(row.outputs)[0]["value"] for row in answers)
    assert calm < 0.5 < ill


def test_a_transformer_reads_a_document_that_was_sent(open_hospital: Callable[..., Hospital], tmp_path: Path) -> None:
    folder = tiny.bring(
        tmp_path / "notes",
        {"kind": "transformers", "task": "sequence"},
        tiny.transformer_files(tmp_path / "saved", "sequence", ("home", "icu", "ward")),
        outputs=[tiny.CLASSES],
        inputs={"name": "note", "kind": "text", "document_types": ["18842-5"]},
        trigger={"kind": "document", "document_types": ["18842-5"]},
        golden=tiny.NOTE,
    )
    hospital = open_hospital(model_dirs=(folder,))
    put(hospital, letter(hospital, "d", "No fever."))
    hospital.work()
    (row,) = [row for row in hospital.results() if row.model == "notes"]
    assert row.kind == "prediction"
    assert [name for name, _ in json.loads(row.outputs)[0]["detail"]["probabilities"]] == ["home", "icu", "ward"]
