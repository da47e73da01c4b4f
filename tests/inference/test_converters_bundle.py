"""A MONAI bundle becomes a folder: what is plain is read, what would be run is refused with its place."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from monai.networks.nets import DenseNet121

from inference.scaffold.found import Found
from inference.scaffold.inspect import inspect_file
from inference.scaffold.write import write_folder
from kernel.errors import Problem

SIZES: dict[str, Any] = {"init_features": 8, "growth_rate": 4, "block_config": [1, 1]}


def bundle(folder: Path, network: Mapping[str, Any], form: str = "json", **config: Any) -> Path:
    """Write a bundle with a tiny network."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    stated = {"_target_": "monai.networks.nets.DenseNet121", "spatial_dims": 2, "in_channels": 1, "out_channels": 3}
    content = {**config, "network_def": {**stated, **SIZES, **network}, "run": f"$open({str(folder / 'ran')!r}, 'w')"}
    write = json.dumps if form == "json" else yaml.safe_dump
    (folder / "configs" / f"inference.{form}").write_text(write(content))
    made = DenseNet121(spatial_dims=2, in_channels=1, out_channels=3, **SIZES)
    torch.save({"model": made.state_dict(), "epoch": 3}, folder / "models" / "model.pt")
    return folder


def found(folder: Path) -> Found:
    return inspect_file(folder)


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_reference_to_a_plain_value_of_the_same_file_is_followed(tmp_path: Path, form: str) -> None:
    stated = {"out_channels": "@sizes::classes", "in_channels": "@channels", "block_config": "@sizes#blocks"}
    made = found(bundle(tmp_path / "one", stated, form, channels=1, sizes={"classes": 3, "blocks": [1, 1]}))
    assert (made.classes, made.options["channels"]) == (("class-1", "class-2", "class-3"), 1)
    assert made.options["arguments"] == SIZES


@pytest.mark.parametrize(
    ("stated", "more"),
    [
        ("@classes", {}),
        ("@classes", {"classes": "$__import__('os').system('touch ran')"}),
        ("@classes", {"classes": "@other", "other": 3}),
        ("@classes::0", {"classes": [3]}),
        ("@classes", {"classes": {"_target_": "os.system"}}),
        ("$3", {}),
        ("%other.json::classes", {}),
        ([1, "$3"], {}),
        ([1, ["$3"]], {}),
        ({"_target_": "os.system"}, {}),
    ],
)
def test_whatever_would_be_evaluated_or_leads_elsewhere_is_refused(
    tmp_path: Path, stated: Any, more: Mapping[str, Any]
) -> None:
    folder = bundle(tmp_path / "one", {"out_channels": stated}, **more)
    with pytest.raises(Problem, match=r"one/configs/inference\.json: network_def\.out_channels is an expression or a"):
        found(folder)
    assert not (folder / "ran").exists()


def test_what_the_bundle_does_around_the_network_is_named_for_comparison(tmp_path: Path) -> None:
    steps = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "$os.system('x')"},
        {"_target_": "ScaleIntensityd"},
    ]
    made = found(
        bundle(
            tmp_path / "one",
            {},
            preprocessing={"_target_": "Compose", "transforms": steps},
            postprocessing={"transforms": [{"_target_": "Activationsd", "sigmoid": True}]},
        )
    )
    write_folder(tmp_path / "mine", "mine", made)
    text = (tmp_path / "mine" / "model.yaml").read_text()
    assert "# The bundle prepares images by LoadImaged, (not shown), ScaleIntensityd: compare resize" in text
    assert "# The bundle reads the network's answer by Activationsd: compare" in text
    assert yaml.safe_load(text)["runner"]["kind"] == "torch-network"


def test_a_bundle_with_torchscript_alone_is_refused(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "one", {})
    (folder / "models" / "model.pt").rename(folder / "models" / "model.ts")
    with pytest.raises(
        Problem, match=r"one must have models/model\.safetensors or models/model\.pt: models/model\.ts is"
    ):
        found(folder)


def test_a_pickle_of_a_whole_network_is_refused_and_not_made(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "one", {})
    torch.save(DenseNet121(spatial_dims=2, in_channels=1, out_channels=3, **SIZES), folder / "models" / "model.pt")
    with pytest.raises(
        Problem, match=r"model\.pt holds monai\.networks\.nets\.densenet\.DenseNet121, which is no tensor"
    ):
        found(folder)


@pytest.mark.parametrize("content", [b"[1, 2]", b"{", b"7", b'{"network_def": 7}', b'{"network_def": {"_target_": 7}}'])
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = bundle(tmp_path / "one", {})
    (folder / "configs" / "inference.json").write_bytes(content)
    with pytest.raises(Problem, match=r"configs/inference\.json"):
        found(folder)


@pytest.mark.parametrize("size", ["three", 3.5, None, -1, True])
def test_a_size_that_is_no_whole_number_is_refused(tmp_path: Path, size: object) -> None:
    with pytest.raises(Problem, match=r"network_def\.out_channels must be a whole number above 0"):
        found(bundle(tmp_path / "one", {"out_channels": size}))


@pytest.mark.parametrize(
    "metadata", [b"[]", b'{"network_data_format": {"inputs": 7, "outputs": {"pred": {"channel_def": 3}}}}']
)
def test_metadata_of_another_form_say_nothing(tmp_path: Path, metadata: bytes) -> None:
    folder = bundle(tmp_path / "one", {})
    (folder / "configs" / "metadata.json").write_bytes(metadata)
    assert found(folder).classes == ("class-1", "class-2", "class-3")
