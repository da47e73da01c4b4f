"""ONNX models of facts, series and images, and the files that are refused before the runtime sees them."""

import base64
from pathlib import Path

import numpy as np
import pytest

from inference.golden import infer
from inference.loading import load_model
from inference.testing import radiograph

from . import tiny_models as tiny
from .test_runner_tabular import facts, refusal, value
from .tiny_models import bring, onnx_bytes


def sigmoid(number: float) -> float:
    return float(1 / (1 + np.exp(-number)))


def test_a_row_of_features(tmp_path: Path) -> None:
    folder = bring(tmp_path / "tiny", "onnx", {"weights.onnx": onnx_bytes()})
    assert value(folder) == pytest.approx(sigmoid(0.05 * 190 - 9.5), abs=1e-6)


def test_a_row_that_the_manifest_standardises(tmp_path: Path) -> None:
    runner = {"kind": "onnx", "mean": {"pulse": 80}, "scale": {"pulse": 20}, "fill": {"pulse": 80, "systolic": 120}}
    folder = bring(tmp_path / "tiny", runner, {"weights.onnx": onnx_bytes()}, missing="nan")
    assert value(folder) == pytest.approx(sigmoid(0.05 * (1 + 90) - 9.5), abs=1e-6)
    assert value(folder, facts(systolic=None)) == pytest.approx(sigmoid(0.05 * (1 + 120) - 9.5), abs=1e-6)


def test_logits_become_classes_by_softmax(tmp_path: Path) -> None:
    content = {"weights.onnx": onnx_bytes(outputs=3, sigmoid=False)}
    folder = bring(tmp_path / "tiny", {"kind": "onnx", "transform": "softmax"}, content, outputs=[tiny.CLASSES])
    assert value(folder) == pytest.approx(1 / 3)


def test_a_series_with_its_mask(tmp_path: Path) -> None:
    runner = {"kind": "onnx", "mask": True, "fill": {"pulse": 0}, "transform": "none"}
    golden = {"series": {"features": ["pulse"], "step_hours": 1, "values": [[None], [70], [90]]}}
    folder = bring(
        tmp_path / "tiny",
        runner,
        {"weights.onnx": onnx_bytes(shape=(3, 2))},
        features=("pulse",),
        missing="nan",
        inputs={"name": "trend", "kind": "series", "hours": 3, "step_hours": 1},
        golden=golden,
    )
    runner_ = load_model(folder)
    from inference.golden_input import read_input

    given = read_input({"subject": {"reference": "Patient/1"}, "at": "2026-01-15T12:00:00+00:00", **golden})
    item = runner_.decode(given).item
    assert item.tolist() == [[0, 0], [70, 1], [90, 1]]
    assert infer(runner_, given).outputs[0].value == pytest.approx(sigmoid(0.001 * 162 - 9.5), rel=1e-4)


def test_an_image(tmp_path: Path) -> None:
    levels = np.full((8, 6), 255, dtype=np.uint8)
    golden = {
        "pixels": base64.b64encode(levels.tobytes()).decode(),
        "rows": 8,
        "columns": 6,
        "modality": "DX",
        "body_part": "CHEST",
        "view": "PA",
    }
    folder = bring(
        tmp_path / "tiny",
        {"kind": "onnx", "resize": [4, 4], "channels": 3, "pixel_mean": [0.5, 0.5, 0.5], "pixel_scale": 0.25},
        {"weights.onnx": onnx_bytes(shape=(3, 4, 4))},
        inputs={"name": "film", "kind": "image", "modalities": ["DX"]},
        trigger={"kind": "study"},
        golden=golden,
    )
    white = radiograph(pixels=np.ones((100, 80), dtype=np.float32))
    assert infer(load_model(folder), white).outputs[0].value == pytest.approx(sigmoid(0.001 * 96 - 9.5), abs=1e-6)


def test_a_file_for_one_item_at_a_time_is_refused(tmp_path: Path) -> None:
    said = refusal(lambda: bring(tmp_path / "tiny", "onnx", {"weights.onnx": onnx_bytes(batch=1)}))
    assert said == (
        "weights.onnx takes 1 at a time: export it with a first axis of any length (dynamic_shapes or dynamic_axes)"
    )


def test_another_number_of_features_is_refused(tmp_path: Path) -> None:
    said = refusal(lambda: bring(tmp_path / "tiny", "onnx", {"weights.onnx": onnx_bytes(features=3)}))
    assert said == "features.yaml.features has 2 entries; weights.onnx takes 3 features"


def test_tensors_kept_in_another_file_are_refused(tmp_path: Path) -> None:
    import onnx

    model = onnx.load_model_from_string(onnx_bytes())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/hostname")
    said = refusal(lambda: bring(tmp_path / "tiny", "onnx", {"weights.onnx": model.SerializeToString()}))
    assert said.startswith("weights.onnx keeps tensors in other files: write it with onnx.save(")


def test_operators_that_the_runtime_does_not_bring_are_refused(tmp_path: Path) -> None:
    import onnx

    model = onnx.load_model_from_string(onnx_bytes())
    model.opset_import.add(domain="my.operators", version=1)
    said = refusal(lambda: bring(tmp_path / "tiny", "onnx", {"weights.onnx": model.SerializeToString()}))
    assert said == "weights.onnx uses operators of my.operators, which ONNX Runtime does not bring"


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"not a model", b"\x00" * 64])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    said = refusal(lambda: bring(tmp_path / "tiny", "onnx", {"weights.onnx": content}))
    assert said == "weights.onnx is no ONNX model"


def test_of_several_outputs_the_manifest_says_which_counts(tmp_path: Path) -> None:
    import onnx

    model = onnx.load_model_from_string(onnx_bytes())
    model.graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 1]))
    content = {"weights.onnx": model.SerializeToString()}
    said = refusal(lambda: bring(tmp_path / "silent", "onnx", content))
    assert said == "model.yaml.runner.output must say which output counts: risk, logits"
    folder = bring(tmp_path / "tiny", {"kind": "onnx", "output": "risk"}, content)
    assert value(folder) == pytest.approx(0.5, abs=1e-6)
