"""The data are FLamby's, and the model is plain logistic regression."""

from pathlib import Path

import numpy as np
import pytest

from federated import task
from kernel.errors import Category, Problem

from .hospitals import made_up


@pytest.mark.parametrize(
    ("name", "diseased", "healthy"),
    [("cleveland", 139, 164), ("hungarian", 98, 163), ("switzerland", 45, 1), ("va", 101, 29)],
)
def test_the_patients_are_those_of_flamby(data: Path, name: str, diseased: int, healthy: int) -> None:
    hospital = task.load_hospital(data, name, seed=0)
    labels = np.concatenate([hospital.train.labels, hospital.test.labels])
    assert (int(labels.sum()), int((~labels).sum())) == (diseased, healthy)


def test_the_inputs_are_thirteen_numbers(data: Path) -> None:
    hospital = task.load_hospital(data, "va", seed=0)
    assert hospital.train.inputs.shape[1] == 13
    assert np.isfinite(hospital.train.inputs).all()


def test_the_first_patient_of_cleveland_is_read_as_written(data: Path) -> None:
    hospital = task.load_hospital(data, "cleveland", seed=0)
    everybody = np.concatenate([hospital.train.inputs, hospital.test.inputs]).tolist()
    # 63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3: typical angina, left ventricular hypertrophy
    assert [63.0, 1.0, 145.0, 233.0, 1.0, 150.0, 0.0, 2.3, 0.0, 0.0, 0.0, 0.0, 1.0] in everybody


def test_a_third_of_either_kind_is_kept_for_testing(data: Path) -> None:
    test = task.load_hospital(data, "cleveland", seed=0).test
    assert (int(test.labels.sum()), int((~test.labels).sum())) == (46, 55)


def test_the_seed_decides_the_split(data: Path) -> None:
    first, again, other = (task.load_hospital(data, "va", seed).test.inputs for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_training_and_test_patients_are_disjoint(data: Path) -> None:
    hospital = task.load_hospital(data, "hungarian", seed=0)
    assert len(hospital.train.labels) + len(hospital.test.labels) == 261


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"there is no processed\.va\.data") as refused:
        task.load_hospital(tmp_path, "va", seed=0)
    assert refused.value.category is Category.NOT_FOUND


@pytest.mark.parametrize("content", ["a,b,c\n", "1,2\n", ",".join(["x"] * 14) + "\n"])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "processed.va.data").write_text(content)
    with pytest.raises(Problem) as refused:
        task.load_hospital(tmp_path, "va", seed=0)
    assert refused.value.category is Category.INCORRECT


def test_sums_of_parts_give_the_scaling_of_the_whole() -> None:
    parts = [made_up("a", 30, 1).train.inputs, made_up("b", 70, 2, shift=1.0).train.inputs]
    scaling = (task.sums(parts[0]) + task.sums(parts[1])).scaling()
    whole = np.concatenate(parts)
    np.testing.assert_allclose(scaling.mean, whole.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(scaling.scale, whole.std(axis=0), atol=1e-12)


def test_an_input_that_never_varies_is_left_at_zero() -> None:
    scaling = task.sums(np.full((5, 13), 3.0)).scaling()
    assert not scaling.apply(np.full((5, 13), 3.0)).any()


def test_a_step_of_training_follows_the_gradient_of_the_log_loss() -> None:
    part = made_up("a", 50, 3).train
    scaling = task.sums(part.inputs).scaling()

    def loss(bias: float) -> float:
        probability = 1 / (1 + np.exp(-bias))
        return float(-np.where(part.labels, np.log(probability), np.log(1 - probability)).mean())

    stepped = task.train(task.start(), part, scaling, task.Descent(steps=1, rate=1.0))
    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    assert stepped["bias"][0] == pytest.approx(-slope, abs=1e-6)


def test_an_auc_of_one_kind_of_patients_does_not_exist() -> None:
    part = task.Part(inputs=np.zeros((3, 13)), labels=np.ones(3, dtype=np.bool_))
    measured = task.measure(task.start(), part, task.sums(part.inputs).scaling())
    assert (measured.auc, measured.positives, measured.negatives, measured.meaningful) == (None, 3, 0, False)


def test_the_digest_depends_on_every_number_and_name() -> None:
    arrays = {"weight": np.arange(13.0), "bias": np.zeros(1)}
    changed = {"weight": np.arange(13.0) + np.eye(13)[12] * 1e-15, "bias": np.full(1, 1e-300)}
    renamed = {"weights": np.arange(13.0), "bias": np.zeros(1)}
    assert len({task.digest(each) for each in (arrays, changed, renamed)}) == 3
    assert task.digest(arrays) == task.digest(dict(reversed(arrays.items())))
