"""Networks of PyTorch: exported programs, and safetensors for a network of the table; nothing of a file is run."""

import base64
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from inference.golden import infer
from inference.golden_input import read_input
from inference.loading import load_model
from inference.testing import radiograph

from . import tiny_models as tiny
from .test_runner_tabular import facts, refusal, value
from .tiny_models import bring, network_bytes, program_bytes

SERIES: Mapping[str, Any] = {"series": {"features": ["pulse"], "step_hours": 1, "values": [[60], [70], [90]]}}
TREND: Mapping[str, Any] = {"name": "trend", "kind": "series", "hours": 3, "step_hours": 1}
FILM: Mapping[str, Any] = {"name": "film", "kind": "image", "modalities": ["DX"]}
PIXELS: Mapping[str, Any] = {
    "pixels": base64.b64encode(bytes(range(64))).decode(),
    "rows": 8,
    "columns": 8,
    "modality": "DX",
    "body_part": "CHEST",
    "view": "PA",
}
RAN: list[str] = []


class Bomb:
    def __reduce__(self) -> Any:
        return RAN.append, ("a pickle",)


def rewritten(content: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """Return an archive with entries changed."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(written, "w") as after:
        for name in before.namelist():
            after.writestr(name, change(name, before.read(name)))
    return written.getvalue()


def changed(content: bytes, part: str, change: Callable[[Any], None]) -> bytes:
    """Return a program of which one entry in JSON is changed."""

    def edit(name: str, entry: bytes) -> bytes:
        if not name.endswith(part):
            return entry
        read = json.loads(entry)
        change(read)
        return json.dumps(read).encode()

    return rewritten(content, edit)


class TestPrograms:
    def test_a_row_of_features(self, tmp_path: Path) -> None:
        folder = bring(tmp_path / "tiny", "torch-program", {"weights.pt2": program_bytes()})
        assert value(folder) == pytest.approx(1 / (1 + np.exp(-(0.05 * 190 - 9.5))), abs=1e-6)

    def test_a_recurrent_network_of_a_series(self, tmp_path: Path) -> None:
        class Trend(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.rnn, self.head = nn.LSTM(1, 3, batch_first=True), nn.Linear(3, 1)

            def forward(self, items: torch.Tensor) -> torch.Tensor:
                steps, _ = self.rnn(items / 100)
                result: torch.Tensor = self.head(steps[:, -1])
                return torch.sigmoid(result)

        network = Trend()
        folder = bring(
            tmp_path / "tiny",
            {"kind": "torch-program", "fill": {"pulse": 80}},
            {"weights.pt2": program_bytes(network, (3, 1))},
            features=("pulse",),
            missing="nan",
            inputs=TREND,
            golden=SERIES,
        )
        given = read_input({"subject": {"reference": "Patient/1"}, "at": "2026-01-15T12:00:00+00:00", **SERIES})
        expected = network(torch.tensor([[[60.0], [70.0], [90.0]]])).item()
        assert infer(load_model(folder), given).outputs[0].value == pytest.approx(expected, abs=1e-6)

    def test_a_convolution_of_an_image(self, tmp_path: Path) -> None:
        network = nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)
        )
        folder = bring(
            tmp_path / "tiny",
            {"kind": "torch-program", "resize": [16, 16], "transform": "softmax"},
            {"weights.pt2": program_bytes(network, (1, 16, 16))},
            outputs=[tiny.CLASSES],
            inputs=FILM,
            trigger={"kind": "study"},
            golden=PIXELS,
        )
        found = infer(load_model(folder), radiograph()).outputs[0].value
        assert found is not None
        assert 1 / 3 < found < 1

    def test_example_inputs_expressions_and_guards_are_never_run(self, tmp_path: Path) -> None:
        """PyTorch's own reader unpickles the first, evaluates the second and compiles the third."""

        def poison(name: str, entry: bytes) -> bytes:
            if "sample_inputs" in name:
                return pickle.dumps(Bomb())
            if name.endswith("models/model.json"):
                read = json.loads(entry)
                read["guards_code"] = ["__import__('tests').RAN.append('a guard')"]
                text = json.dumps(read)
                assert "Symbol(" in text
                return text.replace("Symbol(", "__import__('os').getcwd() or Symbol(").encode()
            return entry

        RAN.clear()
        folder = bring(tmp_path / "tiny", "torch-program", {"weights.pt2": rewritten(program_bytes(), poison)})
        assert value(folder) == pytest.approx(0.5, abs=1e-6)
        assert RAN == []

    def test_weights_that_are_pickles_are_refused(self, tmp_path: Path) -> None:
        def pickled(read: Any) -> None:
            read["config"]["0.weight"]["use_pickle"] = True

        content = changed(program_bytes(), "model_weights_config.json", pickled)
        said = refusal(lambda: bring(tmp_path / "tiny", "torch-program", {"weights.pt2": content}))
        assert said == "weights.pt2 holds 0.weight as a pickle, which is never opened: export it as a plain tensor"

    @pytest.mark.parametrize(
        "target",
        ["torch.ops.aten.from_file.default", "torch.ops.mine.read.default", "os.system", "_operator.attrgetter"],
    )
    def test_operators_that_are_not_listed_are_refused(self, tmp_path: Path, target: str) -> None:
        def other(read: Any) -> None:
            read["graph_module"]["graph"]["nodes"][0]["target"] = target

        content = changed(program_bytes(), "models/model.json", other)
        said = refusal(lambda: bring(tmp_path / "tiny", "torch-program", {"weights.pt2": content}))
        assert said == f"weights.pt2 uses {target}, which is not allowed; export to ONNX instead"

    def test_a_program_for_one_item_at_a_time_is_refused(self, tmp_path: Path) -> None:
        said = refusal(lambda: bring(tmp_path / "tiny", "torch-program", {"weights.pt2": program_bytes(batch=1)}))
        assert said.startswith("weights.pt2 takes 1 at a time: export it with dynamic_shapes")

    def test_another_number_of_features_is_refused(self, tmp_path: Path) -> None:
        content = {"weights.pt2": program_bytes(nn.Linear(3, 1), (3,))}
        said = refusal(lambda: bring(tmp_path / "tiny", "torch-program", content))
        assert said == "features.yaml.features has 2 entries; weights.pt2 takes 3 features"

    def test_a_program_that_changes_its_numbers_is_refused(self, tmp_path: Path) -> None:
        class Counting(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.count: torch.Tensor
                self.register_buffer("count", torch.zeros(1))

            def forward(self, items: torch.Tensor) -> torch.Tensor:
                self.count.add_(1)
                return items.sum(1, keepdim=True) + self.count

        said = refusal(lambda: bring(tmp_path / "tiny", "torch-program", {"weights.pt2": program_bytes(Counting())}))
        assert said == "weights.pt2 changes its own numbers (aten::add_): export it without"

    def test_a_program_in_training_is_refused(self, tmp_path: Path) -> None:
        class Dropping(nn.Module):
            def forward(self, items: torch.Tensor) -> torch.Tensor:
                return nn.functional.dropout(items, training=True).sum(1, keepdim=True)

        said = refusal(lambda: bring(tmp_path / "tiny", "torch-program", {"weights.pt2": program_bytes(Dropping())}))
        assert said == "weights.pt2 was exported in training: call eval() on the model before the export"

    def test_a_program_with_random_numbers_is_refused(self, tmp_path: Path) -> None:
        class Guessing(nn.Module):
            def forward(self, items: torch.Tensor) -> torch.Tensor:
                return torch.rand_like(items).sum(1, keepdim=True)

        said = refusal(lambda: bring(tmp_path / "tiny", "torch-program", {"weights.pt2": program_bytes(Guessing())}))
        assert said == "weights.pt2 uses torch.ops.aten.rand_like.default, which draws random numbers"

    @pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"PK\x03\x04"])
    def test_another_file_is_refused(self, tmp_path: Path, content: bytes) -> None:
        said = refusal(lambda: bring(tmp_path / "tiny", "torch-program", {"weights.pt2": content}))
        assert said.startswith("weights.pt2 is no program of torch.export: write it with torch.export.save(")

    def test_a_checkpoint_is_refused(self, tmp_path: Path) -> None:
        written = io.BytesIO()
        torch.save({"a": torch.zeros(1)}, written)
        said = refusal(lambda: bring(tmp_path / "tiny", "torch-program", {"weights.pt2": written.getvalue()}))
        assert said.startswith("weights.pt2 is no program of torch.export")


