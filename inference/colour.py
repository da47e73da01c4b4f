"""The colours of a heat map: the same in the console and in the PACS."""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inference.contract import Pixels

RGB: TypeAlias = NDArray[np.uint8]
"""(rows, columns, 3)."""

STRONGEST_COLOUR: Final = 0.6
"""Share of colour where the evidence is strongest: the image stays readable under it."""


def overlay(image: Pixels, heat_map: Pixels) -> RGB:
    """Lay a heat map over a grey image: transparent where it is 0, through red to yellow where it is 1.

    Parameters
    ----------
    image, heat_map
        Both (rows, columns) in [0, 1].

    Returns
    -------
    RGB
        (rows, columns, 3), 8 bits.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    if image.shape != heat_map.shape:
        msg = "the heat map must have the image's shape"
        raise ValueError(msg)
    warmth = np.clip(heat_map, 0.0, 1.0)[..., None]
    colour = np.concatenate([np.ones_like(warmth), np.clip(2 * warmth - 1, 0, 1), np.zeros_like(warmth)], axis=-1)
    share = STRONGEST_COLOUR * warmth
    blended = image[..., None] * (1 - share) + colour * share
    return np.asarray(np.round(np.clip(blended, 0.0, 1.0) * 255), dtype=np.uint8)
