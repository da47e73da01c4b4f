"""Models of features from the files of the libraries that trained them: the same numbers, or a line to change."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.contract import FactsInput
from inference.golden import infer
from inference.loading import load_model
from inference.runners.base import Answer, Declined
from inference.testing import ADULT, fact
from kernel.errors import Category, Problem

from . import tiny_models as tiny
from .tiny_models import bring

NOW = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)


def facts(pulse: float | None = 100, systolic: float | None = 90) -> FactsInput:
    """Make what is known of a patient."""
    known = [("8867-4", pulse, "/min"), ("8480-6", systolic, "mm[Hg]")]
    return FactsInput(
        subject=ADULT, facts=tuple(fact(code, f"{value:g}", unit) for code, value, unit in known if value), at=NOW
    )


def answer(folder: Path, given: FactsInput | None = None) -> Answer:
    return infer(load_model(folder), given or facts())


def value(folder: Path, given: FactsInput | None = None) -> float:
    found = answer(folder, given).outputs[0].value
    assert found is not None
    return found


def refusal(act: Callable[[], Any]) -> str:
    with pytest.raises(Problem) as refused:
        act()
    assert refused.value.category in {Category.INCORRECT, Category.UNSUPPORTED}
    return str(refused.value)


class TestScikitLearn:
    def test_a_pipeline_answers_as_where_it_was_trained(self, tmp_path: Path) -> None:
        pipeline = tiny.logistic()
        folder = bring(tmp_path / "tiny", "sklearn", {"weights.skops": tiny.skops_bytes(pipeline)})
        assert value(folder) == pytest.approx(pipeline.predict_proba([[100, 90]])[0, 1], abs=1e-12)

    @pytest.mark.parametrize(
        "name",
        [
            "RandomForestClassifier",
            "ExtraTreesClassifier",
            "GradientBoostingClassifier",
            "HistGradientBoostingClassifier",
            "AdaBoostClassifier",
        ],
    )
    def test_ensembles_of_trees_are_read(self, tmp_path: Path, name: str) -> None:
        from sklearn import ensemble

        model = getattr(ensemble, name)()
        folder = bring(tmp_path / "tiny", "sklearn", {"weights.skops": tiny.skops_bytes(model)})
        assert value(folder) == pytest.approx(model.predict_proba([[100, 90]])[0, 1], abs=1e-6)

    def test_other_estimators_are_read(self, tmp_path: Path) -> None:
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.naive_bayes import GaussianNB
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.neural_network import MLPClassifier
        from sklearn.svm import LinearSVC

        made: list[Any] = [
            CalibratedClassifierCV(LinearSVC(), cv=2),
            CalibratedClassifierCV(GaussianNB(), method="isotonic", cv=2),
            KNeighborsClassifier(),
            MLPClassifier((3,), max_iter=3, solver="lbfgs"),
        ]
        for number, model in enumerate(made):
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # three steps do not converge
                content = tiny.skops_bytes(model)
            folder = bring(tmp_path / f"tiny-{number}", "sklearn", {"weights.skops": content})
            assert value(folder) == pytest.approx(model.predict_proba([[100, 90]])[0, 1], abs=1e-6)

    def test_a_feature_without_a_value_reaches_a_model_that_bears_it(self, tmp_path: Path) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier

        model = HistGradientBoostingClassifier()
        content = {"weights.skops": tiny.skops_bytes(model, missing=0.2)}
        folder = bring(tmp_path / "tiny", "sklearn", content, missing="nan")
        assert value(folder, facts(systolic=None)) == pytest.approx(
            model.predict_proba([[100, np.nan]])[0, 1], abs=1e-6
        )

    def test_a_model_that_bears_no_missing_value_says_which_line_to_change(self, tmp_path: Path) -> None:
        content = {"weights.skops": tiny.skops_bytes(tiny.logistic())}
        said = refusal(lambda: bring(tmp_path / "tiny", "sklearn", content, missing="nan"))
        assert said.startswith("weights.skops gives no answer without a value: in features.yaml declare missing")

    def test_a_fill_stands_in_for_it_and_is_disclosed(self, tmp_path: Path) -> None:
        pipeline = tiny.logistic()
        runner = {"kind": "sklearn", "fill": {"systolic": 120, "pulse": 80}}
        content = {"weights.skops": tiny.skops_bytes(pipeline)}
        runner_ = load_model(bring(tmp_path / "tiny", runner, content, missing="nan"))
        decoded = runner_.decode(facts(systolic=None))
        assert [(use.name, str(use.value), use.status) for use in decoded.features] == [
            ("pulse", "100", "used"),
            ("systolic", "120.0", "imputed"),
        ]
        (raw,) = runner_.predict(runner_.batch([decoded.item]))
        assert raw[1] == pytest.approx(pipeline.predict_proba([[100, 120]])[0, 1])

    def test_a_missing_value_that_is_refused_declines(self, tmp_path: Path) -> None:
        folder = bring(tmp_path / "tiny", "sklearn", {"weights.skops": tiny.skops_bytes(tiny.logistic())})
        with pytest.raises(Declined, match="missing systolic"):
            answer(folder, facts(systolic=None))

    def test_a_regression_gives_a_score(self, tmp_path: Path) -> None:
        from sklearn.linear_model import Ridge

        model = Ridge()
        content = {"weights.skops": tiny.skops_bytes(model)}
        folder = bring(tmp_path / "tiny", "sklearn", content, outputs=[tiny.SCORE])
        assert value(folder) == pytest.approx(model.predict([[100, 90]])[0])

    def test_named_classes_must_be_the_bands(self, tmp_path: Path) -> None:
        from sklearn.linear_model import LogisticRegression

        rows, ill = tiny.patients()
        labels = np.array(["home", "ward", "icu"])[ill + (rows[:, 0] > 110)]
        from skops import io

        content = {"weights.skops": io.dumps(LogisticRegression(max_iter=5000).fit(rows, labels))}
        folder = bring(tmp_path / "tiny", "sklearn", content, outputs=[tiny.CLASSES])
        detail = answer(folder).outputs[0].detail
        assert [name for name, _ in detail.probabilities] == ["home", "icu", "ward"]  # type: ignore[union-attr]
        swapped = tiny.CLASSES | {"bands": [{"name": name} for name in ("home", "ward", "icu")]}
        said = refusal(lambda: bring(tmp_path / "swapped", "sklearn", content, outputs=[swapped]))
        assert said.startswith("model.yaml.outputs[0].bands must be named, in this order: home, icu, ward")

    def test_of_two_named_classes_the_manifest_says_which_is_meant(self, tmp_path: Path) -> None:
        content = {"weights.skops": tiny.skops_bytes(tiny.logistic(), labels=["well", "ill"])}
        said = refusal(lambda: bring(tmp_path / "silent", "sklearn", content))
        assert said == "model.yaml.runner.positive must name the class of the probability, one of: ill, well"
        ill = value(bring(tmp_path / "ill", {"kind": "sklearn", "positive": "ill"}, content))
        well = value(bring(tmp_path / "well", {"kind": "sklearn", "positive": "well"}, content))
        assert ill + well == pytest.approx(1)
        assert ill > well

    def test_a_model_without_probabilities_is_refused_for_one(self, tmp_path: Path) -> None:
        from sklearn.svm import LinearSVC

        content = {"weights.skops": tiny.skops_bytes(LinearSVC())}
        said = refusal(lambda: bring(tmp_path / "tiny", "sklearn", content))
        assert "model.yaml.outputs[0].kind must be score: LinearSVC in weights.skops gives no probabilities" in said

    def test_types_that_are_not_listed_are_named_and_never_made(self, tmp_path: Path) -> None:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer

        model = make_pipeline(FunctionTransformer(_touch), tiny.logistic())
        content = {"weights.skops": tiny.skops_bytes(model)}
        _TOUCHED.clear()
        said = refusal(lambda: bring(tmp_path / "tiny", "sklearn", content))
        assert said.startswith("weights.skops holds what is not allowed: ")
        assert "_touch (FunctionNode)" in said
        assert "export it to ONNX" in said
        assert _TOUCHED == []

    def test_a_class_of_ones_own_is_named(self, tmp_path: Path) -> None:
        from sklearn.pipeline import make_pipeline

        content = {"weights.skops": tiny.skops_bytes(make_pipeline(OwnStep(), tiny.logistic()))}
        assert "OwnStep" in refusal(lambda: bring(tmp_path / "tiny", "sklearn", content))

    def test_a_pickle_is_never_opened(self, tmp_path: Path) -> None:
        import pickle

        _TOUCHED.clear()
        content = {"weights.skops": pickle.dumps(Bomb())}
        said = refusal(lambda: bring(tmp_path / "tiny", "sklearn", content))
        assert "is no skops file: write it with skops.io.dump; a pickle or joblib file runs code" in said
        assert _TOUCHED == []

    def test_features_in_another_order_than_trained_are_refused(self, tmp_path: Path) -> None:
        from sklearn.linear_model import LogisticRegression
        from skops import io

        rows, ill = tiny.patients()
        model = LogisticRegression().fit(rows, ill)
        model.feature_names_in_ = np.array(["systolic", "pulse"], dtype=object)
        content = {"weights.skops": io.dumps(model)}
        said = refusal(lambda: bring(tmp_path / "tiny", "sklearn", content))
        assert said == "features.yaml.features[0].name must be systolic, as in weights.skops, and not pulse"

    def test_another_number_of_features_is_refused(self, tmp_path: Path) -> None:
        content = {"weights.skops": tiny.skops_bytes(tiny.logistic())}
        said = refusal(lambda: bring(tmp_path / "tiny", "sklearn", content, features=("pulse",)))
        assert said == "features.yaml.features has 1 entries; weights.skops takes 2 features"


_TOUCHED: list[object] = []


def _touch(rows: Any) -> Any:
    _TOUCHED.append(rows)
    return rows


class Bomb:
    def __reduce__(self) -> Any:
        return _touch, (1,)


class OwnStep:
    def fit(self, rows: Any, _labels: Any = None) -> "OwnStep":
        return self

    def transform(self, rows: Any) -> Any:
        return rows


class TestXGBoost:
    @pytest.mark.parametrize(("name", "form"), [("weights.ubj", "ubj"), ("weights.json", "json")])
    def test_it_answers_as_where_it_was_trained(self, tmp_path: Path, name: str, form: str) -> None:
        import xgboost

        booster = tiny.xgboost_booster()
        folder = bring(tmp_path / "tiny", "xgboost", {name: bytes(booster.save_raw(form))}, missing="nan")
        for systolic in (90.0, None):
            row = np.array([[100.0, np.nan if systolic is None else systolic]])
            expected = booster.predict(xgboost.DMatrix(row, feature_names=list(tiny.FEATURES)))[0]
            assert value(folder, facts(systolic=systolic)) == pytest.approx(expected, abs=1e-7)

    def test_rounds_after_the_best_one_of_an_early_stop_do_not_count(self, tmp_path: Path) -> None:
        import xgboost

        rows, ill = tiny.patients()
        estimator = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=5, learning_rate=0.9, n_jobs=1)
        estimator.fit(rows[:120], ill[:120], eval_set=[(rows[120:], ill[120:])], verbose=False)
        booster = estimator.get_booster()
        assert estimator.best_iteration + 1 < booster.num_boosted_rounds()
        folder = bring(tmp_path / "tiny", "xgboost", {"weights.ubj": bytes(booster.save_raw("ubj"))})
        expected = estimator.predict_proba(np.array([[100.0, 90.0]]))[0, 1]
        assert value(folder) == pytest.approx(expected, abs=1e-6)

    def test_features_of_other_names_are_refused(self, tmp_path: Path) -> None:
        content = {"weights.ubj": tiny.xgboost_bytes(names=["pulse", "mean_pressure"])}
        said = refusal(lambda: bring(tmp_path / "tiny", "xgboost", content))
        assert said == "features.yaml.features[1].name must be mean_pressure, as in weights.ubj, and not systolic"

    def test_classes_without_probabilities_are_refused(self, tmp_path: Path) -> None:
        content = {"weights.ubj": tiny.xgboost_bytes("multi:softmax", num_class=2)}
        said = refusal(lambda: bring(tmp_path / "tiny", "xgboost", content))
        assert said == "weights.ubj gives a class and no probabilities: train it with multi:softprob"

    def test_raw_margins_become_probabilities_where_that_is_declared(self, tmp_path: Path) -> None:
        content = {"weights.ubj": tiny.xgboost_bytes("binary:logitraw")}
        with pytest.raises(Problem, match=r"no probability; model.yaml.runner.transform says how"):
            bring(tmp_path / "raw", "xgboost", content)
        declared = bring(tmp_path / "declared", {"kind": "xgboost", "transform": "sigmoid"}, content)
        assert 0.5 < value(declared) < 1

    @pytest.mark.parametrize("objective", ["reg:squarederror", "binary:hinge", "count:poisson"])
    def test_what_gives_no_probability_is_refused_for_one(self, tmp_path: Path, objective: str) -> None:
        content = {"weights.ubj": tiny.xgboost_bytes(objective)}
        said = refusal(lambda: bring(tmp_path / "tiny", "xgboost", content))
        assert said.startswith(f"weights.ubj ({objective}) gives no probability; model.yaml.runner.transform says how")
        assert isinstance(value(bring(tmp_path / "score", "xgboost", content, outputs=[tiny.SCORE])), float)

    @pytest.mark.parametrize("content", [b"", b"binf\x00\x01", b"{", b'{"learner": {}}', b"{L\x00\x00"])
    def test_another_file_is_refused(self, tmp_path: Path, content: bytes) -> None:
        said = refusal(lambda: bring(tmp_path / "tiny", "xgboost", {"weights.ubj": content}))
        assert said == "weights.ubj is no model of XGBoost: write it with Booster.save_model('weights.ubj')"


class TestLightGBM:
    def test_it_answers_as_where_it_was_trained(self, tmp_path: Path) -> None:
        import lightgbm

        content = tiny.lightgbm_bytes()
        folder = bring(tmp_path / "tiny", "lightgbm", {"weights.txt": content}, missing="nan")
        booster = lightgbm.Booster(model_str=content.decode())
        for systolic in (90.0, None):
            row = np.array([[100.0, np.nan if systolic is None else systolic]])
            assert value(folder, facts(systolic=systolic)) == pytest.approx(booster.predict(row)[0], abs=1e-12)

    def test_features_of_other_names_are_refused(self, tmp_path: Path) -> None:
        content = {"weights.txt": tiny.lightgbm_bytes(names=["heart_rate", "systolic"])}
        said = refusal(lambda: bring(tmp_path / "tiny", "lightgbm", content))
        assert said == "features.yaml.features[0].name must be heart_rate, as in weights.txt, and not pulse"

    @pytest.mark.parametrize("objective", ["regression", "cross_entropy_lambda"])
    def test_what_gives_no_probability_is_refused_for_one(self, tmp_path: Path, objective: str) -> None:
        content = {"weights.txt": tiny.lightgbm_bytes(objective)}
        said = refusal(lambda: bring(tmp_path / "tiny", "lightgbm", content))
        assert said.startswith(f"weights.txt ({objective}) gives no probability; model.yaml.runner.transform says how")
        assert isinstance(value(bring(tmp_path / "score", "lightgbm", content, outputs=[tiny.SCORE])), float)

    @pytest.mark.parametrize("content", [b"", b"tree\n", b"tree\nend of trees\n", b"\x80\x04."])
    def test_another_file_is_refused(self, tmp_path: Path, content: bytes) -> None:
        said = refusal(lambda: bring(tmp_path / "tiny", "lightgbm", {"weights.txt": content}))
        assert said.startswith("weights.txt is no model of LightGBM")


ANSWERED = FactsInput(subject=ADULT, facts=(fact("67775-7", "LA9340-6", None),), at=NOW)
GOLDEN = {"facts": [{"code": "67775-7", "answer": "LA9340-6"}]}


class TestAnswers:
    """The tiny models take two numbers: here one for each of two answers."""

    @pytest.mark.parametrize(
        ("runner", "files"),
        [
            ("sklearn", lambda: {"weights.skops": tiny.skops_bytes(tiny.logistic())}),
            ("xgboost", lambda: {"weights.ubj": tiny.xgboost_bytes(names=None)}),
            ("onnx", lambda: {"weights.onnx": tiny.onnx_bytes()}),
            ("torch-program", lambda: {"weights.pt2": tiny.program_bytes()}),
        ],
    )
    def test_each_answer_in_words_is_a_number_to_the_model(
        self, tmp_path: Path, runner: str, files: Callable[[], dict[str, bytes]]
    ) -> None:
        one_hot = tiny.ALERTNESS | {"one_hot": True}
        folder = bring(tmp_path / "tiny", runner, files(), features=[one_hot], golden=GOLDEN)
        assert load_model(folder).decode(ANSWERED).item.tolist() == [1, 0]

    def test_a_word_itself_is_refused(self, tmp_path: Path) -> None:
        content = {"weights.skops": tiny.skops_bytes(tiny.logistic())}
        said = refusal(
            lambda: bring(tmp_path / "tiny", "sklearn", content, features=[tiny.ALERTNESS, "pulse"], golden=GOLDEN)
        )
        assert said == "features.yaml: the answers of alertness must be numbers; or declare one_hot: true"

    def test_whether_and_when_there_was_an_answer_are_numbers(self, tmp_path: Path) -> None:
        content = {"weights.skops": tiny.skops_bytes(tiny.logistic())}
        features = [
            tiny.ALERTNESS | {"name": take, "window": {"take": take, "hours": 12}} for take in ("any", "time_since")
        ]
        folder = bring(tmp_path / "tiny", "sklearn", content, features=features, golden=GOLDEN)
        assert load_model(folder).decode(ANSWERED).item.tolist() == [1, 1], "it was given an hour ago"


class TestFolders:
    def test_the_file_that_a_runner_needs_is_named(self, tmp_path: Path) -> None:
        said = refusal(lambda: bring(tmp_path / "tiny", "xgboost", {"weights.onnx": b""}))
        assert said == (
            "model.yaml.runner: xgboost needs the file weights.ubj or weights.json; the folder has weights.onnx"
        )

    def test_two_files_of_weights_are_refused(self, tmp_path: Path) -> None:
        content = {"weights.ubj": tiny.xgboost_bytes(), "weights.json": b"{}"}
        said = refusal(lambda: bring(tmp_path / "tiny", "xgboost", content))
        assert said == "model.yaml.runner: xgboost needs one file of weights: remove weights.ubj or weights.json"

    def test_an_unknown_option_is_refused(self, tmp_path: Path) -> None:
        runner = {"kind": "xgboost", "transfrom": "sigmoid"}
        said = refusal(lambda: bring(tmp_path / "tiny", runner, {"weights.ubj": tiny.xgboost_bytes()}))
        assert said == ("model.yaml.runner.transfrom is not known; xgboost knows: fill, mean, scale, transform")

    def test_a_fill_for_no_feature_is_refused(self, tmp_path: Path) -> None:
        runner = {"kind": "xgboost", "fill": {"pluse": 80}}
        said = refusal(lambda: bring(tmp_path / "tiny", runner, {"weights.ubj": tiny.xgboost_bytes()}))
        assert said == "model.yaml.runner.fill.pluse is no feature of features.yaml"

    def test_a_package_that_is_not_installed_is_named_with_the_command(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import importlib.util

        content = {"weights.ubj": tiny.xgboost_bytes()}
        find = importlib.util.find_spec
        monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "xgboost" else find(name))
        said = refusal(lambda: bring(tmp_path / "tiny", "xgboost", content))
        assert said == (
            "model.yaml.runner: xgboost needs xgboost, not installed here; "
            "run: pip install '.[boosting]' -c constraints.txt"
        )

    def test_outputs_that_do_not_fit_the_numbers_are_refused(self, tmp_path: Path) -> None:
        content = {"weights.ubj": tiny.xgboost_bytes()}
        said = refusal(lambda: bring(tmp_path / "tiny", "xgboost", content, outputs=[tiny.CLASSES]))
        assert said == (
            "model.yaml.outputs declares 3 numbers (one for each output, of a class-set one for each band); "
            "weights.ubj gives 1"
        )

    def test_a_kind_of_output_that_is_no_number_is_refused(self, tmp_path: Path) -> None:
        mask = tiny.RISK | {"kind": "mask"}
        said = refusal(
            lambda: bring(tmp_path / "tiny", "xgboost", {"weights.ubj": tiny.xgboost_bytes()}, outputs=[mask])
        )
        assert said == "model.yaml.outputs[0].kind must be one of probability, score, class-set for this runner"
