"""Heat maps of the evidence in an image: Grad-CAM (Selvaraju et al. 2017)."""

from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from inference.contract import Pixels


def grad_cam(evidence: Tensor, gradients: Tensor) -> Tensor:
    """Weight each channel of the evidence by its mean gradient, and keep the positive part.

    Parameters
    ----------
    evidence, gradients
        (n, channels, h, w): a layer's output, and the gradient of the finding's logit with respect to it.

    Returns
    -------
    Tensor
        (n, h, w), each map's own greatest value 1, or all 0 where no value is positive.
    """
    maps = torch.relu((gradients.mean(dim=(2, 3), keepdim=True) * evidence).sum(dim=1))
    greatest = maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(greatest > 0, maps / greatest.clamp_min(torch.finfo(maps.dtype).tiny), torch.zeros_like(maps))


def enlarge(small: Pixels, rows: int, columns: int) -> Pixels:
    """Stretch a map (h, w) over an image of (rows, columns), by bilinear interpolation; values stay in [0, 1].

    Parameters
    ----------
    small
        (h, w), float32 in [0, 1].
    rows, columns
        Size of the image, in pixels.
    """
    image = torch.from_numpy(small)[None, None]
    large = functional.interpolate(image, size=(rows, columns), mode="bilinear", align_corners=False)
    return cast("Pixels", large[0, 0].clamp(0, 1).numpy().astype(np.float32))
