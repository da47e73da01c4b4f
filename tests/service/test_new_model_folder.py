"""``ausculta models new``: from a file of weights to a model that answers, with no Python beyond the training."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import app

from ..inference import tiny_models as tiny  # noqa: TID252 - the models of the tests of the runners
from .hospital import Hospital

AUSCULTA = Path(sys.executable).with_name("ausculta")


def linear_bytes() -> bytes:
    import numpy as np
    from safetensors.numpy import save

    return bytes(save({"weight": np.array([0.05, -0.05]), "bias": np.array([0.0])}))


FILES: Mapping[str, tuple[str, Callable[[], bytes]]] = {
    "sklearn": ("model.skops", lambda: tiny.skops_bytes(tiny.logistic())),
    "xgboost": ("model.ubj", tiny.xgboost_bytes),
    "lightgbm": ("model.txt", tiny.lightgbm_bytes),
    "onnx": ("model.onnx", tiny.onnx_bytes),
    "torch-program": ("model.pt2", tiny.program_bytes),
    "torch-network": ("model.safetensors", lambda: tiny.network_bytes(tiny.perceptron())),
    "linear": ("model.safetensors", linear_bytes),
}

BUNDLE: Mapping[str, Any] = {
    "resourceType": "Bundle",
    "type": "collection",
    "entry": [
        {"resource": {"resourceType": "Patient", "id": "p", "birthDate": "1950-01-01"}},
        *(
            {
                "resource": {
                    "resourceType": "Observation",
                    "id": code,
                    "status": "final",
                    "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
                    "subject": {"reference": "Patient/p"},
                    "effectiveDateTime": "2026-01-15T11:00:00Z",
                    "valueQuantity": {"value": 100, "system": "http://unitsofmeasure.org", "code": unit},
                }
            }
            for code, unit in (("8867-4", "/min"), ("8480-6", "mm[Hg]"))
        ),
    ],
}


def fill_in(folder: Path, document_types: str = "") -> None:
    """Do what the engineer does in an editor."""
    model = (folder / "model.yaml").read_text()
    model = model.replace("codes: [FILL-IN]", "codes: [8867-4]").replace("future: FILL-IN", "future: true")
    model = model.replace("system: FILL-IN", "system: urn:test").replace("at_least: FILL-IN", "at_least: 0.5")
    model = model.replace("transform: FILL-IN", "transform: sigmoid")
    model = model.replace("document_types: [FILL-IN]", f"document_types: [{document_types}]")
    (folder / "model.yaml").write_text(model.replace("FILL-IN", "Stated"))
    if not (folder / "features.yaml").exists():
        return
    known = iter([("pulse", "8867-4", "/min", "[20, 250]"), ("systolic", "8480-6", "'mm[Hg]'", "[30, 300]")])
    blocks = re.split(r"(?=  - name:)", (folder / "features.yaml").read_text())
    (folder / "features.yaml").write_text(blocks[0] + "".join(_filled(block, *next(known)) for block in blocks[1:]))


def _filled(block: str, name: str, code: str, unit: str, plausible: str) -> str:
    block = (
        re.sub("feature-[12]", name, block)
        .replace("hours: FILL-IN", "hours: 12")
        .replace("code: FILL-IN", f"code: {code}")
    )
    return block.replace("unit: FILL-IN", f"unit: {unit}").replace("[FILL-IN, FILL-IN]", plausible)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ausculta(here: Path) -> Callable[..., tuple[int, str]]:
    """Run a command; return its exit code and what it said."""

    def run(*words: str) -> tuple[int, str]:
        environment = {"AUSCULTA_DATA_DIR": str(here / "ausculta"), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
        done = subprocess.run(
            [AUSCULTA, *words], env=environment, cwd=here, capture_output=True, text=True, check=False, timeout=120
        )
        return done.returncode, done.stdout + done.stderr

    return run


def said(*words: str) -> str:
    """Run a command within this process and return what it said."""
    result = CliRunner().invoke(app, list(words))
    return result.output if result.exception is None or not result.exception.args else str(result.exception)


@pytest.mark.parametrize("runner", FILES)
def test_a_file_becomes_a_folder_that_answers(here: Path, runner: str) -> None:
    name, content = FILES[runner]
    (here / name).write_bytes(content())
    assert f"mine/ is written: {runner} of facts, probability" in said("models", "new", "mine", "--from", name)
    assert said("models", "verify", "mine", "--record").startswith("FILL-IN must be replaced in: model.yaml.title, ")
    fill_in(here / "mine")
    assert "golden cases made from the plausible ranges: low, middle, high" in said(
        "models", "verify", "mine", "--record"
    )
    (here / "bundle.json").write_text(json.dumps(BUNDLE))
    shown = said("models", "verify", "mine", "--on", "bundle.json")
    assert "files and golden cases are as sealed" in shown
    assert "read pulse = 100 /min from Observation/8867-4" in shown
    assert re.search(r"Stated: [0-9.]+ % \((low|high)\)", shown)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.ubj", lambda: tiny.xgboost_bytes("binary:hinge")),
        ("model.txt", lambda: tiny.lightgbm_bytes("cross_entropy_lambda")),
    ],
)
def test_trees_that_give_no_probability_are_declared_as_a_score(
    here: Path, name: str, content: Callable[[], bytes]
) -> None:
    (here / name).write_bytes(content())
    assert " of facts, score" in said("models", "new", "mine", "--from", name)


def test_a_refused_verify_changes_nothing_and_the_next_one_makes_the_cases(here: Path) -> None:
    (here / "model.skops").write_bytes(tiny.skops_bytes(tiny.logistic()))
    said("models", "new", "mine", "--from", "model.skops")
    fill_in(here / "mine")
    right = (here / "mine" / "features.yaml").read_text()
    (here / "mine" / "features.yaml").write_text(right[: right.rindex("  - name:")])
    before = sorted((here / "mine").rglob("*"))
    assert "features.yaml.features has 1 entries" in said("models", "verify", "mine", "--record")
    assert sorted((here / "mine").rglob("*")) == before
    (here / "mine" / "features.yaml").write_text(right)
    assert "golden cases made from the plausible ranges: low, middle, high" in said(
        "models", "verify", "mine", "--record"
    )


def test_it_is_added_and_answers_on_what_the_hospital_sent(
    hospital: Hospital, here: Path, ausculta: Callable[..., tuple[int, str]]
) -> None:
    (here / "model.skops").write_bytes(tiny.skops_bytes(tiny.logistic()))
    assert ausculta("models", "new", "mine", "--from", "model.skops")[0] == 0
    code, refused = ausculta("models", "add", "mine")
    assert (code, "SHA256SUMS cannot be read" in refused) == (2, True)
    fill_in(here / "mine")
    for words in (("verify", "mine", "--record"), ("verify", "mine"), ("add", "mine"), ("activate", "mine")):
        code, shown = ausculta("models", *words)
        assert code == 0, shown
    hospital.admit()
    hospital.hl7(hospital.vitals(pulse="150", systolic="80"))
    hospital.work()
    row = next(row for row in hospital.results() if row.model == "mine")
    assert row.kind == "prediction"


def test_a_folder_of_transformers_is_copied_and_declared(here: Path) -> None:
    tiny.transformer_files(here / "saved", "sequence", ("home", "icu", "ward"))
    assert "mine/ is written: transformers of text, class-set" in said("models", "new", "mine", "--from", "saved")
    fill_in(here / "mine", document_types="18842-5")
    given = {"subject": {"reference": "Patient/golden"}, "at": "2026-01-15T12:00:00+00:00", **tiny.NOTE}
    (here / "mine" / "golden" / "note.json").write_text(json.dumps({"input": given}))
    assert "as sealed" in said("models", "verify", "mine", "--record")
    (here / "saved" / "model.safetensors").unlink()
    refused = said("models", "new", "other", "--from", "saved")
    assert refused == "saved has no model.safetensors: write it with save_pretrained of model and tokenizer"


def test_a_checkpoint_of_tensors_becomes_safetensors(here: Path) -> None:
    import torch

    torch.save({"state_dict": tiny.perceptron().state_dict(), "epoch": 3}, here / "model.pt")
    assert "torch-network of facts, probability" in said("models", "new", "mine", "--from", "model.pt")
    assert (here / "mine" / "weights.safetensors").read_bytes() == tiny.network_bytes(tiny.perceptron())
    fill_in(here / "mine")
    assert "as sealed" in said("models", "verify", "mine", "--record")


def test_whatever_else_a_checkpoint_holds_is_named_and_never_made(here: Path) -> None:
    import torch

    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(here / "ran"),)

    torch.save({"state_dict": tiny.perceptron().state_dict(), "more": Bomb()}, here / "model.pt")
    assert said("models", "new", "mine", "--from", "model.pt").startswith(
        "model.pt holds posix.mkdir, which is no tensor"
    )
    torch.save(tiny.perceptron(), here / "model.pt")
    refused = said("models", "new", "mine", "--from", "model.pt")
    assert refused.startswith(
        "model.pt holds torch.nn.modules.container.Sequential, which is no tensor and is not made"
    )
    assert not (here / "ran").exists()


def bundle(here: Path, **changes: Any) -> Path:
    """Write a MONAI bundle with a tiny network."""
    import torch
    from monai.networks.nets import DenseNet121

    sizes = {"init_features": 8, "growth_rate": 4, "block_config": [1, 1]}
    network = {"_target_": "DenseNet121", "spatial_dims": 2, "in_channels": 1, "out_channels": 3, **sizes}
    (here / "bundle" / "configs").mkdir(parents=True, exist_ok=True)
    (here / "bundle" / "models").mkdir(exist_ok=True)
    config = {"imports": ["$import os"], "network_def": network | changes, "network": "$os.system('touch ran')"}
    (here / "bundle" / "configs" / "inference.json").write_text(json.dumps(config))
    channels = {"0": "home", "1": "icu", "2": "ward"}
    data = {"inputs": {"image": {"spatial_shape": [32, 32]}}, "outputs": {"pred": {"channel_def": channels}}}
    (here / "bundle" / "configs" / "metadata.json").write_text(json.dumps({"network_data_format": data}))
    made = DenseNet121(spatial_dims=2, in_channels=1, out_channels=3, **sizes)
    torch.save(made.state_dict(), here / "bundle" / "models" / "model.pt")
    return here / "bundle"


def test_a_monai_bundle_becomes_a_folder(here: Path) -> None:
    bundle(here)
    assert "torch-network of image, class-set" in said("models", "new", "mine", "--from", "bundle")
    text = (
        (here / "mine" / "model.yaml")
        .read_text()
        .replace("modalities: [FILL-IN], body_parts: [FILL-IN]", "modalities: [DX]")
    )
    (here / "mine" / "model.yaml").write_text(text.replace("transform: FILL-IN", "transform: softmax"))
    assert "resize: [32, 32], channels: 1" in text
    assert "- {name: icu}" in text
    fill_in(here / "mine")
    given = {"subject": {"reference": "Patient/golden"}, "at": "2026-01-15T12:00:00+00:00"}
    pixels = {"pixels": "AAECAwQFBgc=", "rows": 2, "columns": 4, "modality": "DX", "body_part": "", "view": ""}
    (here / "mine" / "golden" / "film.json").write_text(json.dumps({"input": given | pixels}))
    assert "as sealed" in said("models", "verify", "mine", "--record")
    assert not (here / "ran").exists()


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (
            {"in_channels": "$__import__('os').system('touch ran')"},
            "network_def.in_channels is an expression or a reference",
        ),
        ({"out_channels": "@classes"}, "network_def.out_channels is an expression or a reference"),
        ({"_target_": "os.system"}, "network_def._target_ os.system is not run; it must be one of: monai.DenseNet121"),
        ({"_target_": "scripts.DenseNet121"}, "network_def._target_ scripts.DenseNet121 is not run"),
        ({"dropout_prob": 0.5}, "network_def.dropout_prob is not known for monai.DenseNet121"),
        ({"spatial_dims": 3}, "network_def must have spatial_dims 2"),
    ],
)
def test_a_bundle_that_needs_more_is_refused(here: Path, change: Mapping[str, Any], detail: str) -> None:
    bundle(here, **change)
    assert said("models", "new", "mine", "--from", "bundle").startswith(f"bundle/configs/inference.json: {detail}")
    assert not (here / "ran").exists()


def test_age_and_sex_are_read_from_the_patient(here: Path) -> None:
    (here / "model.ubj").write_bytes(tiny.xgboost_bytes(names=["age", "pulse"]))
    said("models", "new", "mine", "--from", "model.ubj")
    assert "{name: age, title: age, subject: age, missing: refuse}" in (here / "mine" / "features.yaml").read_text()


def test_classes_become_bands(here: Path) -> None:
    (here / "model.txt").write_bytes(tiny.lightgbm_bytes("multiclass", num_class=3))
    assert "lightgbm of facts, class-set" in said("models", "new", "mine", "--from", "model.txt")
    assert "- {name: class-3}" in (here / "mine" / "model.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("model.pkl", "it is a pickle, which runs code when it is opened; write the model with skops.io.dump"),
        ("model.joblib", "write the model with skops.io.dump, as weights.skops"),
        ("model.keras", "write the model as ONNX, as weights.onnx"),
        ("model.bst", "write the model with save_model('weights.ubj')"),
    ],
)
def test_a_file_that_is_never_opened_says_what_to_write_instead(here: Path, name: str, instead: str) -> None:
    (here / name).write_bytes(b"\x80\x04.")
    shown = said("models", "new", "mine", "--from", name)
    assert shown.startswith(f"{name} is not opened: ")
    assert instead in shown
    assert not (here / "mine").exists()


def test_a_file_of_another_ending_is_refused(here: Path) -> None:
    (here / "model.doc").write_bytes(b"")
    assert said("models", "new", "mine", "--from", "model.doc").startswith("model.doc must end with one of: ")


@pytest.mark.parametrize("name", ["model.skops", "model.ubj", "model.txt", "model.onnx", "model.safetensors"])
def test_a_broken_file_is_refused(here: Path, name: str) -> None:
    (here / name).write_bytes(b"broken")
    assert said("models", "new", "mine", "--from", name).startswith(f"{name} is no ")


def test_a_folder_that_exists_is_not_overwritten(here: Path) -> None:
    (here / "mine").mkdir()
    (here / "model.ubj").write_bytes(tiny.xgboost_bytes())
    assert said("models", "new", "mine", "--from", "model.ubj").startswith("mine exists already")


def test_a_dry_run_says_why_the_model_declines(here: Path) -> None:
    folder = tiny.bring(here / "mine", "xgboost", {"weights.ubj": tiny.xgboost_bytes()})
    only = {**BUNDLE, "entry": BUNDLE["entry"][:2]}
    (here / "bundle.json").write_text(json.dumps(only))
    assert "declined: missing systolic" in said("models", "verify", str(folder), "--on", "bundle.json")
    (here / "bundle.json").write_text("[]")
    assert said("models", "verify", str(folder), "--on", "bundle.json").endswith(
        "bundle.json is no FHIR Bundle in JSON"
    )


def test_a_name_that_is_none_is_refused(here: Path) -> None:
    (here / "model.ubj").write_bytes(tiny.xgboost_bytes())
    assert said("models", "new", "../Mine", "--from", "model.ubj").startswith("the name must have the form [a-z]")


def test_record_is_for_folders(here: Path) -> None:
    assert said("models", "verify", "news2", "--record") == "--record and --on are for a folder; news2 is none"
