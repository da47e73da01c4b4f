"""Golden cases hold every kind of input, and what a model answered in every kind of output."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.contract import ClassSet, Interval, Span, Spans, TimeSeries, VolumeInput
from inference.finalize import finalize_folder
from inference.golden_answer import recorded
from inference.golden_input import read_input
from inference.runners.base import Answer
from inference.testing import NOW, mask, output_of_each_kind
from inference.testing_folder import CASE, pulse_risk, write_weights
from kernel.errors import Category, Problem

OUTPUTS = output_of_each_kind()


def test_a_golden_case_may_hold_a_volume() -> None:
    case = {
        "subject": {"reference": "Patient/golden"},
        "at": NOW.isoformat(),
        "voxels": [[[0, 1], [2, 3]], [[4, 5], [6, 7]]],
        "spacing": [2.5, 0.7, 0.8],
        "modality": "CT",
    }
    volume = read_input(case)
    assert isinstance(volume, VolumeInput)
    assert volume.voxels.tolist() == case["voxels"]
    assert (volume.spacing, volume.modality) == ((2.5, 0.7, 0.8), "CT")


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("class-set", ClassSet(probabilities=(("low", 0.1), ("high", 0.71), ("other", 0.19)))),
        ("interval", Interval(low=8.1, high=20.0, coverage=0.9)),
        ("time-series", TimeSeries(times=OUTPUTS["time-series"].detail.times, values=(0.4, 0.77, 0.42))),  # type: ignore[union-attr]
        ("spans", Spans(spans=(Span(start=0, end=5, label="drug"), Span(start=9, end=12, label="dose")))),
    ],
)
def test_an_answer_of_the_same_value_with_another_detail_is_another_answer(kind: str, changed: object) -> None:
    output = OUTPUTS[kind]  # type: ignore[index]
    other = replace(output, detail=changed)
    assert recorded(Answer(outputs=(output,))) != recorded(Answer(outputs=(other,)))


def test_a_mask_of_the_same_size_at_another_place_is_another_answer() -> None:
    voxels = np.zeros((3, 8, 8), dtype=np.uint8)
    voxels[1, 2:4, 2:4] = 1
    moved = np.roll(voxels, 3, axis=2)
    answers = [recorded(Answer(outputs=(OUTPUTS["mask"],), artefacts=(mask(one),))) for one in (voxels, moved)]
    assert answers[0]["outputs"][0]["detail"] == {"1": {"voxels": 4, "centre": [1.0, 2.5, 2.5]}}
    assert answers[1]["outputs"][0]["detail"] == {"1": {"voxels": 4, "centre": [1.0, 2.5, 5.5]}}


def test_a_golden_case_that_the_model_declines_is_not_recorded_unless_that_is_meant(tmp_path: Path) -> None:
    folder = pulse_risk(tmp_path / "pulse-risk")
    case = folder / "golden" / "ninety.json"
    declined = {"input": CASE["input"] | {"facts": []}}
    case.write_text(json.dumps(declined))
    with pytest.raises(Problem) as refused:
        finalize_folder(folder, {"Evidence": "None: a test."})
    assert refused.value.category is Category.CONFLICT
    assert refused.value.detail.startswith("the model declines the golden case ninety: missing pulse")
    case.write_text(json.dumps(declined | {"declines": True}))
    finalize_folder(folder, {"Evidence": "None: a test."})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_is_refused_is_left_as_it_was(tmp_path: Path) -> None:
    folder = pulse_risk(tmp_path / "pulse-risk")
    (folder / "golden" / "another.json").write_text(json.dumps(CASE))
    write_weights(folder, slope=0.6)
    before = contents(folder)
    with pytest.raises(Problem):
        finalize_folder(folder, {"Evidence": "Another one."}, cases={"golden/made.json": json.dumps(CASE).encode()})
    assert contents(folder) == before


def test_a_folder_whose_code_would_be_refused_when_loaded_is_left_as_it_was(tmp_path: Path) -> None:
    folder = pulse_risk(tmp_path / "pulse-risk")
    (folder / "model.py").write_text("")
    before = contents(folder)
    with pytest.raises(Problem, match="brings code"):
        finalize_folder(folder, {"Evidence": "Another one."})
    assert contents(folder) == before


def test_another_answer_is_shown_with_the_recorded_one(tmp_path: Path) -> None:
    folder = pulse_risk(tmp_path / "pulse-risk")
    case = folder / "golden" / "ninety.json"
    expected = json.loads(case.read_text())["expected"]["outputs"][0]
    write_weights(folder, slope=-0.5)
    with pytest.raises(Problem) as refused:
        finalize_folder(folder, {"Evidence": "None: a test."})
    shown = re.fullmatch(
        r"the golden case ninety records another answer: outputs\[risk\].value is (\S+) and (\S+) is expected, "
        r'by (\S+) of it, .*; remove "expected" from it to record the new one',
        refused.value.detail,
    )
    assert shown is not None, refused.value.detail
    assert (float(shown[1]) != expected["value"], float(shown[2])) == (True, expected["value"])
