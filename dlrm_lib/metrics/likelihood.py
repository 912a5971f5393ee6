"""How likely a model finds what happened: log loss, from probabilities or from logits, and what it is measured by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_EPSILON = np.finfo(np.float64).eps
LARGEST_LOSS = -math.log(_EPSILON)  # nats of one row, 36.04
_ROWS = 1 << 16  # per block: what is computed on the way then stays in the processor's cache


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative log likelihood in nats.

    Args:
        labels: bool or 0/1 [rows], at least one row.
        probabilities: of a click [rows]. Exactly 0 and 1 are moved inwards by float64's epsilon (2.2e-16), so that one
            wrong certainty costs 36 nats rather than infinity.

    Raises:
        ValueError: no rows, the lengths differ, or a probability is not in [0, 1].
    """
    clicked, p = np.asarray(labels).astype(bool), np.asarray(probabilities, np.float64)
    if clicked.shape != p.shape or clicked.ndim != 1 or not len(p):
        raise ValueError(f"labels {clicked.shape} and probabilities {p.shape} must be two vectors of one length, not 0")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("a probability is outside [0, 1]")
    return float(-np.log(np.clip(np.where(clicked, p, 1 - p), _EPSILON, 1)).mean())


def entropy(rate: float) -> float:
    """Log loss in nats of always predicting the rate of clicks itself; 0 for a rate of 0 or 1."""
    return sum(-p * math.log(p) for p in (rate, 1 - rate) if p > 0)


def normalised_entropy(loss: float, rate: float) -> float | None:
    """Log loss in units of ``entropy(rate)``: below 1 the model knows more than the click rate (He et al. 2014).

    Unlike a log loss it can be compared between data of different click rates. None if there is one class only.
    """
    base = entropy(rate)
    return loss / base if base else None


class NotANumber(ValueError):
    """A score is not a number, so that neither a loss nor a rank can be had of it.

    Attributes:
        row: The first such, counted from 0 over all rows given.
    """

    def __init__(self, row: int) -> None:
        super().__init__(f"the loss is undefined: the logit of row {row:,} is not a number")
        self.row = row


@dataclass
class LogitTotals:
    """Sums over a stream of logits, in float64.

    Attributes:
        rows: Rows so far.
        clicks: Clicks among them.
        loss: Sum of negative log likelihoods in nats, each at most 36, as ``log_loss`` promises.
        probability: Sum of click probabilities.
    """

    rows: int = 0
    clicks: int = 0
    loss: float = 0.0
    probability: float = 0.0

    def update(self, labels: np.ndarray, logits: np.ndarray) -> None:
        """Adds rows: labels bool or 0/1 [rows], logits real numbers [rows], infinities allowed.

        Raises:
            NotANumber: a logit is not a number.
            ValueError: the lengths differ.
        """
        clicked, logits = np.asarray(labels).astype(bool, copy=False), np.asarray(logits)
        if clicked.shape != logits.shape or clicked.ndim != 1:
            raise ValueError(f"labels {clicked.shape} and logits {logits.shape} must be two vectors of one length")
        missing = np.isnan(logits)
        if missing.any():
            raise NotANumber(self.rows + int(missing.argmax()))
        self.rows += len(logits)
        self.clicks += int(np.count_nonzero(clicked))
        for first in range(0, len(logits), _ROWS):
            z, y = logits[first : first + _ROWS].astype(np.float64), clicked[first : first + _ROWS]
            # log(1 + exp(wrong)), where wrong is the logit of what did not happen: without overflow, and without the
            # digits lost where a probability is rounded to 1.
            small = np.exp(-np.abs(z))
            wrong = np.where(y, -z, z)
            losses = np.maximum(wrong, 0) + np.log1p(small)
            self.loss += float(np.minimum(losses, LARGEST_LOSS).sum())
            self.probability += float((np.where(z < 0, small, 1) / (1 + small)).sum())
