"""What was registered is what runs: whatever becomes of the folder that it came from, and of what lies beside it."""

import importlib.util
import json
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inference import registry
from inference.folder import bundled_folder
from inference.models import MODELS
from inference.registry import ModelRow
from inference.testing_folder import PULSE_RISK, pulse_risk, write_weights

from .hospital import Hospital

AUSCULTA = Path(sys.executable).with_name("ausculta")
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ausculta(tmp_path: Path) -> Command:
    """Run ``ausculta`` on the hospital's data folder."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {"AUSCULTA_DATA_DIR": str(tmp_path / "ausculta"), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
        return subprocess.run(
            [AUSCULTA, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )

    return run


def result_of(hospital: Hospital, model: str = PULSE_RISK, **vitals: str) -> Any:
    hospital.clock.advance(1)  # values of one instant of one message contradict each other
    hospital.hl7(hospital.vitals(**vitals))
    hospital.work()
    return [row for row in hospital.results() if row.model == model][-1]


def row_of(hospital: Hospital, name: str, version: str = "1.0.0") -> ModelRow:
    with hospital.application.database.read() as connection:
        row = registry.get(connection, name, version)
    assert row is not None
    return row


def kept(hospital: Hospital, name: str) -> Path:
    return hospital.application.settings.data_dir / "model-files" / row_of(hospital, name).digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pulse_risk(tmp_path / PULSE_RISK)


@pytest.mark.parametrize("spoil", [lambda it: write_weights(it, slope=-0.5), shutil.rmtree], ids=["edited", "deleted"])
def test_an_added_model_answers_as_registered_after_a_restart_although_its_folder_changed(
    open_hospital: Callable[..., Hospital], ausculta: Command, folder: Path, spoil: Callable[[Path], object]
) -> None:
    first = open_hospital()
    first.admit()
    assert ausculta("models", "add", str(folder)).returncode == 0
    assert ausculta("models", "activate", PULSE_RISK).returncode == 0
    before = result_of(first, pulse="90")
    spoil(folder)
    first.application.runtime.close()
    restarted = open_hospital()
    after = result_of(restarted, pulse="91")
    assert (before.kind, after.kind) == ("prediction", "prediction")
    assert json.loads(after.outputs)[0]["value"] > json.loads(before.outputs)[0]["value"]
    assert (after.digest, row_of(restarted, PULSE_RISK).digest) == (before.digest, before.digest)


def test_a_model_that_earlier_releases_knew_by_its_path_is_kept_at_the_next_start(
    open_hospital: Callable[..., Hospital], folder: Path
) -> None:
    first = open_hospital(model_dirs=(folder,))
    first.set_model(PULSE_RISK, "active")
    shutil.rmtree(kept(first, PULSE_RISK))
    second = open_hospital()
    second.admit()
    shutil.rmtree(folder)
    assert result_of(second).kind == "prediction"


def test_a_kept_file_that_was_altered_gives_a_reason(open_hospital: Callable[..., Hospital], folder: Path) -> None:
    hospital = open_hospital(model_dirs=(folder,))
    hospital.set_model(PULSE_RISK, "active")
    write_weights(kept(hospital, PULSE_RISK), slope=-0.5)
    hospital.admit()
    row = result_of(hospital)
    reason = f"the model {PULSE_RISK} 1.0.0 is refused: weights.safetensors has been altered"
    assert (row.kind, row.summary) == ("failed", f"AI result not available: {reason}")


def test_compiled_code_beside_a_model_is_never_run(
    open_hospital: Callable[..., Hospital], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python runs a ``.pyc`` in place of the file that the digest covers, when its header says that it fits."""
    package = tmp_path / "planted"
    shutil.copytree(bundled_folder("news2"), package, ignore=shutil.ignore_patterns("__pycache__"))
    planted = tmp_path / "planted.py"
    for name in ("model", "__init__"):
        source = package / f"{name}.py"
        planted.write_text('raise RuntimeError("planted code ran")\n')
        cached = importlib.util.cache_from_source(str(source))
        py_compile.compile(
            str(planted), cached, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    bundled = {**MODELS, "news2": "planted"}
    monkeypatch.setattr("inference.folder.MODELS", bundled)
    monkeypatch.setattr("inference.folder.open_folder.__kwdefaults__", {"bundled": bundled})
    hospital = open_hospital()
    assert row_of(hospital, "news2").folder == package
    hospital.admit()
    assert result_of(hospital, "news2").kind == "prediction"


def test_a_folder_of_the_same_name_does_not_replace_a_bundled_model(
    ausculta: Command, hospital: Hospital, folder: Path
) -> None:
    renamed(folder, "name: pulse-risk", "name: news2")
    renamed(folder, "version: 1.0.0", "version: 9.0.0")
    refused = ausculta("models", "add", str(folder))
    assert refused.returncode == 2
    assert refused.stderr == "ausculta: news2 is the name of a bundled model: give yours another name\n"
    assert row_of(hospital, "news2").status == "active"


def test_a_folder_of_another_owner_does_not_become_a_version_of_a_model(
    ausculta: Command, hospital: Hospital, folder: Path
) -> None:
    assert ausculta("models", "add", str(folder)).returncode == 0
    renamed(folder, "version: 1.0.0", "version: 1.1.0")
    renamed(folder, "owner: Tests", "owner: Somebody else")
    refused = ausculta("models", "add", str(folder))
    assert (refused.returncode, "another owner" in refused.stderr) == (2, True), refused.stderr


def renamed(folder: Path, old: str, new: str) -> None:
    from inference.digest import seal

    manifest = folder / "model.yaml"
    manifest.write_text(manifest.read_text().replace(old, new))
    seal(folder)


def test_activate_without_a_version_means_the_one_in_shadow(
    ausculta: Command, hospital: Hospital, folder: Path
) -> None:
    assert ausculta("models", "add", str(folder)).returncode == 0
    assert ausculta("models", "activate", PULSE_RISK).returncode == 0
    for version in ("1.1.0", "1.2.0"):
        renamed(folder, f"version: {row_versions(hospital)[-1]}", f"version: {version}")
        assert ausculta("models", "add", str(folder)).returncode == 0
        if version == "1.1.0":
            assert ausculta("models", "activate", PULSE_RISK).stdout == f"{PULSE_RISK} 1.1.0 is active\n"
    renamed(folder, "version: 1.2.0", "version: 1.3.0")
    assert ausculta("models", "add", str(folder)).returncode == 0
    ambiguous = ausculta("models", "activate", PULSE_RISK)
    assert (ambiguous.returncode, "(1.2.0, 1.3.0): name one" in ambiguous.stderr) == (2, True), ambiguous.stderr
    assert row_of(hospital, PULSE_RISK, "1.1.0").status == "active"


def row_versions(hospital: Hospital) -> list[str]:
    with hospital.application.database.read() as connection:
        return [row.version for row in registry.everything(connection) if row.name == PULSE_RISK]


def test_activate_by_version_refuses_files_that_are_not_those_registered(
    ausculta: Command, open_hospital: Callable[..., Hospital], folder: Path
) -> None:
    from inference.digest import seal

    hospital = open_hospital(model_dirs=(folder,))
    place = kept(hospital, PULSE_RISK)
    write_weights(place, slope=-0.5)
    seal(place)
    refused = ausculta("models", "activate", PULSE_RISK, "--version", "1.0.0")
    assert (refused.returncode, "changed since it was registered" in refused.stderr) == (2, True), refused.stderr
    assert row_of(hospital, PULSE_RISK).status == "shadow"


def test_a_stop_of_all_models_holds_for_a_model_that_is_added_later(
    ausculta: Command, hospital: Hospital, folder: Path
) -> None:
    hospital.admit()
    assert ausculta("models", "stop", "--all", "--reason", "recall").returncode == 0
    assert ausculta("models", "add", str(folder)).returncode == 0
    activated = ausculta("models", "activate", PULSE_RISK)
    assert "is active, and still stopped (recall)" in activated.stdout
    assert result_of(hospital).summary == "AI result not available: the model was stopped: recall"
    assert ausculta("models", "resume", "--all", "--reason", "recall over").returncode == 0
    assert result_of(hospital, pulse="95").kind == "prediction"


def test_a_stop_of_a_model_holds_for_its_next_version_and_resume_takes_it_back(
    ausculta: Command, hospital: Hospital, folder: Path
) -> None:
    hospital.admit()
    assert ausculta("models", "add", str(folder)).returncode == 0
    assert ausculta("models", "stop", PULSE_RISK, "--reason", "drift").returncode == 0
    renamed(folder, "version: 1.0.0", "version: 1.1.0")
    assert ausculta("models", "add", str(folder)).returncode == 0
    assert ausculta("models", "activate", PULSE_RISK, "--version", "1.1.0").returncode == 0
    assert result_of(hospital).summary == "AI result not available: the model was stopped: drift"
    resumed = ausculta("models", "resume", PULSE_RISK, "--reason", "retrained")
    assert (resumed.returncode, resumed.stdout) == (0, "resumed: 2 model version(s)\n")
    assert result_of(hospital, pulse="95").kind == "prediction"
    codes = {event["subtype"][0]["code"] for event in hospital.all("AuditEvent?_count=200")}
    assert {"model-stopped", "model-resumed", "model-activated"} <= codes
