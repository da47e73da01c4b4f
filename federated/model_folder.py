"""Writes the result of a federation as a model folder for the registry: manifest, weights, card and golden cases."""

import math
import shutil
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import save_file

from federated import task
from federated.simulate import SimulationResult
from inference.digest import seal, write_files
from inference.folder import CARD, MANIFEST, WEIGHTS, open_folder
from inference.golden import settle_golden
from inference.loading import load_model
from inference.runners import runner_class

NAME: Final = "heart-disease-federated"

_TEMPLATE: Final = Path(__file__).parent / "model"
_VERSION_LINE: Final = "version: 1.0.0\n"


def write_model(result: SimulationResult, folder: Path, *, version: str = "1.0.0") -> str:
    """Write the model folder and load it as a check.

    Parameters
    ----------
    result
        The trained parameters and the reports.
    folder
        Where to write; must not exist.
    version
        The version to register it as; other weights need another version.

    Returns
    -------
    str
        Digest of the folder.

    Raises
    ------
    Problem
        ``incorrect`` when the folder does not load, which would be an error of this function.
    """
    shutil.copytree(_TEMPLATE, folder)
    manifest = (folder / MANIFEST).read_text(encoding="utf-8")
    (folder / MANIFEST).write_text(manifest.replace(_VERSION_LINE, f"version: {version}\n", 1), encoding="utf-8")
    tensors = {**result.parameters, "mean": result.scaling.mean, "scale": result.scaling.scale}
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, folder / WEIGHTS)
    (folder / CARD).write_text(card(result), encoding="utf-8")
    seal(folder)
    opened = open_folder(folder)
    runner = runner_class(opened.manifest.runner)(opened)
    runner.setup("cpu")
    write_files(folder, settle_golden(runner))
    digest = seal(folder)
    load_model(folder)
    return digest


def card(result: SimulationResult) -> str:
    """Return the model card, Markdown, made from the measured results."""
    last = result.last
    steps = result.descent.steps * last.round
    patients = sum(site.examples for site in last.sites)
    lines = [
        "# Coronary heart disease, learnt across four hospitals",
        "",
        "**A demonstration, not for clinical use.** Logistic regression on 13 inputs, trained by federated averaging",
        f"(Flower, weighted by patients) on {patients} patients: {last.round} rounds of {result.descent.steps} steps",
        f"of gradient descent, learning rate {result.descent.rate}, seed {result.seed}.",
        "Patients stayed at their hospitals; sums, parameters and counts travelled.",
        "",
        "Data: UCI heart disease (Janosi, Steinbrunn, Pfisterer, Detrano 1988), read as the FLamby benchmark does.",
        "A third of each hospital's patients, of either kind, was kept for testing.",
        "",
        "| hospital | trained on | tested on (with, without disease) | AUC (95 % interval) | own model's AUC |",
        "|---|---|---|---|---|",
    ]
    for site in last.sites:
        assert site.federated is not None
        tested = f"{site.federated.positives}, {site.federated.negatives}"
        measured = f"{_shown(site.federated)} | {_shown(site.alone)}"
        lines.append(f"| {site.site} | {site.examples} | {tested} | {measured} |")
    lines += [
        "",
        f"A hospital's own model: the same optimiser and {steps} steps, on its own patients and its own scaling.",
        f"With fewer than {task.FEWEST} test patients of either kind an AUC is not meaningful and is not given.",
        "Intervals after Hanley and McNeil (1982); one split, one seed: they do not cover the choice of the split.",
        "",
        f"SHA-256 of the parameters: `{last.digest}`.",
        "",
    ]
    return "\n".join(lines)


def interval(measured: task.Measured) -> tuple[float, float]:
    """Return the 95 % interval of an AUC by its standard error (Hanley and McNeil 1982, equation 1)."""
    assert measured.auc is not None
    area, positives, negatives = measured.auc, measured.positives, measured.negatives
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (first - area**2) + (negatives - 1) * (second - area**2)
    half = 1.96 * math.sqrt(max(spread, 0.0) / (positives * negatives))
    return max(0.0, area - half), min(1.0, area + half)


def _shown(measured: task.Measured) -> str:
    if measured.auc is None or not measured.meaningful:
        return f"not meaningful: {measured.negatives} without disease"
    low, high = interval(measured)
    return f"{measured.auc:.3f} ({low:.3f} to {high:.3f})"
