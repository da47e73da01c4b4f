"""Golden cases: inputs in a model's folder and what the model must predict on them, checked at every load.

One JSON file a case:

- ``input``: as :mod:`inference.golden_input` reads it
- ``expected``: what this runtime predicted when the folder was sealed
- ``declines``: true when the model is meant to decline the input; optional
- ``reference``: what the library that trained the model predicted; optional, compared as well
- ``tolerance``: ``relative`` and ``absolute``; optional

A model with other predictions on this machine and device is not the approved model, and is not loaded.
"""

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from inference.contract import ModelInput
from inference.folder import ModelFolder
from inference.golden_answer import recorded
from inference.golden_input import read_input
from inference.limits import check_limits
from inference.runners.base import Answer, Declined, Runner
from kernel.errors import Category, Problem

FOLDER: Final = "golden"
RELATIVE: Final = 1e-3
ABSOLUTE: Final = 1e-6
"""Default tolerance: processors and devices round differently.

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
        ``conflict``, naming the first case that is predicted otherwise, or that the model declines though the case does
        not say so; then nothing is recorded.
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
        if "expected" not in case and "declined" in found and case.get("declines") is not True:
            raise Problem(
                Category.CONFLICT,
                f"the model declines the golden case {name}: {found['declined']}; "
                'if that is meant, write "declines": true into the case',
            )
        if "expected" not in case:
            missing.append((name, case | {"expected": found}))
    for name, case in missing:
        (runner.model.path / FOLDER / f"{name}.json").write_text(json.dumps(case, indent=1) + "\n", encoding="utf-8")


def infer(runner: Runner[Any, Any, Any], model_input: ModelInput) -> Answer:
    """Run a model directly on one input, on this thread.

    Parameters
    ----------
    runner
        Set up.
    model_input
        The input; it is checked against the manifest's limits first.

    Raises
    ------
    Declined
        When the model may not or cannot predict.
    """
    check_limits(runner.model.manifest, model_input)
    decoded = runner.decode(model_input)
    (raw,) = runner.predict(runner.batch([decoded.item]))
    return runner.encode(decoded.item, raw)


def _answer(runner: Runner[Any, Any, Any], model_input: ModelInput) -> dict[str, Any]:
    try:
        answer = infer(runner, model_input)
    except Declined as declined:
        return {"declined": declined.reason}
    return recorded(answer)


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
