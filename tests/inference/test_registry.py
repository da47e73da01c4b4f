"""Folders are verified before they are served, and the registry states which models run."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from inference import registry
from inference.catalogue import Catalogue
from inference.contract import FactsInput
from inference.digest import seal, verify
from inference.finalize import finalize_folder
from inference.folder import ModelFolder, bundled_folder
from inference.golden import infer, read_input
from inference.loading import load_model
from inference.models import MODELS
from inference.registry import ModelRow
from inference.testing import NOW, toy_folder, vitals
from inference.testing_folder import CASE, MANIFEST, PULSE_RISK, pulse_risk
from kernel.db import Database, Transaction
from kernel.errors import Category, Problem
from kernel.testing import FakeClock


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    return pulse_risk(tmp_path / PULSE_RISK)


def refusal(path: Path) -> Problem:
    with pytest.raises(Problem) as refused:
        load_model(path)
    return refused.value


@pytest.mark.parametrize("name", MODELS)
def test_bundled_models_are_sealed_and_answer_their_golden_cases(name: str) -> None:
    assert load_model(bundled_folder(name)).model.manifest.name == name


def test_every_bundled_model_folder_is_listed() -> None:
    home = bundled_folder("news2").parent
    folders = {path.parent.name for path in home.glob("*/model.yaml")}
    assert folders == {package.rpartition(".")[2] for package in MODELS.values()}


def test_a_folder_outside_the_package_is_served(linear: Path) -> None:
    (output,) = infer(load_model(linear), vitals(_8867_4=("90", "/min"))).outputs
    assert output.value == pytest.approx(1 / (1 + np.exp(-0.75)))
    assert output.band == "high"
    assert output.text.startswith("AI-generated, not reviewed by a person. Demonstration model, not for clinical use.")


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda folder: (folder / "model.yaml").write_text(MANIFEST + " "), "model.yaml has been altered"),
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"x"), "weights.safetensors has been altered"),
        (lambda folder: (folder / "extra.txt").write_text(""), "extra.txt is not listed in SHA256SUMS"),
        (lambda folder: (folder / "card.md").unlink(), "card.md is missing"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "SHA256SUMS cannot be read"),
        (lambda folder: (folder / "SHA256SUMS").write_text("nonsense"), "SHA256SUMS is malformed"),
        (lambda folder: (folder / "link").symlink_to("/etc/passwd"), "link is a link"),
    ],
)
def test_a_changed_folder_is_refused(linear: Path, harm: Callable[[Path], object], complaint: str) -> None:
    harm(linear)
    refused = refusal(linear)
    assert refused.category is Category.INCORRECT
    assert refused.detail == f"the model folder pulse-risk is refused: {complaint}"


def test_a_runner_refuses_a_kind_of_input_that_it_does_not_read(linear: Path) -> None:
    manifest = linear / "model.yaml"
    facts, text = "{name: facts, kind: facts}", "{name: letter, kind: text}"
    manifest.write_text(manifest.read_text().replace(facts, text))
    seal(linear)
    assert refusal(linear).detail == "model.yaml.runner: linear reads inputs of kind facts, not text"


def test_a_linear_feature_with_sources_in_two_units_is_refused(linear: Path) -> None:
    features = linear / "features.yaml"
    one = "{code: 8867-4, unit: /min}"
    features.write_text(features.read_text().replace(one, one + ", {code: 8310-5, unit: Cel}"))
    seal(linear)
    assert refusal(linear).detail == "features.yaml: the sources of pulse must have one unit"


def test_a_model_with_other_golden_answers_is_refused(linear: Path) -> None:
    save_file({"weight": np.array([0.6]), "bias": np.array(0.25)}, linear / "weights.safetensors")
    seal(linear)
    assert refusal(linear).detail == (
        "the model pulse-risk does not answer its golden case ninety as it should: "
        "outputs[risk].value is 1.0 and 0.679178699175393 is expected, by 0.47 of it"
    )


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("model.yaml", MANIFEST.replace("1.0.0", "one"), "model.yaml.version must have the form"),
        ("model.yaml", MANIFEST.replace("runner: linear", "runner: magic"), "model.yaml.runner must be one of"),
        ("model.yaml", MANIFEST + "colour: red\n", "model.yaml.colour is not known"),
        ("model.yaml", MANIFEST.replace("demonstration: true", "demonstration: 1"), "model.yaml.demonstration must be"),
        ("model.yaml", MANIFEST.replace("at_least: 0.5", "at_least: -1"), "model.yaml.outputs[0].bands must be given"),
        ("model.yaml", "[", "model.yaml cannot be read"),
        ("model.yaml", "name: a\n  title: b\n", "model.yaml cannot be read: line 2, column 8: mapping values are not"),
        (
            "model.yaml",
            MANIFEST.replace("version: 1.0.0", "version: 1.0"),
            'model.yaml.version must be three numbers in quotation marks, as "1.0.0"',
        ),
        (
            "model.yaml",
            MANIFEST.replace("title: ", "title: 7 # "),
            "model.yaml.title must be a text in quotation marks",
        ),
        ("card.md", " ", "the model folder pulse-risk has no card.md"),
        ("model.py", "", "the model folder pulse-risk brings code"),
    ],
)
def test_a_wrong_declaration_is_refused_by_name(linear: Path, name: str, content: str, complaint: str) -> None:
    (linear / name).write_text(content)
    seal(linear)
    assert refusal(linear).detail.startswith(complaint)


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        ({"weight": np.ones(1)}, "must hold weight and bias"),
        ({"weight": np.ones(2), "bias": np.zeros(1)}, "weight does not fit the 1 features"),
        ({"weight": np.array([np.nan]), "bias": np.zeros(1)}, "weight does not fit the 1 features"),
        ({"weight": np.ones(1), "bias": np.zeros(1), "scale": np.zeros(1)}, "scale must be above 0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(linear: Path, tensors: dict[str, np.ndarray], complaint: str) -> None:
    save_file(tensors, linear / "weights.safetensors")
    seal(linear)
    assert complaint in refusal(linear).detail


def test_weights_that_are_no_safetensors_are_refused(linear: Path) -> None:
    (linear / "weights.safetensors").write_bytes(b"\x80\x04pickle")
    seal(linear)
    assert refusal(linear).detail.startswith("weights.safetensors is no safetensors file: write it with")


def test_bundled_code_is_never_run_for_a_copied_folder(tmp_path: Path) -> None:
    copy = tmp_path / "news2"
    shutil.copytree(bundled_folder("news2"), copy)
    assert verify(copy)
    assert refusal(copy).category is Category.UNSUPPORTED


class TestRows:
    """The same on both databases."""

    def row(self, database: Database, name: str = "toy", version: str | None = None) -> ModelRow:
        with database.read() as connection:
            found = registry.get(connection, name, version)
        assert found is not None
        return found

    def add(self, database: Database, version: str, status: registry.Status, clock: FakeClock) -> None:
        folder = toy_folder(version=version)
        database.write(lambda tx: registry.register(tx, folder, status, by="ada", at=clock.now()))
        clock.advance(60)

    def test_a_registered_model_can_be_read(self, database: Database, clock: FakeClock) -> None:
        folder, at = toy_folder(), clock.now()
        self.add(database, "1.0.0", "active", clock)
        assert self.row(database) == ModelRow(
            name="toy",
            version="1.0.0",
            digest=folder.digest,
            status="active",
            stopped=False,
            stop_reason=None,
            folder=folder.path,
            origin="folder",
            title="A toy",
            owner="Tests",
            intended_use="Tests",
            declaration=folder.declaration,
            added_at=at,
            changed_at=at,
            changed_by="ada",
        )

    def test_one_version_of_a_name_is_active(self, database: Database, clock: FakeClock) -> None:
        self.add(database, "1.0.0", "active", clock)
        self.add(database, "1.1.0", "shadow", clock)
        assert self.row(database).version == "1.0.0"
        database.write(lambda tx: registry.set_status(tx, "toy", "1.1.0", "active", by="bob", at=clock.now()))
        with database.read() as connection:
            assert [row.version for row in registry.active(connection)] == ["1.1.0"]
            assert [row.version for row in registry.serving(connection)] == ["1.1.0"]
        assert self.row(database, version="1.0.0").status == "retired"
        assert self.row(database, version="1.0.0").changed_by == "bob"

    def test_a_version_never_changes_its_content(self, database: Database, clock: FakeClock) -> None:
        self.add(database, "1.0.0", "active", clock)
        self.add(database, "1.0.0", "active", clock)
        changed = with_digest("f" * 64)
        with pytest.raises(Problem, match="registered with other content") as refused:
            database.write(lambda tx: registry.register(tx, changed, "shadow", by="ada", at=clock.now()))
        assert refused.value.category is Category.CONFLICT

    def test_a_new_build_of_a_bundled_model_keeps_what_people_decided(
        self, database: Database, clock: FakeClock
    ) -> None:
        for digest in ("0" * 64, "f" * 64):
            folder = with_digest(digest)
            database.write(lambda tx, it=folder: registry.register_bundled(tx, it, by="software", at=clock.now()))
            database.write(lambda tx: registry.stop(tx, "toy", "under review", by="ada", at=clock.now()))
        row = self.row(database)
        assert (row.digest, row.status, row.stop_reason) == ("f" * 64, "active", "under review")

    def bundle(self, database: Database, clock: FakeClock, version: str, *, demonstration: bool) -> None:
        folder = toy_folder(version=version, demonstration=demonstration)
        database.write(lambda tx: registry.register_bundled(tx, folder, by="software", at=clock.now()))

    def test_a_bundled_model_starts_active_and_a_demonstration_as_shadow(
        self, database: Database, clock: FakeClock
    ) -> None:
        self.bundle(database, clock, "1.0.0", demonstration=False)
        assert self.row(database, version="1.0.0").status == "active"
        self.bundle(database, clock, "1.1.0", demonstration=True)
        assert self.row(database, version="1.1.0").status == "shadow"

    @pytest.mark.parametrize(("who", "status"), [("software", "retired"), ("ada", "active")])
    def test_a_new_demonstration_retires_the_one_that_no_person_activated(
        self, database: Database, clock: FakeClock, who: str, status: str
    ) -> None:
        self.bundle(database, clock, "1.0.0", demonstration=True)
        database.write(lambda tx: registry.set_status(tx, "toy", "1.0.0", "active", by=who, at=clock.now()))
        self.bundle(database, clock, "1.1.0", demonstration=True)
        assert self.row(database, version="1.0.0").status == status
        assert self.row(database, version="1.1.0").status == "shadow"

    def test_one_model_or_all_can_be_stopped_and_resumed(self, database: Database, clock: FakeClock) -> None:
        for name in ("one", "two"):
            folder = toy_folder(name)
            database.write(lambda tx, it=folder: registry.register(tx, it, "active", by="ada", at=clock.now()))
        assert database.write(lambda tx: registry.stop(tx, "one", "drift", by="ada", at=clock.now())) == 1
        assert [self.row(database, name).stopped for name in ("one", "two")] == [True, False]
        assert database.write(lambda tx: registry.stop(tx, None, "recall", by="ada", at=clock.now())) == 2
        assert {self.row(database, name).stop_reason for name in ("one", "two")} == {"recall"}
        assert database.write(lambda tx: registry.resume(tx, None, by="ada", at=clock.now())) == 2
        assert not self.row(database, "one").stopped

    def test_an_unknown_model_cannot_be_changed(self, database: Database, clock: FakeClock) -> None:
        for change in (
            lambda tx: registry.stop(tx, "none", "x", by="ada", at=clock.now()),
            lambda tx: registry.resume(tx, "none", by="ada", at=clock.now()),
            lambda tx: registry.set_status(tx, "none", "1.0.0", "active", by="ada", at=clock.now()),
        ):
            with pytest.raises(Problem, match="there is no model none"):
                database.write(change)


def with_digest(digest: str) -> ModelFolder:

    return replace(toy_folder(demonstration=False), digest=digest)


def change_case(folder: Path, **changes: object) -> None:
    case = folder / "golden" / "ninety.json"
    case.write_text(json.dumps(json.loads(case.read_text()) | changes))


def test_sealing_again_compares_and_never_overwrites(linear: Path) -> None:
    recorded = (linear / "golden" / "ninety.json").read_bytes()
    save_file({"weight": np.array([0.6]), "bias": np.array(0.25)}, linear / "weights.safetensors")
    with pytest.raises(Problem) as refused:
        finalize_folder(linear, {"Evidence": "None: a test."})
    assert refused.value.category is Category.CONFLICT
    assert refused.value.detail.startswith("the golden case ninety records another answer")
    assert (linear / "golden" / "ninety.json").read_bytes() == recorded


@pytest.mark.parametrize(("risk", "agrees"), [(0.6792, True), (0.69, False)])
def test_the_training_library_s_answer_is_compared_too(linear: Path, risk: float, agrees: bool) -> None:
    change_case(linear, reference={"risk": risk})
    seal(linear)
    if agrees:
        load_model(linear)
    else:
        assert "golden case ninety" in refusal(linear).detail


@pytest.mark.parametrize("tolerance", [{"relative": 0.02}, {"absolute": 0.02}], ids=["relative", "absolute"])
def test_a_case_states_its_own_tolerance(linear: Path, tolerance: dict[str, float]) -> None:
    change_case(linear, reference={"risk": 0.69}, tolerance=tolerance)
    seal(linear)
    load_model(linear)


def test_a_golden_fact_may_have_a_time_of_its_own() -> None:
    facts = [{"code": "a", "value": "1", "at": -3600}, {"code": "b", "value": "2", "at": "2026-01-14T00:00:00+00:00"}]
    given = read_input({"subject": {"reference": "Patient/golden"}, "at": NOW.isoformat(), "facts": facts})
    assert isinstance(given, FactsInput)
    assert [fact.effective.isoformat() for fact in given.facts] == [
        "2026-01-15T11:00:00+00:00",
        "2026-01-14T00:00:00+00:00",
    ]


TWO_OUTPUTS = MANIFEST.replace(
    "limits: {}",
    "  - {name: other, system: 'urn:test', code: other, display: Other, kind: probability, future: true,\n"
    "     bands: [{name: low, at_least: 0}, {name: high, at_least: 0.5}]}\nlimits: {}",
)


def test_each_output_of_a_linear_model_has_a_number_of_its_own(linear: Path) -> None:
    (linear / "model.yaml").write_text(TWO_OUTPUTS)
    save_file({"weight": np.array([[0.01], [-0.02]]), "bias": np.array([0.5, 0.25])}, linear / "weights.safetensors")
    (linear / "golden" / "ninety.json").write_text(json.dumps(CASE))
    finalize_folder(linear, {"Evidence": "None: a test."})
    outputs = infer(load_model(linear), vitals(_8867_4=("90", "/min"))).outputs
    expected = [1 / (1 + np.exp(-1.4)), 1 / (1 + np.exp(1.55))]
    assert [output.value for output in outputs] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("weight", "complaint"),
    [
        (np.array([0.5]), "weight does not fit the 1 features and 2 outputs"),
        (np.array([0.5, 0.5]), "weight must have one row for each output"),
    ],
)
def test_one_row_of_weights_for_two_outputs_is_refused(linear: Path, weight: np.ndarray, complaint: str) -> None:
    (linear / "model.yaml").write_text(TWO_OUTPUTS)
    save_file({"weight": weight, "bias": np.array([0.0, 0.0])}, linear / "weights.safetensors")
    seal(linear)
    assert complaint in refusal(linear).detail


def test_a_small_probability_is_held_to_as_many_digits_as_a_large_one(linear: Path) -> None:
    (linear / "golden" / "ninety.json").write_text(json.dumps(CASE))
    save_file({"weight": np.array([0.0]), "bias": np.array(-7.6)}, linear / "weights.safetensors")  # 0.0005
    finalize_folder(linear, {"Evidence": "None: a test."})
    load_model(linear)
    save_file({"weight": np.array([0.0]), "bias": np.array(-6.9)}, linear / "weights.safetensors")  # 0.001, twice that
    seal(linear)
    assert "does not answer its golden case ninety" in refusal(linear).detail


@pytest.mark.parametrize("name", ["news2"])
def test_golden_cases_of_bundled_models_of_facts_cover_values_of_different_times(name: str) -> None:
    cases = [json.loads(path.read_text())["input"]["facts"] for path in bundled_folder(name).glob("golden/*.json")]
    assert any(len({fact.get("at") for fact in facts}) > 2 for facts in cases)


def test_what_is_read_once_for_a_commit_is_read_again_after_a_change(database: Database, clock: FakeClock) -> None:
    catalogue, model = Catalogue(), toy_folder()

    def retire(tx: Transaction) -> None:
        registry.set_status(tx, "toy", model.manifest.version, "retired", by="ada", at=clock.now())

    def work(tx: Transaction) -> list[int]:
        served = [len(catalogue.serving_in(tx))]
        registry.register(tx, model, "active", by="ada", at=clock.now())
        served.append(len(catalogue.serving_in(tx)))
        with contextlib.suppress(ZeroDivisionError), tx.savepoint():
            retire(tx)
            served.append(len(catalogue.serving_in(tx)))
            raise ZeroDivisionError
        served.append(len(catalogue.serving_in(tx)))
        retire(tx)
        return [*served, len(catalogue.serving_in(tx))]

    assert database.write(work) == [0, 1, 0, 1, 0]
