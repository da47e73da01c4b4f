"""The network and the preparation of its input image.

A residual network (He et al. 2016) of MONAI blocks, small enough to train on two processor cores in minutes. It is
trained on images of 28 x 28 pixels (MedMNIST v2: centre-cropped to a square, then reduced), so every image is cropped
and reduced in the same way first.
"""

import torch
from monai.networks.blocks import Convolution, ResidualUnit
from torch import Tensor, nn
from torch.nn import functional

from inference.contract import Pixels

SIDE = 28
"""Rows and columns of the network's input."""

FLATTEST = 1e-3
"""Least standard deviation used to standardise, so that a flat image does not become noise."""


class PneumoniaNetwork(nn.Module):
    """Image (n, 1, 28, 28), standardised, to the calibrated logit of pneumonia (n,).

    ``features`` and ``head`` are separate functions because the heat map needs the 7 x 7 map between them.
    ``temperature`` divides the logit (Guo et al. 2017); it is a buffer, so it is stored with the weights.
    """

    temperature: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            Convolution(2, 1, 16, kernel_size=3, norm="BATCH", act="RELU"),
            ResidualUnit(2, 16, 32, strides=2, subunits=2, norm="BATCH", act="RELU"),
            ResidualUnit(2, 32, 64, strides=2, subunits=2, norm="BATCH", act="RELU"),
            ResidualUnit(2, 64, 64, strides=1, subunits=2, norm="BATCH", act="RELU"),
        )
        self.dropout = nn.Dropout(0.2)
        self.last = nn.Linear(64, 1)
        self.register_buffer("temperature", torch.ones(()))

    def features(self, images: Tensor) -> Tensor:
        """Map images (n, 1, 28, 28) to evidence (n, 64, 7, 7)."""
        evidence: Tensor = self.body(images)
        return evidence

    def head(self, evidence: Tensor) -> Tensor:
        """Map evidence (n, 64, 7, 7) to one logit per image (n,)."""
        pooled = self.dropout(evidence.mean(dim=(2, 3)))
        logits: Tensor = self.last(pooled).squeeze(1) / self.temperature
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, 1, 28, 28) to logits (n,)."""
        return self.head(self.features(images))


def network() -> PneumoniaNetwork:
    """Return the network before its weights are loaded."""
    return PneumoniaNetwork()


def standardise(images: Tensor) -> Tensor:
    """Give each image (n, 1, rows, columns) mean 0 and standard deviation 1: the display window has no effect then."""
    spread = images.std(dim=(2, 3), keepdim=True).clamp_min(FLATTEST)
    return (images - images.mean(dim=(2, 3), keepdim=True)) / spread


def crop(rows: int, columns: int) -> tuple[slice, slice]:
    """Return the central square of an image, the part that the network uses.

    Parameters
    ----------
    rows, columns
        Size of the image in pixels.
    """
    side = min(rows, columns)
    top, left = (rows - side) // 2, (columns - side) // 2
    return slice(top, top + side), slice(left, left + side)


def prepare(pixels: Pixels) -> Tensor:
    """Turn an image (rows, columns) in [0, 1] into the network's input (1, 28, 28).

    Each pixel of the small image is the mean of the area that it covers, so that no part of the large image is skipped.
    """
    image = torch.from_numpy(pixels)[crop(*pixels.shape)]
    small = functional.interpolate(image[None, None], size=(SIDE, SIDE), mode="area")
    return standardise(small)[0]
