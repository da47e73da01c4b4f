"""Pictures for people: the image as the model saw it, and where its evidence lies."""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.artefacts import as_bytes
from inference.colour import overlay

LONGEST_SIDE: Final = 1024
"""Pixels; a larger picture is reduced for the console, never for the model."""


def as_png(pixels: NDArray[np.float32]) -> bytes:
    """Write an image as PNG.

    Parameters
    ----------
    pixels
        (rows, columns) in [0, 1].

    Returns
    -------
    bytes
        8-bit grey PNG, at most :data:`LONGEST_SIDE` pixels a side.
    """
    return _png(Image.fromarray(as_bytes(pixels)))


def overlay_png(pixels: NDArray[np.float32], heat_map: NDArray[np.float32]) -> bytes:
    """Lay a heat map over an image, in the colours of :func:`inference.colour.overlay`.

    Parameters
    ----------
    pixels, heat_map
        (rows, columns) in [0, 1], of equal shape.

    Returns
    -------
    bytes
        RGB PNG.

    Raises
    ------
    ValueError
        When the shapes differ.
    """
    return _png(Image.fromarray(overlay(pixels, heat_map)))


def mask_png(values: NDArray[np.uint8]) -> bytes:
    """Draw a mask: black where nothing is segmented, the segments in shades up to white.

    Parameters
    ----------
    values
        (rows, columns) or (slices, rows, columns); of a volume the slice with the greatest segmented part is drawn.

    Returns
    -------
    bytes
        8-bit grey PNG.
    """
    if values.ndim == 3:
        values = values[int(np.argmax(np.count_nonzero(values, axis=(1, 2))))]
    shades = values / np.float32(max(1, int(values.max(initial=0))))
    return _png(Image.fromarray(as_bytes(shades)))


def _png(image: Image.Image) -> bytes:
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
