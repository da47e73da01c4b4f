"""A drawn chest of a child for demonstrations and tests; it shows no real person.

The proportions are fitted so that the bundled network takes the drawing for an image of its kind.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_SWAY: Final = 0.02
_NOISE: Final = 0.012


def draw_chest(rows: int, columns: int, *, seed: int, consolidation: bool = False) -> NDArray[np.float64]:
    """Draw a chest as (rows, columns) in [0, 1], bright = dense, filling the central square.

    Parameters
    ----------
    rows, columns
        Size of the image, in pixels.
    seed
        Of the variation between two drawings.
    consolidation
        Shade one lung as a consolidation would.
    """
    random = np.random.default_rng(seed)
    side = min(rows, columns)
    down: NDArray[np.float64] = 0.5 + (np.arange(rows, dtype=np.float64)[:, None] - (rows - 1) / 2) / side
    across: NDArray[np.float64] = (np.arange(columns, dtype=np.float64)[None, :] - (columns - 1) / 2) / (side / 2)
    sway = random.normal(0.0, _SWAY, 6)
    body = _ellipse(down, across, (0.57 + sway[0], 0.0), (0.6, 0.95), 20.0)
    density = 0.08 + 0.68 * body
    for right_or_left in (-1.0, 1.0):
        density -= 0.26 * _ellipse(down, across, (0.57 + sway[1], right_or_left * (0.41 + sway[2])), (0.3, 0.24), 22.0)
    ribs = 0.5 + 0.5 * np.cos(2 * np.pi * (down * 11 + 1.6 * across**2 + sway[3]))
    density += 0.06 * ribs**4 * body
    density += 0.18 * np.exp(-((across / 0.061) ** 2)) * body  # spine
    density += 0.36 * _ellipse(down, across, (0.59, 0.14 + sway[4]), (0.17, 0.27), 8.5)  # heart
    density += 0.37 * _ellipse(down, across, (1.0, 0.0), (0.25 + sway[5] / 2, 1.1), 28.0)  # upper abdomen
    if consolidation:
        density += 0.25 * _ellipse(down, across, (0.54, -0.45), (0.12, 0.19), 18.0)
    density += random.normal(0.0, _NOISE, density.shape)
    return np.clip(density, 0.0, 1.0)


def _ellipse(
    down: NDArray[np.float64],
    across: NDArray[np.float64],
    centre: tuple[float, float],
    radii: tuple[float, float],
    sharpness: float,
) -> NDArray[np.float64]:
    """Return a soft-edged ellipse: 1 inside, 0 outside."""
    distance = np.hypot((down - centre[0]) / radii[0], (across - centre[1]) / radii[1])
    return np.asarray(1.0 / (1.0 + np.exp(np.clip((distance - 1.0) * sharpness, -50, 50))))
