"""Golden cases: inputs in a model's folder and what the model must say to them, checked at every load.

One JSON file a case: ``input`` (facts, or an image as base64 of unsigned bytes, 255 = 1.0) and ``expected``. A model
that answers otherwise, on this machine and device, is not the model that was approved, and is not loaded.
"""

import base64
import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np

from inference.contract import Fact, FactsInput, ImageInput, ModelInput, Subject
from inference.limits import check_limits
from inference.runners.base import Answer, Declined, Runner
from kernel.errors import Category, Problem

FOLDER: Final = "golden"
TOLERANCE: Final = 1e-3
"""How far a value may be off: processors and devices round differently, approved models do not drift."""


def check_golden(runner: Runner[Any, Any, Any]) -> None:
    """Run every golden case of a runner's model.

    Raises
    ------
    Problem
        ``incorrect``, naming the first case that is answered otherwise, or when there is none.
    """
    folder = runner.model.path / FOLDER
    cases = sorted(folder.glob("*.json"))
    if not cases:
        raise Problem(Category.INCORRECT, f"the model folder {runner.model.path.name} has no golden cases")
    for path in cases:
        case = json.loads(path.read_text(encoding="utf-8"))
        found = _answer(runner, read_input(case["input"]))
        if not _agree(case["expected"], found):
            raise Problem(
                Category.INCORRECT,
                f"the model {runner.model.manifest.name} does not answer its golden case {path.stem} as it should",
                diagnostics=json.dumps({"expected": case["expected"], "found": found}),
            )


def record_golden(runner: Runner[Any, Any, Any], path: Path) -> None:
    """Write what the model says now as the ``expected`` of a case; for those who train models."""
    case = json.loads(path.read_text(encoding="utf-8"))
    case["expected"] = _answer(runner, read_input(case["input"]))
    path.write_text(json.dumps(case, indent=1) + "\n", encoding="utf-8")


def infer(runner: Runner[Any, Any, Any], given: ModelInput) -> Answer:
    """Ask a model directly, alone and on this thread.

    Raises
    ------
    Declined
        When the model may not or cannot answer.
    """
    check_limits(runner.model.manifest, given)
    decoded = runner.decode(given)
    (raw,) = runner.predict(runner.batch([decoded.item]))
    return runner.encode(decoded.item, raw)


def read_input(content: Mapping[str, Any]) -> ModelInput:
    """Read the ``input`` of a golden case."""
    about = content["subject"]
    born = about.get("birth_date")
    subject = Subject(
        reference=about["reference"],
        birth_date=date.fromisoformat(born) if born else None,
        sex=about.get("sex"),
        identifier=None,
    )
    at = datetime.fromisoformat(content["at"])
    if "facts" in content:
        facts = tuple(_fact(number, fact, at) for number, fact in enumerate(content["facts"]))
        return FactsInput(subject=subject, facts=facts, at=at)
    levels = np.frombuffer(base64.b64decode(content["pixels"]), dtype=np.uint8).astype(np.float32)
    return ImageInput(
        subject=subject,
        pixels=levels.reshape(content["rows"], content["columns"]) / np.float32(255),
        modality=content["modality"],
        body_part=content["body_part"],
        view=content["view"],
        sources=("golden",),
        acquired_at=None,
        at=at,
    )


def _fact(number: int, content: Mapping[str, Any], at: datetime) -> Fact:
    return Fact(
        system=content.get("system", "http://loinc.org"),
        code=content["code"],
        value=content["answer"] if "answer" in content else Decimal(content["value"]),
        value_system=None,
        unit=content.get("unit"),
        effective=at,
        issued=at,
        source=f"golden#{number}",
    )


def _answer(runner: Runner[Any, Any, Any], given: ModelInput) -> dict[str, Any]:
    try:
        answer = infer(runner, given)
    except Declined as declined:
        return {"declined": declined.reason}
    heat = answer.heat_map
    return {
        "outputs": [{"name": output.name, "value": output.value, "band": output.band} for output in answer.outputs],
        "heat_map_mean": None if heat is None else float(heat.mean()),
    }


def _agree(expected: Any, found: Any) -> bool:
    """Compare two JSON values, numbers within the tolerance."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(_agree(expected[key], found[key]) for key in expected)
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(_agree, expected, found))
    if isinstance(expected, int | float) and isinstance(found, int | float):
        return abs(expected - found) <= TOLERANCE
    return bool(expected == found)
