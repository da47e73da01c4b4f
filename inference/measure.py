"""Performance measures of a binary model on a held-out part of the data.

Discrimination: area under the ROC curve as the Mann-Whitney statistic (Hanley and McNeil 1982), sensitivity and
specificity at a threshold. Calibration: Brier score (1950) and the expected calibration error over equal-width bins
(Naeini et al. 2015). Intervals are percentile bootstrap intervals over the images (Efron 1979).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Labels = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measured value and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def auroc(labels: Labels, scores: Values) -> float:
    """Probability that a positive scores above a negative, ties counted half.

    Parameters
    ----------
    labels
        (n,) true where the finding is present; both classes must occur.
    scores
        (n,) higher is more likely positive.
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse]
    positives = int(labels.sum())
    negatives = labels.size - positives
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def sensitivity(labels: Labels, called: Labels) -> float:
    """Share of the positives that were called positive.

    Parameters
    ----------
    labels
        (n,) true where the finding is present; at least one must be.
    called
        (n,) true where the model called the case positive.
    """
    return float(called[labels].mean())


def specificity(labels: Labels, called: Labels) -> float:
    """Share of the negatives that were called negative.

    Parameters
    ----------
    labels
        (n,) true where the finding is present; at least one must not be.
    called
        (n,) true where the model called the case positive.
    """
    return float((~called[~labels]).mean())


def brier(labels: Labels, probabilities: Values) -> float:
    """Mean squared distance between probability and label; 0 is perfect.

    Parameters
    ----------
    labels
        (n,) true where the finding is present.
    probabilities
        (n,) predicted probability of the finding, in [0, 1].
    """
    return float(np.mean((probabilities - labels) ** 2))


def calibration_error(labels: Labels, probabilities: Values, *, bins: int = 10) -> float:
    """Mean distance between predicted and observed frequency, over equal-width bins weighted by their size.

    Parameters
    ----------
    labels
        (n,) true where the finding is present.
    probabilities
        (n,) predicted probability of the finding, in [0, 1].
    bins
        Number of bins of equal width that divide [0, 1].
    """
    found = reliability(labels, probabilities, bins=bins)
    return float(sum(one.cases * abs(one.predicted - one.observed) for one in found) / labels.size)


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Cases whose probability lies in one interval."""

    low: float
    high: float
    cases: int
    #: Mean probability, and share of the cases that are positive.
    predicted: float
    observed: float


def reliability(labels: Labels, probabilities: Values, *, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Return predicted and observed frequency by bins of equal width; empty bins are left out.

    Parameters
    ----------
    labels
        (n,) true where the finding is present.
    probabilities
        (n,) predicted probability of the finding, in [0, 1].
    bins
        Number of bins that divide [0, 1].
    """
    place = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    return tuple(
        ReliabilityBin(
            low=number / bins,
            high=(number + 1) / bins,
            cases=int((place == number).sum()),
            predicted=float(probabilities[place == number].mean()),
            observed=float(labels[place == number].mean()),
        )
        for number in range(bins)
        if (place == number).any()
    )


def threshold_for_sensitivity(labels: Labels, probabilities: Values, *, at_least: float) -> float:
    """Return the greatest threshold at which a share of the positives is called positive.

    Parameters
    ----------
    labels
        (n,) true where the finding is present; at least one must be.
    probabilities
        (n,) predicted probability of the finding, in [0, 1].
    at_least
        The least sensitivity, in (0, 1].
    """
    positive = np.sort(probabilities[labels])[::-1]
    return float(positive[int(np.ceil(at_least * positive.size)) - 1])


def proportion(called: Labels) -> Estimate:
    """Measure a share with its 95 % interval (Wilson 1927), which has a width even where all cases agree.

    Parameters
    ----------
    called
        (n,) of the cases that count, true where the share counts them.
    """
    count, share, z = called.size, float(called.mean()), 1.959964
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * float(np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)))
    return Estimate(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half))


def bootstrap(
    statistic: Callable[[Labels, Values], float], labels: Labels, scores: Values, *, seed: int, rounds: int = 2000
) -> Estimate:
    """Measure a statistic with its 95 % percentile interval; each class is resampled within itself.

    Parameters
    ----------
    statistic
        Function of labels and scores, such as :func:`auroc`.
    labels
        (n,) true where the finding is present; both classes must occur.
    scores
        (n,) what ``statistic`` takes as its second argument.
    seed
        Seed of the random generator: the same seed gives the same interval.
    rounds
        Number of resamples.
    """
    draw = np.random.default_rng(seed)
    positive, negative = np.flatnonzero(labels), np.flatnonzero(~labels)
    values = np.empty(rounds)
    for number in range(rounds):
        chosen = np.concatenate([draw.choice(positive, positive.size), draw.choice(negative, negative.size)])
        values[number] = statistic(labels[chosen], scores[chosen])
    low, high = np.quantile(values, [0.025, 0.975])
    return Estimate(value=statistic(labels, scores), low=float(low), high=float(high))
