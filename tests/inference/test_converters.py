"""Checkpoints of other libraries become folders that give the numbers of the library that wrote them."""

import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional

from inference.golden import infer
from inference.loading import load_model
from inference.scaffold.dense_net import FINDINGS
from inference.scaffold.inspect import inspect_file
from inference.scaffold.write import write_folder
from inference.testing import radiograph
from kernel.errors import Problem

from . import tiny_models as tiny

FILM: dict[str, Any] = {
    "pixels": "AAECAwQFBgc=",
    "rows": 2,
    "columns": 4,
    "modality": "DX",
    "body_part": "",
    "view": "",
}


class _Layer(nn.Sequential):
    def __init__(self, taken: int, growth: int) -> None:
        super().__init__(
            OrderedDict(
                norm1=nn.BatchNorm2d(taken),
                relu1=nn.ReLU(),
                conv1=nn.Conv2d(taken, 4 * growth, 1, bias=False),
                norm2=nn.BatchNorm2d(4 * growth),
                relu2=nn.ReLU(),
                conv2=nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
            )
        )

    def forward(self, items: Tensor) -> Tensor:
        return torch.cat([items, super().forward(items)], 1)


class XRayDenseNet(nn.Module):
    """A small DenseNet with the tensors and the arithmetic of torchxrayvision's."""

    def __init__(self, points: Sequence[float] | None, outputs: int = 18) -> None:
        super().__init__()
        first, growth = 8, 4
        parts: dict[str, nn.Module] = {
            "conv0": nn.Conv2d(1, first, 7, stride=2, padding=3, bias=False),
            "norm0": nn.BatchNorm2d(first),
            "relu0": nn.ReLU(),
            "pool0": nn.MaxPool2d(3, stride=2, padding=1),
            "denseblock1": nn.Sequential(
                OrderedDict(denselayer1=_Layer(first, growth), denselayer2=_Layer(first + growth, growth))
            ),
            "transition1": nn.Sequential(
                OrderedDict(
                    norm=nn.BatchNorm2d(16), relu=nn.ReLU(), conv=nn.Conv2d(16, 8, 1, bias=False), pool=nn.AvgPool2d(2)
                )
            ),
            "denseblock2": nn.Sequential(OrderedDict(denselayer1=_Layer(8, growth))),
            "norm5": nn.BatchNorm2d(12),
        }
        self.features = nn.Sequential(OrderedDict(parts))
        self.classifier = nn.Linear(12, outputs)
        if points is not None:
            self.register_buffer("op_threshs", torch.tensor(points))

    def forward(self, items: Tensor) -> Tensor:
        found = functional.relu(self.features(items))
        numbers = self.classifier(functional.adaptive_avg_pool2d(found, (1, 1)).flatten(1))
        points = getattr(self, "op_threshs", None)
        if points is None:
            return numbers
        shares = torch.sigmoid(numbers)
        below = shares / (points * 2)
        return torch.where(shares < points, below, 1.0 - (1.0 - shares) / ((1 - points) * 2))


def network(points: Sequence[float] | None = None, outputs: int = 18) -> XRayDenseNet:
    torch.manual_seed(5)
    made = XRayDenseNet(points, outputs)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return made.eval()


POINTS = [0.3 + 0.02 * number for number in range(18)]


def saved(folder: Path, made: nn.Module, name: str = "xrv.pt") -> Path:
    torch.save(made.state_dict(), folder / name)
    return folder / name


def brought(source: Path, folder: Path, **changes: str) -> Path:
    """Write the folder that ``models new`` writes, fill it in, and seal it."""
    write_folder(folder, "chest", inspect_file(source))
    text = (folder / "model.yaml").read_text()
    for old, new in {"modalities: [FILL-IN], body_parts: [FILL-IN]": "modalities: [DX]", **changes}.items():
        assert old in text
        text = text.replace(old, new)
    text = text.replace("system: FILL-IN", "system: urn:test").replace("future: FILL-IN", "future: false")
    (folder / "model.yaml").write_text(text.replace("at_least: FILL-IN", "at_least: 0.5").replace("FILL-IN", "Stated"))
    case = {"subject": {"reference": "Patient/golden"}, "at": "2026-01-15T12:00:00+00:00", **FILM}
    (folder / "golden" / "film.json").write_text(json.dumps({"input": case}))
    tiny.finalize_folder(folder, {"Evidence": "None: a test."})
    return folder


