"""Whether an image is like those that a network was made from: distances to their summary, each with a bound.

Three distances: of the network's pooled features from their mean, in units of their spread (Mahalanobis distance with a
shrunk covariance); of the image within its main components, in units of their spread; and of the image from what the
main components can express. An image is as unlike as the greatest distance, each divided by its bound. The bounds are
chosen on images that the network was not trained on, so that a given share of them is declined.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

Rows = NDArray[np.float64]

FILE: Final = "likeness.safetensors"
REASON: Final = "the image is unlike those that the model was made from"


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """The summary of the images that a network was trained on."""

    #: (f,) mean of the network's pooled features, and (f, f) the inverse of their shrunk covariance.
    feature_mean: Rows
    precision: Rows
    #: (d,) mean image, (k, d) its main components, and (k,) the standard deviation along each.
    image_mean: Rows
    components: Rows
    spread: Rows
    #: (3,) greatest allowed distances.
    bounds: Rows

    def unlikeness(self, images: Rows, features: Rows) -> Rows:
        """Return how unlike each image is (n,): above 1 it must be declined.

        Parameters
        ----------
        images
            (n, d) what the network was given.
        features
            (n, f) its pooled features.
        """
        ratios: Rows = (self.distances(images, features) / self.bounds).max(axis=1)
        return ratios

    def distances(self, images: Rows, features: Rows) -> Rows:
        """Return the three distances of each image (n, 3).

        Parameters
        ----------
        images, features
            As for :meth:`unlikeness`.
        """
        apart = features - self.feature_mean
        centred = images - self.image_mean
        along = centred @ self.components.T
        rest = centred - along @ self.components
        return np.stack(
            [
                np.sqrt(np.einsum("ij,jk,ik->i", apart, self.precision, apart)),
                np.sqrt(((along / self.spread) ** 2).sum(axis=1)),
                np.sqrt((rest**2).mean(axis=1)),
            ],
            axis=1,
        )

    def bounded(self, images: Rows, features: Rows, *, declined: float) -> "Likeness":
        """Return the same with bounds that decline a share of the images given.

        Parameters
        ----------
        images, features
            As for :meth:`unlikeness`; of images that the network was not trained on.
        declined
            Share of them that is declined.
        """
        found = self.distances(images, features)
        each = np.quantile(found, 1 - declined, axis=0)
        together = float(np.quantile((found / each).max(axis=1), 1 - declined))
        return replace(self, bounds=each * together)

    def to_bytes(self) -> bytes:
        """Return it as a safetensors file."""
        return save({name: np.ascontiguousarray(values, dtype=np.float32) for name, values in vars(self).items()})


def read_likeness(content: bytes) -> Likeness:
    """Read what :meth:`Likeness.to_bytes` wrote."""
    return Likeness(**{name: values.astype(np.float64) for name, values in load(content).items()})


def summarise(images: Rows, features: Rows, *, components: int = 40, shrinkage: float = 0.05) -> Likeness:
    """Summarise the images that a network was trained on; the bounds are still without limit.

    Parameters
    ----------
    images
        (n, d) what the network was given.
    features
        (n, f) its pooled features.
    components
        How many main components of the images are kept.
    shrinkage
        Share of the mean variance in the covariance of the features (Ledoit and Wolf 2004).
    """
    covariance = np.cov(features.T)
    size = len(covariance)
    shrunk = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / size * np.eye(size)
    mean = images.mean(axis=0)
    _, singular, directions = np.linalg.svd(images - mean, full_matrices=False)
    return Likeness(
        feature_mean=features.mean(axis=0),
        precision=np.linalg.inv(shrunk),
        image_mean=mean,
        components=directions[:components],
        spread=singular[:components] / np.sqrt(len(images)),
        bounds=np.full(3, np.inf),
    )
