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

AUSCULTA = Path(sys.executable).with_name("ausculta")

BROUGHT: Mapping[str, Callable[[], dict[str, bytes]]] = {
    "sklearn": lambda: {"weights.skops": tiny.skops_bytes(tiny.logistic())},
    "xgboost": lambda: {"weights.ubj": tiny.xgboost_bytes()},
    "lightgbm": lambda: {"weights.txt": tiny.lightgbm_bytes()},
    "onnx": lambda: {"weights.onnx": tiny.onnx_bytes()},
    "torch-program": lambda: {"weights.pt2": tiny.program_bytes()},
}


@pytest.mark.parametrize("runner", BROUGHT)
def test_a_file_becomes_a_result_on_what_the_hospital_sent(hospital: Hospital, tmp_path: Path, runner: str) -> None:
    folder = tiny.bring(tmp_path / f"tiny-{runner}", runner, BROUGHT[runner]())
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
