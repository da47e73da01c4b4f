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
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
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

_MOST_SHOWN: Final = 3
"""Differences of a case that a refusal shows."""
_LONGEST: Final = 80
"""Characters of a value that a refusal shows."""


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
        differs = _differences(case, found) if "expected" in case else "it records no answer"
        if differs:
            model = runner.model.manifest.name
            raise Problem(
                Category.INCORRECT,
                f"the model {model} does not answer its golden case {name} as it should: {differs}",
                diagnostics=json.dumps({"case": _answers(case), "found": found}),
            )


def settle_golden(runner: Runner[Any, Any, Any]) -> Mapping[str, bytes]:
    """Compare every golden case that has ``expected``, and answer those that have none; nothing is written.

    Parameters
    ----------
    runner
        Set up.

    Returns
    -------
    Mapping
        The cases that had no answer, with it: name in the folder -> content.

    Raises
    ------
    Problem
        ``conflict``, naming the first case that is predicted otherwise, or that the model declines though the case does
        not say so.
    """
    settled: dict[str, bytes] = {}
    for name, case in _cases(runner.model):
        found = _answer(runner, read_input(case["input"]))
        differs = _differences(case, found)
        if differs:
            raise Problem(
                Category.CONFLICT,
                f"the golden case {name} records another answer: {differs}"
                + ('; remove "expected" from it to record the new one' if "expected" in case else ""),
                diagnostics=json.dumps({"case": _answers(case), "found": found}),
            )
        if "expected" not in case and "declined" in found and case.get("declines") is not True:
            raise Problem(
                Category.CONFLICT,
                f"the model declines the golden case {name}: {found['declined']}; "
                'if that is meant, write "declines": true into the case',
            )
        if "expected" not in case:
            settled[case_file(name)] = case_content(case | {"expected": found})
    return settled


def case_file(name: str) -> str:
    """Return where the case of a name stands in its folder."""
    return f"{FOLDER}/{name}.json"


def case_content(case: Mapping[str, Any]) -> bytes:
    """Return a case as its file holds it."""
    return (json.dumps(case, indent=1) + "\n").encode()


def case_names(files: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the golden cases among the files of a folder, in order."""
    paths = [PurePosixPath(name) for name in sorted(files)]
    return tuple(
        path.stem for path in paths if path.parent.name == FOLDER and len(path.parts) == 2 and path.suffix == ".json"
    )


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
    return [(name, json.loads(model.files[case_file(name)])) for name in case_names(model.files)]


def _answers(case: Mapping[str, Any]) -> dict[str, Any]:
    return {key: case[key] for key in ("expected", "reference") if key in case}


def _differences(case: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Compare with the recorded answer and the reference's, where there are; empty when both agree.

    The numbers may be shown: they are answers of a golden case, and of no patient.
    """
    allowed = case.get("tolerance", {})
    tolerance = float(allowed.get("relative", RELATIVE)), float(allowed.get("absolute", ABSOLUTE))
    differing = [*islice(_recorded_otherwise(case, found, tolerance), _MOST_SHOWN + 1)]
    return ", ".join(differing[:_MOST_SHOWN]) + (" and more" if len(differing) > _MOST_SHOWN else "")


def _recorded_otherwise(
    case: Mapping[str, Any], found: Mapping[str, Any], tolerance: tuple[float, float]
) -> Iterator[str]:
    if "expected" in case:
        yield from _differing("", case["expected"], found, tolerance)
    if "reference" in case:  # holds only numbers, by output name
        values = {output["name"]: output["value"] for output in found.get("outputs", ())}
        for name, value in case["reference"].items():
            yield from _differing(f"reference.{name}", value, values.get(name), tolerance)


def _differing(place: str, expected: Any, found: Any, tolerance: tuple[float, float]) -> Iterator[str]:
    """Yield where two JSON values differ, numbers by more than the tolerance."""
    if isinstance(expected, dict) and isinstance(found, dict) and expected.keys() == found.keys():
        for key in expected:
            yield from _differing(f"{place}.{key}".lstrip("."), expected[key], found[key], tolerance)
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from _differing(f"{place}[{_named(one, number)}]", one, other, tolerance)
    elif isinstance(expected, int | float) and isinstance(found, int | float):
        relative, absolute = tolerance
        if not abs(expected - found) <= max(absolute, relative * abs(expected)):
            share = f", by {abs(found / expected - 1):.2g} of it" if expected else ""
            yield f"{place} is {found} and {expected} is expected{share}"
    elif expected != found:
        yield f"{place or 'it'} is {_short(found)} and {_short(expected)} is expected"


def _named(entry: Any, number: int) -> object:
    return entry.get("name", number) if isinstance(entry, dict) else number


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
