"""Whether two ways to train are worth the same: the interval of the mean of paired differences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

# Student's t, two-sided 95 %, by degrees of freedom from 1 on.
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)


class Interval(NamedTuple):
    """A mean and the bounds that hold it with 95 % confidence, if what it is the mean of is normal."""

    mean: float
    low: float
    high: float

    def within(self, bound: float) -> bool:
        """Whether all of it lies between ``-bound`` and ``bound``."""
        return -bound <= self.low and self.high <= bound


def paired(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Of ``first - second``, pair by pair: 2 to 21 pairs."""
    differences = [a - b for a, b in zip(first, second, strict=True)]
    mean = statistics.fmean(differences)
    half = _T95[len(differences) - 2] * statistics.stdev(differences) / math.sqrt(len(differences))
    return Interval(mean, mean - half, mean + half)
