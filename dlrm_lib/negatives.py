"""Training on all clicks and a share of the other rows: which of them stay, and what that does to a probability.

Clicks are rare, and most of the other rows tell a model what it has learned already: fewer of them cost little and
save their time. Among the rows that stay clicks are more frequent than among all, by a factor that is known: each odds
p / (1 - p) is 1 / rate times as large. So whatever a model has learned from them is multiplied by the rate again when
it is asked: logit(q) = logit(p) + log(rate). The order of the scores, and so the AUC, stays.

Source: He et al. 2014, "Practical Lessons from Predicting Clicks on Ads at Facebook", section 6.3.
"""

from __future__ import annotations

import math

import numpy as np

from dlrm_lib.splitmix64 import mix


def stays(label: np.ndarray, number: np.ndarray, rate: float) -> np.ndarray:
    """Which rows stay: all clicks, and of the others those whose draw is below the rate, whatever rows are beside them.

    Args:
        label: bool [rows].
        number: uint64 [rows]: what ``splitmix64`` gave each row. Rows are shuffled by it, so it is mixed once more:
            else those that stay would be the first of that order.
        rate: Share of the rows without a click that stays on average, from 0 (not included) to 1.

    Returns:
        bool [rows].
    """
    if rate >= 1:
        return np.ones(len(label), bool)
    return label | (mix(number.copy()) < np.uint64(int(rate * 2**64)))


def logit_shift(rate: float) -> float:
    """What is added to a logit that was learned from such rows, so that it holds among all rows."""
    return math.log(rate)


def among_all(probability: np.ndarray, rate: float) -> np.ndarray:
    """Probabilities learned from such rows, float64 of any shape → those among all rows: p / (p + (1 - p) / rate)."""
    return probability if rate == 1 else probability / (probability + (1 - probability) / rate)
