"""Calibration, threshold, the check of likeness, and everything that the card reports about them.

Three parts of the data: the network and the summary of its images are made from the first; calibration, threshold and
the bounds of likeness from the second; the third takes part in nothing and is only measured.
"""

import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch.nn import functional

from inference.card import BinaryEvaluation, DeclinedShare, evaluation_sections
from inference.finalize import finalize_folder
from inference.folder import MANIFEST, WEIGHTS
from inference.likeness import FILE, Likeness, summarise
from inference.measure import (
    Labels,
    Values,
    auroc,
    bootstrap,
    brier,
    calibration_error,
    proportion,
    reliability,
    threshold_for_sensitivity,
)
from inference.models.cxr_pneumonia.data import Part, Split, fit_logistic
from inference.models.cxr_pneumonia.model import PneumoniaNetwork, standardise

PACKAGE: Final = "inference.models.cxr_pneumonia"
SENSITIVITY: Final = 0.90
"""Least sensitivity on the second part; the threshold is the greatest that has it."""

DECLINED: Final = 0.01
"""Share of the right images of the second part that the check of likeness declines."""

Images = NDArray[np.float32]

_THRESHOLD = re.compile(r"(name: positive, at_least: )[0-9.]+")

DATA: Final = (
    "PneumoniaMNIST of MedMNIST v2 (Yang et al. 2023): chest radiographs of children aged one to five in one hospital "
    "in Guangzhou (Kermany et al. 2018), reduced to 28 x 28 pixels; a class-balanced part of its training and "
    "validation images. Licence CC BY 4.0."
)
UNKNOWN: Final = (
    (
        "Whether images of one patient lie in several parts: the set names no patients, so the parts are "
        "apart by image and the intervals are over images. They flatter, and the true intervals are wider."
    ),
    (
        "How it does on other images. In an outside trial of version 1.0.0 on 468 images of the same source "
        "that took no part in its making, the area under the ROC curve was 0.983 (0.972 to 0.992), and the "
        "specificity at its threshold of 0.1803 was 0.744 (0.688 to 0.799), where its card said 0.970; "
        "probabilities between 0.1 and 0.8 were too high. This version has the same network. Its calibration "
        "and threshold were not measured on those images: expect a lower specificity and probabilities that "
        "are too high."
    ),
    (
        "The positive predictive value anywhere: half of these images show pneumonia by design. At a "
        "prevalence of 5 % it is far lower than sensitivity and specificity suggest."
    ),
    ("Other hospitals and other devices: all images are from one hospital."),
    ("Subgroups: the set names neither sex, age nor severity of any child, so nothing was measured by subgroup."),
    (
        "Whether a patient is of the age it was made for: the check of likeness does not tell an adult's "
        "chest from a child's. The limits of age do."
    ),
)


def calibrate(model: PneumoniaNetwork, part: Part) -> tuple[float, float]:
    """Fit slope and offset of the logit (Platt 1999), and put them into the last layer.

    Parameters
    ----------
    model
        In evaluation mode; changed in place.
    part
        Images that the network was not trained on.

    Returns
    -------
    slope, offset
        By which the logits were changed.
    """
    logits = torch.from_numpy(network_outputs(model, part.images)[2])
    truth = torch.from_numpy(part.labels.astype(np.float64))
    fitted = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([fitted], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(fitted[0] * logits + fitted[1], truth)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    slope, offset = (float(value) for value in fitted.detach())
    with torch.no_grad():
        model.temperature.div_(slope)
        model.last.bias.add_(offset * model.temperature)
    return slope, offset


def network_outputs(model: PneumoniaNetwork, images: Images) -> tuple[Values, Values, Values]:
    """Return what the network is given (n, 784), its pooled features (n, 64) and its logits (n,).

    Parameters
    ----------
    model
        In evaluation mode.
    images
        (n, 28, 28) in [0, 1].
    """
    with torch.inference_mode():
        inputs = standardise(torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))[:, None])
        evidence = model.features(inputs)
        found = inputs.flatten(1), evidence.mean(dim=(2, 3)), model.head(evidence)
        given, pooled, logits = (one.numpy().astype(np.float64) for one in found)
        return given, pooled, logits


def fit_likeness(model: PneumoniaNetwork, split: Split) -> Likeness:
    """Summarise the images of the first part, and choose the bounds on the second.

    Parameters
    ----------
    model
        In evaluation mode.
    split
        The data.
    """
    images, features, _ = network_outputs(model, split.train.images)
    others, of_others, _ = network_outputs(model, split.validation.images)
    return summarise(images, features).bounded(others, of_others, declined=DECLINED)


def choose_threshold(model: PneumoniaNetwork, part: Part) -> float:
    """Return the greatest threshold that has :data:`SENSITIVITY` on a part.

    Parameters
    ----------
    model
        Calibrated.
    part
        Images that the network was not trained on.
    """
    probabilities = as_probabilities(network_outputs(model, part.images)[2])
    found = threshold_for_sensitivity(part.labels, probabilities, at_least=SENSITIVITY)
    return math.floor(found * 1e4) / 1e4


