"""One tiny model of each kind of input, from the manifest through decode, batch, predict and encode to an output."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from inference.contract import ModelInput, SeriesInput, StudyInput, TextInput, VolumeInput, kind_of
from inference.golden import infer
from inference.outputs import make_output
from inference.runners.base import Answer, Declined, Decoded, Runner
from inference.testing import ADULT, NOW, radiograph, toy_folder, vitals

SERIES = SeriesInput(
    subject=ADULT,
    features=("pulse",),
    grid=(NOW - timedelta(hours=1), NOW),
    values=np.ones((2, 1), dtype=np.float32),
    mask=np.ones((2, 1), dtype=np.bool_),
    sources=("Observation/1/_history/1",),
    at=NOW,
)
VOLUME = VolumeInput(
    subject=ADULT,
    voxels=np.zeros((3, 4, 4), dtype=np.float32),
    spacing=(1.0, 1.0, 1.0),
    orientation=((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    origin=(0, 0, 0),
    modality="CT",
    body_part="CHEST",
    sources=("urn:oid:1.2#a",),
    acquired_at=NOW,
    at=NOW,
)
TEXT = TextInput(
    subject=ADULT,
    text="No fever.",
    document_type="18842-5",
    language="en",
    sources=("DocumentReference/1/_history/1",),
    authored_at=NOW,
    at=NOW,
)
STUDY = StudyInput(subject=ADULT, parts={"film": radiograph(subject=ADULT), "note": TEXT}, at=NOW)

FILM = {"name": "film", "kind": "image", "modalities": ["DX"]}
NOTE = {"name": "note", "kind": "text"}
CASES: list[tuple[dict[str, Any], ModelInput, float]] = [
    ({"name": "facts", "kind": "facts"}, vitals(), 7.0),
    ({"name": "trend", "kind": "series", "hours": 2, "step_hours": 1}, SERIES, 2.0),
    (FILM, radiograph(30, 40), 1200.0),
    ({"name": "ct", "kind": "volume", "modalities": ["CT"], "min_slices": 3}, VOLUME, 48.0),
    (NOTE, TEXT, 9.0),
    ({"name": "all", "kind": "study", "parts": [FILM, NOTE]}, STUDY, 2.0),
]


def size(given: ModelInput) -> float:
    """Count what the input holds: facts, values, pixels, voxels, characters or parts."""
    held = {
        "facts": lambda: len(given.facts),
        "series": lambda: given.values.size,
        "image": lambda: given.pixels.size,
        "volume": lambda: given.voxels.size,
        "text": lambda: len(given.text),
        "study": lambda: len(given.parts),
    }
    return float(held[kind_of(given)]())


class SizeRunner(Runner[float, Sequence[float], float]):
    def setup(self, device: str) -> None:
        pass

    def decode(self, given: ModelInput) -> Decoded[float]:
        return Decoded(item=size(given), inputs=(), shape=())

    def batch(self, items: Sequence[float]) -> Sequence[float]:
        return items

    def predict(self, batch: Sequence[float]) -> Sequence[float]:
        return batch

    def encode(self, item: float, raw: float) -> Answer:
        (spec,) = self.model.manifest.outputs
        return Answer(outputs=(make_output(spec, raw, band="low", notice=self.opening()),))


@pytest.mark.parametrize(("declared", "given", "expected"), CASES, ids=[kind_of(case[1]) for case in CASES])
def test_a_model_of_each_kind_predicts(declared: dict[str, Any], given: ModelInput, expected: float) -> None:
    (output,) = infer(SizeRunner(toy_folder(inputs=[declared])), given).outputs
    assert output.value == expected


def test_a_study_without_one_of_its_parts_is_declined() -> None:
    runner = SizeRunner(toy_folder(inputs=[CASES[-1][0]]))
    with pytest.raises(Declined) as declined:
        infer(runner, StudyInput(subject=ADULT, parts={"note": TEXT}, at=NOW))
    assert declined.value.missing == ("film",)