def expected(made: nn.Module) -> list[float]:
    """Return what the network of the library gives for the film of the tests, prepared as the library does."""
    film = torch.from_numpy(np.ascontiguousarray(radiograph().pixels))[None, None]
    small = functional.interpolate(film, size=(224, 224), mode="bilinear", antialias=True, align_corners=False)
    with torch.no_grad():
        return [float(one) for one in made((2 * small - 1) * 1024)[0]]


def test_a_network_of_torchxrayvision_gives_its_numbers_by_the_names_of_the_findings(tmp_path: Path) -> None:
    made = network(POINTS)
    outputs = infer(load_model(brought(saved(tmp_path, made), tmp_path / "chest")), radiograph()).outputs
    assert [one.name for one in outputs] == [name.lower().replace(" ", "-") for name in FINDINGS]
    assert [one.value for one in outputs] == pytest.approx(expected(made), abs=1e-4)


def test_a_finding_without_an_operating_point_is_left_out(tmp_path: Path) -> None:
    points = [float("nan")] * 8 + [0.13] + [float("nan")] * 7 + [0.14, float("nan")]
    made = network(points)
    outputs = infer(load_model(brought(saved(tmp_path, made), tmp_path / "chest")), radiograph()).outputs
    assert [one.name for one in outputs] == ["pneumonia", "lung-opacity"]
    numbers = expected(made)
    assert [one.value for one in outputs] == pytest.approx([numbers[8], numbers[16]], abs=1e-4)


def test_the_skeleton_says_that_the_numbers_are_no_probabilities(tmp_path: Path) -> None:
    write_folder(tmp_path / "chest", "chest", inspect_file(saved(tmp_path, network(POINTS))))
    manifest = yaml.safe_load((tmp_path / "chest" / "model.yaml").read_text())
    assert {one["kind"] for one in manifest["outputs"]} == {"score"}
    assert manifest["warnings"] == ["At 0.5 is the operating point of each finding; the numbers are no probabilities."]
    assert manifest["runner"] == {
        "kind": "torch-network",
        "network": "torchxrayvision.DenseNet121",
        "arguments": {"init_features": 8, "growth_rate": 4, "block_config": [2, 1]},
        "resize": [224, 224],
        "channels": 1,
        "pixel_mean": 0.5,
        "pixel_scale": 1 / 2048,
    }


@pytest.mark.parametrize("form", ["xrv.pt", "xrv.safetensors"])
def test_a_dense_net_in_the_layout_of_torchvision_is_the_same_network_of_monai(tmp_path: Path, form: str) -> None:
    made = network(outputs=1)
    source = tmp_path / form
    if form.endswith(".pt"):
        saved(tmp_path, made, form)
    else:
        source.write_bytes(tiny.network_bytes(made))
    folder = brought(
        source,
        tmp_path / "chest",
        **{
            "transform: FILL-IN": "transform: sigmoid",
            "pixel_mean: FILL-IN": "pixel_mean: 0.5",
            "pixel_scale: FILL-IN": f"pixel_scale: {1 / 2048}",
            "resize: [FILL-IN, FILL-IN]": "resize: [224, 224]",
        },
    )
    (output,) = infer(load_model(folder), radiograph()).outputs
    assert output.value == pytest.approx(1 / (1 + np.exp(-expected(made)[0])), abs=1e-5)


@pytest.mark.parametrize("points", [[0.3] * 17, [0.3] * 17 + [1.5], [float("nan")] * 18, [0.0] * 18])
def test_operating_points_that_do_not_fit_are_refused(tmp_path: Path, points: list[float]) -> None:
    made = network(POINTS)
    made.op_threshs = torch.tensor(points)
    with pytest.raises(Problem, match=r"xrv\.pt: op_threshs must have 18 numbers between 0 and 1"):
        inspect_file(saved(tmp_path, made))


def test_a_whole_network_is_no_checkpoint_of_tensors(tmp_path: Path) -> None:
    torch.save(network(POINTS), tmp_path / "whole.pt")
    with pytest.raises(Problem, match=r"which is no tensor and is not made: save model\.state_dict\(\)"):
        inspect_file(tmp_path / "whole.pt")
