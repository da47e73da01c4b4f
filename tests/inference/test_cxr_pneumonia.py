"""The demonstration network: its measured performance, its limits and its shapes."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.explain import enlarge, grad_cam
from inference.folder import bundled_folder
from inference.golden import infer
from inference.likeness import read_likeness, summarise
from inference.loading import AnyRunner, load_model
from inference.measure import (
    auroc,
    bootstrap,
    brier,
    calibration_error,
    proportion,
    reliability,
    threshold_for_sensitivity,
)
from inference.models.cxr_pneumonia import data, evidence, train
from inference.models.cxr_pneumonia.model import SIDE, prepare
from inference.runners.base import Declined
from inference.testing import ADULT, CHILD, NOW, radiograph

SEED = 2026


@pytest.fixture(scope="module")
def network() -> AnyRunner:
    return load_model(bundled_folder("cxr-pneumonia"))


@pytest.fixture(scope="module")
def split(shared: Path) -> data.Split:
    images = shared / "data" / "pneumonia-cxr" / "pneumonia_cxr_dev.npz"
    if not images.exists():
        pytest.skip("the pneumonia data set is not beside this checkout")
    return data.load(images, seed=SEED)


def test_the_shipped_weights_are_better_than_logistic_regression_on_held_out_images(
    network: AnyRunner, split: data.Split
) -> None:
    labels = split.test.labels
    items = [network.decode(radiograph(pixels=image)).item for image in split.test.images]
    seen = network.predict(network.batch(items))
    found = auroc(labels, np.array([one.probability for one in seen]))
    baseline = auroc(labels, data.fit_logistic(split))
    assert found > 0.92
    assert found > baseline
    assert f"{found:.3f}" in network.model.card
    assert f"{baseline:.3f}" in network.model.card


def test_calibration_and_threshold_hold_on_the_part_that_took_part_in_nothing(
    network: AnyRunner, split: data.Split
) -> None:
    labels = split.test.labels
    items = [network.decode(radiograph(pixels=image)).item for image in split.test.images]
    found = np.array([one.probability for one in network.predict(network.batch(items))])
    (output,) = network.model.manifest.outputs
    threshold = float(output.bands[-1].at_least or 0)
    assert calibration_error(labels, found) < 0.05
    assert (found[labels] >= threshold).mean() > 0.85
    assert (found[~labels] < threshold).mean() > 0.95
    assert f"Specificity at {threshold:.4f} | {(found[~labels] < threshold).mean():.3f} |" in network.model.card


def test_nearly_all_right_images_are_read_and_nearly_all_others_declined(network: AnyRunner, split: data.Split) -> None:
    def declined(images: evidence.Images) -> int:
        items = [network.decode(radiograph(pixels=image)).item for image in images]
        return sum(not one.unlikeness <= 1 for one in network.predict(network.batch(items)))

    right = split.test.images
    assert declined(right) / len(right) < 0.05
    assert f"| the right images | {declined(right)} | {len(right)} |" in network.model.card
    for what, images in evidence.unlike_images(right, seed=SEED).items():
        assert declined(images) / len(images) > 0.9, what
        assert f"| {what} | {declined(images)} | {len(images)} |" in network.model.card


def test_the_bounds_of_likeness_decline_the_share_that_was_asked_for() -> None:
    draw = np.random.default_rng(SEED)
    images, features = draw.normal(size=(400, 50)), draw.normal(size=(400, 8))
    whole = summarise(images, features, components=10)
    assert not (whole.unlikeness(images, features) > 0).any()
    others, of_others = draw.normal(size=(400, 50)), draw.normal(size=(400, 8))
    bounded = whole.bounded(others, of_others, declined=0.05)
    assert (bounded.unlikeness(others, of_others) > 1).mean() == pytest.approx(0.05, abs=0.01)
    again = read_likeness(bounded.to_bytes())
    np.testing.assert_allclose(again.distances(others, of_others), bounded.distances(others, of_others), rtol=1e-3)
    assert (bounded.unlikeness(others + 5, of_others) > 1).all()
    assert (bounded.unlikeness(others, of_others + 5) > 1).all()


def test_an_inverted_image_is_declined(network: AnyRunner) -> None:
    right = radiograph()
    with pytest.raises(Declined, match="unlike those that the model was made from"):
        infer(network, replace(right, pixels=1 - right.pixels))


def test_the_card_says_what_it_cannot_know(network: AnyRunner) -> None:
    for word in ("0.744 (0.688 to 0.799)", "predictive value", "Other hospitals", "Subgroups", "names no patients"):
        assert word in network.model.card


def test_the_parts_of_the_split_have_no_image_in_common(split: data.Split) -> None:
    parts = [{image.tobytes() for image in part.images} for part in (split.train, split.validation, split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert [round(len(part) / sum(map(len, parts)), 2) for part in parts] == [0.7, 0.1, 0.2]


@pytest.mark.parametrize(("rows", "columns"), [(28, 28), (120, 100), (61, 200), (513, 512)])
def test_the_heat_map_has_the_image_s_shape_and_stays_in_range(network: AnyRunner, rows: int, columns: int) -> None:
    answer = infer(network, radiograph(rows, columns))
    heat = answer.artefacts[0].values
    assert heat is not None
    assert heat.shape == (rows, columns)
    assert heat.dtype == np.float32
    assert 0 <= heat.min() <= heat.max() <= answer.outputs[0].value + 1e-6


def test_the_heat_map_shows_nothing_outside_what_the_network_saw(network: AnyRunner) -> None:
    heat = infer(network, radiograph(60, 120)).artefacts[0].values
    assert heat is not None
    assert not heat[:, :30].any()
    assert not heat[:, 90:].any()


def test_the_image_is_reduced_by_whole_areas() -> None:
    small = radiograph(SIDE, SIDE)
    large = replace(small, pixels=np.kron(small.pixels, np.ones((4, 4), dtype=np.float32)))
    torch.testing.assert_close(prepare(large.pixels), prepare(small.pixels))


def test_a_batch_gives_the_same_answers_as_single_images(network: AnyRunner) -> None:
    items = [network.decode(radiograph(100, 100 + step)).item for step in range(5)]
    together = network.predict(network.batch(items))
    alone = [network.predict(network.batch([item]))[0] for item in items]
    for one, other in zip(together, alone, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
        np.testing.assert_allclose(one.evidence, other.evidence, atol=1e-4)


def test_the_output_is_a_finding_present_now(network: AnyRunner) -> None:
    (output,) = infer(network, radiograph()).outputs
    assert (output.system, output.code, output.future) == ("http://snomed.info/sct", "233604007", False)
    assert output.band in {"positive", "negative"}
    assert "28 x 28" in output.text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"modality": "CT"}, "the model reads modality CR or DX only"),
        ({"body_part": "HAND"}, "the model reads body part CHEST only"),
        ({"body_part": ""}, "nothing says that the image shows body part CHEST"),
        ({"subject": ADULT}, "the model is not for patients over 5 years"),
        ({"subject": replace(CHILD, birth_date=date(2020, 1, 15))}, "the model is not for patients over 5 years"),
        ({"subject": replace(CHILD, birth_date=date(2025, 1, 16))}, "the model is not for patients under 1 year"),
        (
            {"subject": replace(CHILD, birth_date=None, birth_period="2020")},
            "date of birth is known only as 2020 and the model is not for patients over 5 years",
        ),
        (
            {"subject": replace(CHILD, birth_date=None, birth_period="1950")},
            "the model is not for patients over 5 years",
        ),
        ({"subject": replace(CHILD, birth_date=None)}, "date of birth is not known"),
        ({"view": "LL"}, "the model reads view PA or AP only"),
        (
            {"pixels": np.full((64, 64), 0.5, dtype=np.float32)},
            "the image is nearly uniform: nothing can be seen on it",
        ),
        ({"pixels": np.full((64, 64), np.nan, dtype=np.float32)}, "the image is nearly uniform: nothing can be seen"),
        ({"pixels": np.eye(27, 40, dtype=np.float32)}, "the image is smaller than 28 x 28 pixels"),
    ],
)
def test_inputs_outside_the_models_limits_are_declined(
    network: AnyRunner, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(Declined) as declined:
        infer(network, radiograph(**changes))
    assert declined.value.reason.startswith(reason)


def test_an_image_that_does_not_state_its_view_is_read(network: AnyRunner) -> None:
    assert infer(network, radiograph(view="")).outputs


def test_the_age_is_that_of_the_day_the_image_was_taken(network: AnyRunner) -> None:
    grown = replace(CHILD, birth_date=date(2019, 6, 1))
    assert infer(network, radiograph(subject=grown, acquired_at=NOW.replace(year=2024))).outputs
    with pytest.raises(Declined, match="over 5 years"):
        infer(network, radiograph(subject=grown))


def test_the_card_says_what_it_is(network: AnyRunner) -> None:
    for word in ("DEMONSTRATION", "CC BY 4.0", "28 x 28", "logistic regression", "no patients", "children"):
        assert word in network.model.card


def test_training_with_the_same_seed_gives_the_same_weights(monkeypatch: pytest.MonkeyPatch, split: data.Split) -> None:
    monkeypatch.setattr(train, "EPOCHS", 1)
    small = replace(split, train=replace(split.train, images=split.train.images[::20], labels=split.train.labels[::20]))
    first, second = (train.fit_network(small, seed=SEED).state_dict() for _ in range(2))
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_grad_cam_weighs_channels_by_their_mean_gradient() -> None:
    evidence = torch.zeros(2, 2, 2, 2)
    evidence[0, 0, 0, 0], evidence[0, 1, 1, 1] = 2.0, 4.0
    gradients = torch.ones(2, 2, 2, 2) * torch.tensor([1.0, -1.0])[None, :, None, None]
    maps = grad_cam(evidence, gradients)
    assert maps[0].tolist() == [[1, 0], [0, 0]]
    assert not maps[1].any()
    assert enlarge(maps[0].numpy(), 8, 6).shape == (8, 6)


def test_the_measures_have_the_values_of_their_definitions() -> None:
    labels = np.array([False, False, True, True])
    scores = np.array([0.1, 0.4, 0.35, 0.8])
    assert auroc(labels, scores) == 0.75
    assert auroc(labels, np.zeros(4)) == 0.5
    assert brier(labels, scores) == pytest.approx((0.01 + 0.16 + 0.4225 + 0.04) / 4)
    assert calibration_error(labels, scores) == pytest.approx((0.1 + 0.4 + 0.65 + 0.2) / 4)
    assert threshold_for_sensitivity(labels, scores, at_least=1.0) == 0.35
    assert threshold_for_sensitivity(labels, scores, at_least=0.5) == 0.8
    assert [(one.low, one.cases, one.observed) for one in reliability(labels, scores)] == [
        (0.1, 1, 0.0),
        (0.3, 1, 1.0),
        (0.4, 1, 0.0),
        (0.8, 1, 1.0),
    ]
    assert str(proportion(np.ones(270, dtype=np.bool_))) == "1.000 (0.986 to 1.000)"
    interval = bootstrap(auroc, labels, scores, seed=1, rounds=200)
    assert interval.low <= interval.value <= interval.high