class TestNetworks:
    def test_a_perceptron_answers_as_where_it_was_trained(self, tmp_path: Path) -> None:
        network = tiny.perceptron()
        runner = {"kind": "torch-network", "network": "mlp", "arguments": {"hidden": [4]}, "transform": "sigmoid"}
        folder = bring(tmp_path / "tiny", runner, {"weights.safetensors": network_bytes(network)})
        expected = torch.sigmoid(network(torch.tensor([[100.0, 90.0]]))).item()
        assert value(folder, facts()) == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("kind", ["gru", "lstm"])
    def test_a_recurrent_network(self, tmp_path: Path, kind: str) -> None:
        rnn, head = getattr(nn, kind.upper())(2, 3, num_layers=2, batch_first=True), nn.Linear(3, 1)
        held = nn.ModuleDict({"rnn": rnn, "head": head})
        folder = bring(
            tmp_path / "tiny",
            {
                "kind": "torch-network",
                "network": kind,
                "arguments": {"hidden": 3, "layers": 2},
                "transform": "sigmoid",
                "mask": True,
                "fill": {"pulse": 80},
            },
            {"weights.safetensors": network_bytes(held)},
            features=("pulse",),
            missing="nan",
            inputs=TREND,
            golden=SERIES,
        )
        given = read_input({"subject": {"reference": "Patient/1"}, "at": "2026-01-15T12:00:00+00:00", **SERIES})
        steps, _ = rnn(torch.tensor([[[60.0, 1], [70.0, 1], [90.0, 1]]]))
        expected = torch.sigmoid(head(steps[:, -1])).item()
        assert infer(load_model(folder), given).outputs[0].value == pytest.approx(expected, abs=1e-6)

    def test_a_densenet_of_monai(self, tmp_path: Path) -> None:
        from monai.networks.nets import DenseNet121

        sizes = {"init_features": 8, "growth_rate": 4, "block_config": [1, 1]}
        network = DenseNet121(spatial_dims=2, in_channels=1, out_channels=1, **sizes).eval()
        folder = bring(
            tmp_path / "tiny",
            {
                "kind": "torch-network",
                "network": "monai.DenseNet121",
                "arguments": sizes,
                "resize": [32, 32],
                "transform": "sigmoid",
            },
            {"weights.safetensors": network_bytes(network)},
            inputs=FILM,
            trigger={"kind": "study"},
            golden=PIXELS,
        )
        white = radiograph(pixels=np.ones((64, 64), dtype=np.float32))
        expected = torch.sigmoid(network(torch.ones(1, 1, 32, 32))).item()
        assert infer(load_model(folder), white).outputs[0].value == pytest.approx(expected, abs=1e-5)

    @pytest.mark.parametrize(
        ("runner", "detail"),
        [
            ({"network": "os.system"}, "model.yaml.runner.network must be one of: mlp, gru, lstm, monai.DenseNet121"),
            ({}, "model.yaml.runner.network is missing"),
            ({"network": "gru"}, "model.yaml.runner.network: gru reads series, not facts"),
            (
                {"network": "mlp", "arguments": {"pretrained": True}},
                "model.yaml.runner.arguments.pretrained is not known",
            ),
            ({"network": "mlp", "arguments": {"hidden": 4}}, "model.yaml.runner.arguments.hidden must be of type list"),
            ({"network": "mlp"}, "weights.safetensors: 0.bias is of (4,); as features.yaml"),
            ({"network": "mlp", "arguments": {"hidden": [4, 4]}}, "weights.safetensors: 2.bias is of (1,); as"),
        ],
    )
    def test_declarations_that_do_not_fit_are_refused(
        self, tmp_path: Path, runner: Mapping[str, Any], detail: str
    ) -> None:
        content = {"weights.safetensors": network_bytes(tiny.perceptron())}
        said = refusal(lambda: bring(tmp_path / "tiny", {"kind": "torch-network", **runner}, content))
        assert said.startswith(detail)

    def test_a_tensor_that_the_network_does_not_have_is_refused(self, tmp_path: Path) -> None:
        content = {"weights.safetensors": network_bytes(nn.Sequential(nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 1)))}
        runner = {"kind": "torch-network", "network": "mlp"}
        said = refusal(lambda: bring(tmp_path / "tiny", runner, content))
        assert said == "weights.safetensors holds 2.bias, which mlp does not have"
