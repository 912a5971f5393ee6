"""Whether two ways to train are worth the same, judged by runs that are paired by their seed.

That a difference is not significant does not show that there is none: too few seeds never find one. Equivalence is
shown the other way round, by two one-sided tests: the difference is significantly above ``-bound`` and significantly
below ``bound`` (Schuirmann 1987, https://doi.org/10.1007/BF01068419).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# What counts as no difference between test AUCs wherever two ways to train are compared.
AUC_BOUND = 0.001


class Interval(NamedTuple):
    """A mean and the bounds that hold it with some confidence, if what it is the mean of is normal."""

    mean: float
    low: float
    high: float

    def within(self, bound: float) -> bool:
        """Whether all of it lies between ``-bound`` and ``bound``."""
        return -bound <= self.low and self.high <= bound


class Equivalence(NamedTuple):
    """The outcome of two one-sided tests.

    Attributes:
        difference: The mean of the paired differences.
        low: Lower end of the interval that the tests look at: with ``level`` 0.05 it is that of 90 % confidence.
        high: Its upper end.
        bound: What counts as no difference.
        p: The larger p-value of the two tests.
        equivalent: Whether both tests succeed, which is to say that the interval lies within the bound.
    """

    difference: float
    low: float
    high: float
    bound: float
    p: float
    equivalent: bool


def paired(first: Sequence[float], second: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """The mean of ``first - second``, pair by pair, with its two-sided interval: two pairs or more."""
    mean, error = _mean_and_error(first, second)
    half = t_critical((1 - confidence) / 2, len(first) - 1) * error
    return Interval(mean, mean - half, mean + half)


def equivalence(first: Sequence[float], second: Sequence[float], *, bound: float, level: float = 0.05) -> Equivalence:
    """Two one-sided t-tests of ``first - second``, pair by pair, against a bound that was chosen beforehand.

    Args:
        first: One way's results, two or more.
        second: The other's, in the order of the same seeds.
        bound: The largest difference that counts as none.
        level: Chance of calling different ways equivalent.
    """
    mean, error = _mean_and_error(first, second)
    interval = paired(first, second, confidence=1 - 2 * level)
    room = bound - abs(mean)  # the test against the nearer bound has the larger p
    p = t_tail(room / error, len(first) - 1) if error else float(room < 0)
    return Equivalence(mean, interval.low, interval.high, bound, p, p < level)


def distance(first: Sequence[float], second: Sequence[float]) -> float:
    """The largest gap between two samples' distribution functions, 0 to 1 (Kolmogorov and Smirnov)."""
    values = np.concatenate([first, second])
    below = (np.searchsorted(np.sort(sample), values, "right") / len(sample) for sample in (first, second))
    return float(np.abs(np.subtract(*below)).max())


def t_tail(t: float, freedom: int) -> float:
    """The chance that Student's t with so many degrees of freedom is above ``t``, exact to about 1e-12 of itself."""
    # With t = sqrt(freedom) / tan(angle) the density becomes a power of the sine. The nodes of Gauss and Legendre are
    # so many that it is smooth between them; integrating the tail itself keeps all digits of small chances.
    angle = math.atan2(math.sqrt(freedom), t)
    nodes, weights = np.polynomial.legendre.leggauss(100)
    integral = angle / 2 * np.sum(weights * np.sin(angle / 2 * (nodes + 1)) ** (freedom - 1))
    whole = math.sqrt(math.pi) * math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2))
    return float(integral / whole)


def t_critical(tail: float, freedom: int) -> float:
    """What Student's t exceeds with the chance ``tail``, which is below a half."""
    low, high = 0.0, 1.0
    while t_tail(high, freedom) > tail:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if t_tail(middle, freedom) > tail else (low, middle)
    return middle


def _mean_and_error(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Of the differences: their mean, and its standard error."""
    differences = [a - b for a, b in zip(first, second, strict=True)]
    return statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences))
