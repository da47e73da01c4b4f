"""Golden cases: inputs in a model's folder and what the model must predict on them, checked at every load.

One JSON file a case:

- ``input``: facts (each with ``at``, a time or seconds relative to the time of prediction, where it was not measured
  then), or an image as base64 of unsigned bytes, 255 = 1.0
- ``expected``: what this runtime predicted when the folder was sealed
- ``reference``: what the library that trained the model predicted; optional, compared as well
- ``tolerance``: ``relative`` and ``absolute``; optional

A model that predicts otherwise, on this machine and device, is not the model that was approved, and is not loaded.
"""

import base64
import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np

from inference.contract import Fact, FactsInput, ImageInput, ModelInput, Subject
from inference.folder import ModelFolder
from inference.limits import check_limits
from inference.runners.base import Answer, Declined, Runner
from kernel.errors import Category, Problem

FOLDER: Final = "golden"
RELATIVE: Final = 1e-3
ABSOLUTE: Final = 1e-6
"""How far a number may be off by default: processors and devices round differently, approved models do not drift.

Relative, so that a small probability is held to as many digits as a large one; absolute for numbers near 0.
"""


def check_golden(runner: Runner[Any, Any, Any]) -> None:
    """Run every golden case of a runner's model.

    Parameters
    ----------
    runner
        Set up.

    Raises
    ------
    Problem
        ``incorrect``, naming the first case that is predicted otherwise, or when there is none.
    """
    cases = _cases(runner.model)
    if not cases:
        raise Problem(Category.INCORRECT, f"the model folder {runner.model.path.name} has no golden cases")
    for name, case in cases:
        found = _answer(runner, read_input(case["input"]))
        if "expected" not in case or not _matches(case, found):
            raise Problem(
                Category.INCORRECT,
                f"the model {runner.model.manifest.name} does not answer its golden case {name} as it should",
                diagnostics=json.dumps({"case": _answers(case), "found": found}),
            )


def settle_golden(runner: Runner[Any, Any, Any]) -> None:
    """Compare every golden case that has ``expected``, then record it where it is missing; never overwrite one.

    Parameters
    ----------
    runner
        Set up.

    Raises
    ------
    Problem
        ``conflict``, naming the first case that is predicted otherwise; then nothing is recorded.
    """
    missing: list[tuple[str, dict[str, Any]]] = []
    for name, case in _cases(runner.model):
        found = _answer(runner, read_input(case["input"]))
        if not _matches(case, found):
            raise Problem(
                Category.CONFLICT,
                f"the golden case {name} records another answer; remove it to record the new one",
                diagnostics=json.dumps({"case": _answers(case), "found": found}),
            )
        if "expected" not in case:
            missing.append((name, case | {"expected": found}))
    for name, case in missing:
        (runner.model.path / FOLDER / f"{name}.json").write_text(json.dumps(case, indent=1) + "\n", encoding="utf-8")


def infer(runner: Runner[Any, Any, Any], given: ModelInput) -> Answer:
    """Run a model directly on one input, on this thread.

    Parameters
    ----------
    runner
        Set up.
    given
        The input; it is checked against the manifest's limits first.

    Raises
    ------
    Declined
        When the model may not or cannot predict.
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
    measured = _time(content["at"], at) if "at" in content else at
    return Fact(
        system=content.get("system", "http://loinc.org"),
        code=content["code"],
        value=content["answer"] if "answer" in content else Decimal(content["value"]),
        value_system=None,
        unit=content.get("unit"),
        effective=measured,
        issued=measured,
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


def _time(stated: str | float, at: datetime) -> datetime:
    """Return a time given in ISO 8601, or in seconds relative to ``at``."""
    return datetime.fromisoformat(stated) if isinstance(stated, str) else at + timedelta(seconds=stated)


def _cases(model: ModelFolder) -> list[tuple[str, dict[str, Any]]]:
    """Return name and content of every case, in order of their names."""
    paths = [PurePosixPath(name) for name in sorted(model.files)]
    return [
        (path.stem, json.loads(model.files[str(path)]))
        for path in paths
        if path.parent.name == FOLDER and len(path.parts) == 2 and path.suffix == ".json"
    ]


def _answers(case: Mapping[str, Any]) -> dict[str, Any]:
    return {key: case[key] for key in ("expected", "reference") if key in case}


def _matches(case: Mapping[str, Any], found: Any) -> bool:
    """Compare with the recorded answer and, where there is one, with the reference's."""
    allowed = case.get("tolerance", {})
    relative, absolute = float(allowed.get("relative", RELATIVE)), float(allowed.get("absolute", ABSOLUTE))
    if "expected" in case and not _agree(case["expected"], found, relative, absolute):
        return False
    return "reference" not in case or _covers(case["reference"], found, relative, absolute)


def _covers(reference: Mapping[str, Any], found: Mapping[str, Any], relative: float, absolute: float) -> bool:
    """Compare a reference, which holds only numbers by output name, with what was found."""
    values = {output["name"]: output["value"] for output in found.get("outputs", ())}
    return reference.keys() <= values.keys() and all(
        _agree(value, values[name], relative, absolute) for name, value in reference.items()
    )


def _agree(expected: Any, found: Any, relative: float, absolute: float) -> bool:
    """Compare two JSON values, numbers within the tolerance."""
    if isinstance(expected, dict) and isinstance(found, dict):
        same = expected.keys() == found.keys()
        return same and all(_agree(expected[key], found[key], relative, absolute) for key in expected)
    if isinstance(expected, list) and isinstance(found, list):
        pairs = zip(expected, found, strict=False)
        return len(expected) == len(found) and all(_agree(one, other, relative, absolute) for one, other in pairs)
    if isinstance(expected, int | float) and isinstance(found, int | float):
        return abs(expected - found) <= max(absolute, relative * abs(expected))
    return bool(expected == found)
