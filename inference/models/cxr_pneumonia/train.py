"""Train the network, measure it on images that were held out, and write the folder's weights, threshold and card.

Data: PneumoniaMNIST of MedMNIST v2 (Yang et al. 2023), from Kermany et al. 2018, CC BY 4.0. Same seed, same machine
and same number of threads give the same weights.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from inference.card import BinaryEvaluation, evaluation_sections
from inference.finalize import finalize_folder
from inference.folder import MANIFEST, WEIGHTS
from inference.measure import (
    Labels,
    Values,
    auroc,
    bootstrap,
    brier,
    calibration_error,
    sensitivity,
    specificity,
    youden_threshold,
)
from inference.models.cxr_pneumonia.model import PneumoniaNetwork, network, standardise

PACKAGE = "inference.models.cxr_pneumonia"
EPOCHS = 80
BATCH = 64
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""L2 penalties that the baseline, a logistic regression, may choose from, on the validation part."""


_THRESHOLD = re.compile(r"(name: positive, at_least: )[0-9.]+")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Images (n, 28, 28) in [0, 1] and whether each shows pneumonia (n,)."""

    images: NDArray[np.float32]
    labels: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Three parts without an image in common."""

    train: Part
    validation: Part
    test: Part


def train(data: Path, out: Path, seed: int = 2026) -> BinaryEvaluation:
    """Train and measure the model, and write its folder.

    Parameters
    ----------
    data
        ``pneumonia_cxr_dev.npz``: ``train_images``, ``val_images`` (n, 28, 28) bytes and their labels (n, 1).
    out
        The model's own folder, or another, which becomes a copy of it with the new weights.
    seed
        Of the split, the weights and the intervals.

    Returns
    -------
    BinaryEvaluation
        The figures of the card, measured on the held-out part.
    """
    split = load(data, seed=seed)
    fitted = fit_network(split, seed=seed)
    validation = _probabilities(network_logits(fitted, split.validation.images))
    threshold = round(youden_threshold(split.validation.labels, validation), 4)
    found = evaluate(split, network_logits(fitted, split.test.images), threshold, float(fitted.temperature), seed=seed)
    _write(out, fitted, found)
    return found


def evaluate(split: Split, logits: Values, threshold: float, temperature: float, *, seed: int) -> BinaryEvaluation:
    """Measure the network's logits on the test part, and compare them with the baseline's.

    Parameters
    ----------
    split
        The data; the baseline is trained on it too.
    logits
        The network's calibrated logits on the test part.
    threshold
        Probability from which a finding is positive.
    temperature
        By which the logits were divided.
    seed
        For the bootstrap intervals.
    """
    labels, baseline = split.test.labels, fit_logistic(split)
    probabilities = _probabilities(logits)

    def gain(truth: Labels, scores: Values) -> float:
        return auroc(truth, scores[:, 0]) - auroc(truth, scores[:, 1])

    def sensitive(truth: Labels, scores: Values) -> float:
        return sensitivity(truth, scores >= threshold)

    def specific(truth: Labels, scores: Values) -> float:
        return specificity(truth, scores >= threshold)

    return BinaryEvaluation(
        data="PneumoniaMNIST of MedMNIST v2 (Yang et al. 2023): chest radiographs of children aged one to five in one "
        "hospital in Guangzhou (Kermany et al. 2018), reduced to 28 x 28 pixels; a class-balanced part of it. "
        "Licence CC BY 4.0.",
        split=f"{len(split.train.labels)} images to train, {len(split.validation.labels)} to validate and "
        f"{labels.size} held out, drawn at random within each class with a fixed seed, identical images kept once. "
        "The set names no patients, so images of one patient may lie on both sides, and the results may flatter.",
        cases=labels.size,
        positives=int(labels.sum()),
        auroc=bootstrap(auroc, labels, logits, seed=seed),
        baseline="logistic regression on pixels",
        baseline_auroc=bootstrap(auroc, labels, baseline, seed=seed),
        difference=bootstrap(gain, labels, np.stack([logits, baseline], axis=1), seed=seed),
        threshold=threshold,
        sensitivity=bootstrap(sensitive, labels, probabilities, seed=seed),
        specificity=bootstrap(specific, labels, probabilities, seed=seed),
        temperature=temperature,
        brier=bootstrap(brier, labels, probabilities, seed=seed),
        calibration_error=bootstrap(calibration_error, labels, probabilities, seed=seed),
    )


