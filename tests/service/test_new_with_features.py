"""``ausculta models new --features``: the features that the training table was made with are those of the model."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli import app

from ..inference import tiny_models as tiny  # noqa: TID252 - the models of the tests of the runners

FEATURES = """\
features:
  - name: pulse
    title: pulse
    window: {take: last, hours: 12}
    missing: nan
    sources: [{code: 8867-4, unit: /min, plausible: [20, 250]}]
  - {name: systolic, title: sex, subject: sex, missing: nan}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "features.yaml").write_text(FEATURES)
    return tmp_path


def new(file: str) -> str:
    result = CliRunner().invoke(app, ["models", "new", "mine", "--from", file, "--features", "features.yaml"])
    return result.output if result.exception is None or not result.exception.args else str(result.exception)


@pytest.mark.parametrize(
    ("name", "content"), [("model.ubj", tiny.xgboost_bytes()), ("model.skops", tiny.skops_bytes(tiny.logistic()))]
)
def test_the_features_of_the_training_table_are_copied(here: Path, name: str, content: bytes) -> None:
    (here / name).write_bytes(content)
    assert "mine/ is written" in new(name)
    assert (here / "mine" / "features.yaml").read_text() == FEATURES
    assert "FILL-IN" in (here / "mine" / "model.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.txt", tiny.lightgbm_bytes(names=None)),
        ("model.ubj", tiny.xgboost_bytes(names=None)),
        ("model.ubj", tiny.xgboost_bytes(names=["f0", "f1"])),
    ],
)
def test_numbers_that_the_library_gave_to_columns_are_no_names(here: Path, name: str, content: bytes) -> None:
    (here / name).write_bytes(content)
    assert "mine/ is written" in new(name)
    assert (here / "mine" / "features.yaml").read_text() == FEATURES


def test_a_skeleton_never_has_such_numbers_for_names(here: Path) -> None:
    (here / "model.txt").write_bytes(tiny.lightgbm_bytes(names=None))
    CliRunner().invoke(app, ["models", "new", "mine", "--from", "model.txt"])
    assert "name: feature-1\n" in (here / "mine" / "features.yaml").read_text()


def test_a_feature_that_the_file_does_not_name_there_is_refused(here: Path) -> None:
    (here / "model.ubj").write_bytes(tiny.xgboost_bytes(names=["systolic", "pulse"]))
    assert new("model.ubj") == "features.yaml.features[0].name must be systolic, as in weights.ubj, and not pulse"
    assert not (here / "mine").exists()


def test_another_number_of_features_is_refused(here: Path) -> None:
    (here / "model.ubj").write_bytes(tiny.xgboost_bytes())
    (here / "features.yaml").write_text(FEATURES.partition("  - {")[0])
    assert new("model.ubj") == "features.yaml.features has 1 entries; weights.ubj takes 2 features"


def test_features_that_cannot_be_read_are_refused_by_their_key(here: Path) -> None:
    (here / "model.ubj").write_bytes(tiny.xgboost_bytes())
    (here / "features.yaml").write_text(FEATURES.replace("take: last", "take: newest"))
    assert new("model.ubj").startswith("features.yaml.features[0].window.take must be ")
    (here / "features.yaml").unlink()
    assert new("model.ubj") == "features.yaml cannot be read"


def test_a_folder_that_is_not_sealed_is_refused_with_the_command_that_seals_it(here: Path) -> None:
    (here / "model.ubj").write_bytes(tiny.xgboost_bytes())
    new("model.ubj")
    refused = CliRunner().invoke(app, ["models", "verify", "mine"])
    assert str(refused.exception).endswith(
        "SHA256SUMS cannot be read; it is written by: ausculta models verify mine --record"
    )


def test_a_model_that_reads_no_features_takes_none(here: Path) -> None:
    tiny.transformer_files(here / "saved", "sequence", ("home", "icu", "ward"))
    assert new("saved") == "huggingface/model.safetensors reads text and takes no features"
