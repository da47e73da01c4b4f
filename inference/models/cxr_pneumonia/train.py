"""Train the network, calibrate and measure it, and write the folder's weights, threshold, summary and card.

Data: PneumoniaMNIST of MedMNIST v2 (Yang et al. 2023), from Kermany et al. 2018, CC BY 4.0. Same seed, same machine
and same number of threads give the same weights.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from inference.card import BinaryEvaluation
from inference.models.cxr_pneumonia.data import Split, load
from inference.models.cxr_pneumonia.evidence import Images, calibrate, choose_threshold, evaluate, fit_likeness, write
from inference.models.cxr_pneumonia.model import PneumoniaNetwork, network, standardise

EPOCHS = 80
BATCH = 64


def train(data: Path, out: Path, *, others: Mapping[str, Images] | None = None, seed: int = 2026) -> BinaryEvaluation:
    """Train and measure the model, and write its folder.

    Parameters
    ----------
    data
        ``pneumonia_cxr_dev.npz``: ``train_images``, ``val_images`` (n, 28, 28) bytes and their labels (n, 1).
    out
        The model's own folder, or another, which becomes a copy of it with the new weights.
    others
        Further images that the model must decline, by what they are; for the card.
    seed
        Of the split, the weights and the intervals.

    Returns
    -------
    BinaryEvaluation
        The figures of the card, measured on the part that took part in nothing.
    """
    split = load(data, seed=seed)
    return settle(fit_network(split, seed=seed), split, out, others=others or {}, seed=seed)


def settle(
    fitted: PneumoniaNetwork, split: Split, out: Path, *, others: Mapping[str, Images], seed: int
) -> BinaryEvaluation:
    """Calibrate a trained network, choose its threshold and bounds, measure it, and write its folder.

    Parameters
    ----------
    fitted
        Trained on the first part.
    split
        The data.
    out, others, seed
        As for :func:`train`.
    """
    calibrate(fitted, split.validation)
    threshold = choose_threshold(fitted, split.validation)
    likeness = fit_likeness(fitted, split)
    found = evaluate(fitted, likeness, split, threshold, others, seed=seed)
    write(out, fitted, likeness, found)
    return found


def fit_network(split: Split, *, seed: int) -> PneumoniaNetwork:
    """Train on one part; calibration is another step (:func:`inference.models.cxr_pneumonia.evidence.calibrate`).

    Parameters
    ----------
    split
        The data; only the first part is used.
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
        return model


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
