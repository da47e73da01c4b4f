"""The data set, its parts, and the baseline that the network is compared with."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from inference.measure import auroc

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""L2 penalties that the baseline, a logistic regression, may choose from, on the validation part."""


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
