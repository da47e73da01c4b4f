"""The figures of the chest network's card, measured again: ``python -m benchmarks.cxr_evidence DATA [--write]``.

DATA is a folder with ``pneumonia-cxr/pneumonia_cxr_dev.npz`` and, where present, ``adrenal-3d``, ``cxr-samples`` and
``deid/dicom``. Without ``--write`` nothing is changed. With it the network of the model's folder is calibrated again,
its threshold and bounds are chosen again, and the folder is written; the network itself stays as it is.
"""

import argparse
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydicom import dcmread
from safetensors.torch import load as load_tensors

from inference.card import BinaryEvaluation, evaluation_sections
from inference.folder import MANIFEST, WEIGHTS, bundled_folder, open_folder
from inference.likeness import FILE, read_likeness
from inference.models.cxr_pneumonia.data import load
from inference.models.cxr_pneumonia.evidence import evaluate
from inference.models.cxr_pneumonia.model import SIDE, crop, network
from inference.models.cxr_pneumonia.train import settle

SEED: Final = 2026
SET: Final = Path("pneumonia-cxr") / "pneumonia_cxr_dev.npz"
_OTHERS: Final = "CT, ultrasound and other pictures that are no chest radiograph"

Images = NDArray[np.float32]


def measure(data: Path) -> BinaryEvaluation:
    """Measure the model's folder as it is.

    Parameters
    ----------
    data
        The folder of data.
    """
    folder = open_folder(bundled_folder("cxr-pneumonia"))
    model = network()
    model.load_state_dict(load_tensors(folder.files[WEIGHTS]))
    (output,) = folder.manifest.outputs
    threshold = output.bands[-1].at_least
    assert threshold is not None, f"{MANIFEST} declares no threshold"
    return evaluate(
        model.eval(),
        read_likeness(folder.files[FILE]),
        load(data / SET, seed=SEED),
        float(threshold),
        other_images(data),
        seed=SEED,
    )


def write(data: Path) -> BinaryEvaluation:
    """Calibrate the network of the model's folder again, measure it, and write the folder.

    Parameters
    ----------
    data
        The folder of data.
    """
    path = bundled_folder("cxr-pneumonia")
    model = network()
    model.load_state_dict(load_tensors((path / WEIGHTS).read_bytes()))
    return settle(model.eval(), load(data / SET, seed=SEED), path, others=other_images(data), seed=SEED)


def other_images(data: Path) -> Mapping[str, Images]:
    """Return the images of the data folder that show something else, by what they are; none where they are absent."""
    found = {
        "middle slices of masks of adrenal glands, from CT": list(_adrenal(data / "adrenal-3d" / "adrenal.npz")),
        _OTHERS: list(_pictures(data / "deid" / "dicom")),
    }
    return {what: np.stack(images) for what, images in found.items() if images}


def _adrenal(path: Path) -> Iterator[Images]:
    if path.exists():
        with np.load(path, allow_pickle=False) as arrays:
            for volume in arrays["val_images"]:
                yield _reduced(volume[len(volume) // 2].astype(np.float32))


def _pictures(folder: Path) -> Iterator[Images]:
    """Read every picture that can be decoded and does not state a chest; colours become grey."""
    for path in sorted(folder.glob("*.dcm")):
        dataset = dcmread(BytesIO(path.read_bytes()))
        if dataset.get("BodyPartExamined") == "CHEST":
            continue
        try:
            pixels = dataset.pixel_array.astype(np.float32)
        except (AttributeError, RuntimeError, ValueError):
            continue
        yield _reduced(pixels.mean(axis=-1) if pixels.ndim == 3 else pixels)


def _reduced(pixels: Images) -> Images:
    """Return the image as the network is given it, before it is standardised."""
    image = torch.from_numpy(np.ascontiguousarray(pixels[crop(*pixels.shape)]))
    small = torch.nn.functional.interpolate(image[None, None], size=(SIDE, SIDE), mode="area")[0, 0]
    span = float(small.max() - small.min()) or 1.0
    reduced: Images = ((small - small.min()) / span).numpy()
    return reduced


def main() -> None:
    """Print the sections of the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", action="store_true", help="calibrate again and write the model's folder")
    given = parser.parse_args()
    if not (given.data / SET).exists():
        print(f"skipped: {SET} is not in the folder given")
        return
    found = (write if given.write else measure)(given.data)
    for heading, text in evaluation_sections(found).items():
        print(f"## {heading}\n\n{text}\n")


if __name__ == "__main__":
    main()