def unlike_images(right: Images, *, seed: int) -> Mapping[str, Images]:
    """Return images that the model must decline, by what they are.

    Parameters
    ----------
    right
        (n, 28, 28) images of the right kind, from which some are made.
    seed
        Of the noise.
    """
    draw = np.random.default_rng(seed)
    count, side = 200, right.shape[-1]
    steps = np.linspace(0, 1, side)
    slopes = draw.normal(size=(count, 2, 1, 1))
    coarse = draw.random((count, side // 4, side // 4))
    found = {
        "noise, even": draw.random((count, side, side)),
        "noise, normal": draw.normal(0.5, 0.15, (count, side, side)),
        "noise in blocks of 4 x 4": np.kron(coarse, np.ones((1, 4, 4))),
        "a slope of grey": slopes[:, 0] * steps[None, :, None] + slopes[:, 1] * steps[None, None, :],
        "the right images inverted, as by a wrong MONOCHROME1": 1 - right,
        "the right images upside down": right[:, ::-1],
        "the right images turned by a quarter": np.rot90(right, axes=(1, 2)),
    }
    return {name: images.astype(np.float32) for name, images in found.items()}


def evaluate(
    model: PneumoniaNetwork,
    likeness: Likeness,
    split: Split,
    threshold: float,
    others: Mapping[str, Images],
    *,
    seed: int,
) -> BinaryEvaluation:
    """Measure everything that the card reports on the third part.

    Parameters
    ----------
    model
        Calibrated.
    likeness
        With its bounds.
    split
        The data; the baseline is trained on it too.
    threshold
        Probability from which a finding is positive.
    others
        Further images that the model was not made for, by what they are.
    seed
        For the intervals and the noise.
    """
    labels, baseline = split.test.labels, fit_logistic(split)
    given, pooled, logits = network_outputs(model, split.test.images)
    probabilities = as_probabilities(logits)

    def share(what: str, images: Images) -> DeclinedShare:
        seen, features, _ = network_outputs(model, images)
        return DeclinedShare(
            what=what, declined=int((~(likeness.unlikeness(seen, features) <= 1)).sum()), of=len(images)
        )

    def gain(truth: Labels, scores: Values) -> float:
        return auroc(truth, scores[:, 0]) - auroc(truth, scores[:, 1])

    unlike = {**unlike_images(split.test.images, seed=seed), **others}
    return BinaryEvaluation(
        data=DATA,
        split=f"{len(split.train.labels)} images to train, {len(split.validation.labels)} for calibration, threshold "
        f"and the bounds of likeness, and {labels.size} that took part in nothing, drawn at random within each class "
        "with a fixed seed, identical images kept once. The set names no patients.",
        cases=labels.size,
        positives=int(labels.sum()),
        auroc=bootstrap(auroc, labels, logits, seed=seed),
        baseline="logistic regression on pixels",
        baseline_auroc=bootstrap(auroc, labels, baseline, seed=seed),
        difference=bootstrap(gain, labels, np.stack([logits, baseline], axis=1), seed=seed),
        threshold=threshold,
        sensitivity=proportion(probabilities[labels] >= threshold),
        specificity=proportion(probabilities[~labels] < threshold),
        brier=bootstrap(brier, labels, probabilities, seed=seed),
        calibration_error=bootstrap(calibration_error, labels, probabilities, seed=seed),
        reliability=reliability(labels, probabilities),
        calibration="Slope and offset of the logit (Platt 1999), fitted on the second part; the threshold is the "
        f"greatest that has a sensitivity of {SENSITIVITY:.2f} there.",
        right_declined=DeclinedShare(
            what="the right images", declined=int((~(likeness.unlikeness(given, pooled) <= 1)).sum()), of=labels.size
        ),
        declined=tuple(share(what, images) for what, images in unlike.items()),
        unknown=UNKNOWN,
    )


def as_probabilities(logits: Values) -> Values:
    """Return the probability of each logit."""
    probabilities: Values = 1 / (1 + np.exp(-logits))
    return probabilities


def write(out: Path, model: PneumoniaNetwork, likeness: Likeness, found: BinaryEvaluation) -> None:
    """Write weights, summary, threshold, card and golden answers, and seal the folder.

    Parameters
    ----------
    out
        The model's own folder, or another, which becomes a copy of it.
    model
        Calibrated.
    likeness
        With its bounds.
    found
        What was measured.

    Raises
    ------
    Problem
        ``conflict`` when ``out`` holds golden answers that these weights do not give.
    """
    home = Path(__file__).parent
    if out.resolve() != home:
        shutil.copytree(home, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (out / WEIGHTS).write_bytes(save(model.state_dict()))
    (out / FILE).write_bytes(likeness.to_bytes())
    declared = (out / MANIFEST).read_text(encoding="utf-8")
    (out / MANIFEST).write_text(_THRESHOLD.sub(rf"\g<1>{found.threshold}", declared), encoding="utf-8")
    finalize_folder(out, evaluation_sections(found), package=PACKAGE)