def _write(out: Path, fitted: PneumoniaNetwork, found: BinaryEvaluation) -> None:
    """Write weights, threshold, card and golden answers, and seal the folder.

    Raises
    ------
    Problem
        ``conflict`` when ``out`` holds golden answers that these weights do not give.
    """
    home = Path(__file__).parent
    if out.resolve() != home:
        shutil.copytree(home, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (out / WEIGHTS).write_bytes(save(fitted.state_dict()))
    declared = (out / MANIFEST).read_text(encoding="utf-8")
    (out / MANIFEST).write_text(_THRESHOLD.sub(rf"\g<1>{found.threshold}", declared), encoding="utf-8")
    finalize_folder(out, evaluation_sections(found), package=PACKAGE)


def _probabilities(logits: Values) -> Values:
    probabilities: Values = 1 / (1 + np.exp(-logits))
    return probabilities


def load(data: Path, *, seed: int) -> Split:
    """Read the data set and split it 70/10/20 within each class.

    The set names no patients, so images of one patient may be in several parts. Identical images are kept once, so no
    image is.

    Parameters
    ----------
    data
        As for :func:`train`.
    seed
        For the random order within each class.
    """
    with np.load(data, allow_pickle=False) as arrays:
        images = np.concatenate([arrays["train_images"], arrays["val_images"]])
        labels = np.concatenate([arrays["train_labels"], arrays["val_labels"]]).reshape(-1).astype(np.bool_)
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    draw = np.random.default_rng(seed)
    chosen: tuple[list[int], list[int], list[int]] = ([], [], [])
    for positive in (False, True):
        order = draw.permutation(np.sort(first)[labels[np.sort(first)] == positive])
        for part, some in zip(chosen, np.split(order, [int(0.7 * order.size), int(0.8 * order.size)]), strict=True):
            part.extend(some.tolist())
    train, validation, test = (
        Part(images=images[part].astype(np.float32) / 255, labels=labels[part]) for part in map(np.array, chosen)
    )
    return Split(train=train, validation=validation, test=test)


def fit_network(split: Split, *, seed: int) -> PneumoniaNetwork:
    """Train on one part and set the temperature on the validation part (Guo et al. 2017).

    Parameters
    ----------
    split
        The data; the test part is not used.
    seed
        For the initial weights, the order and the variation of the images.
    """
    with _deterministic(seed):
        model = network()
        images = torch.from_numpy(split.train.images)[:, None]
        truth = torch.from_numpy(split.train.labels.astype(np.float32))
        optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
        steps = EPOCHS * -(-len(images) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
        model.train()
        for _ in range(EPOCHS):
            for some in torch.split(torch.randperm(len(images)), BATCH):
                logits = model(standardise(_vary(images[some])))
                loss = functional.binary_cross_entropy_with_logits(logits, truth[some])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
        model.eval()
        model.temperature.fill_(_temperature(network_logits(model, split.validation.images), split.validation.labels))
        return model


def network_logits(model: PneumoniaNetwork, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the calibrated logits (n,).

    Parameters
    ----------
    model
        In evaluation mode.
    images
        (n, 28, 28) in [0, 1].
    """
    with torch.inference_mode():
        inputs = standardise(torch.from_numpy(images)[:, None])
        logits: NDArray[np.float64] = model(inputs).numpy().astype(np.float64)
        return logits


def fit_logistic(split: Split) -> NDArray[np.float64]:
    """Return the baseline's scores on the test part: logistic regression on the standardised pixels."""
    best, chosen = -np.inf, np.zeros(0)
    mean, spread = split.train.images.mean(axis=0), split.train.images.std(axis=0) + 1e-6
    train, validation, test = (
        torch.from_numpy(((part.images - mean) / spread).reshape(len(part.images), -1).astype(np.float64))
        for part in (split.train, split.validation, split.test)
    )
    for penalty in PENALTIES:
        weights = _logistic(train, torch.from_numpy(split.train.labels.astype(np.float64)), penalty)
        value = auroc(split.validation.labels, _scores(validation, weights))
        if value > best:
            best, chosen = value, _scores(test, weights)
    return chosen


def _scores(inputs: Tensor, weights: Tensor) -> NDArray[np.float64]:
    return (inputs @ weights[:-1] + weights[-1]).numpy()


def _logistic(inputs: Tensor, truth: Tensor, penalty: float) -> Tensor:
    weights = torch.zeros(inputs.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        logits = inputs @ weights[:-1] + weights[-1]
        loss = functional.binary_cross_entropy_with_logits(logits, truth) + penalty / 2 * (weights[:-1] ** 2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()


def _temperature(logits: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    candidates = np.exp(np.linspace(np.log(0.25), np.log(8), 400))
    truth = torch.from_numpy(labels.astype(np.float64))
    inputs = torch.from_numpy(logits)
    losses = [float(functional.binary_cross_entropy_with_logits(inputs / value, truth)) for value in candidates]
    return float(candidates[int(np.argmin(losses))])


def _vary(images: Tensor) -> Tensor:
    """Shift, turn, scale and re-window each image (n, 1, 28, 28) a little; left stays left."""
    count = len(images)
    angle = (torch.rand(count) - 0.5) * 0.35
    scale = 1 + (torch.rand(count) - 0.5) * 0.25
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = torch.cos(angle) * scale
    theta[:, 0, 1], theta[:, 1, 0] = -torch.sin(angle) * scale, torch.sin(angle) * scale
    theta[:, :, 2] = (torch.rand(count, 2) - 0.5) * 0.25
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return moved.clamp(0, 1) ** torch.exp((torch.rand(count, 1, 1, 1) - 0.5) * 0.8)


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(mode=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(mode=before)
