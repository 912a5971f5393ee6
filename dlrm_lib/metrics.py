"""The two numbers a click model is judged by: exact AUC and log loss."""

from __future__ import annotations

import numpy as np


def auc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """The probability that a random click is scored above a random non-click, ties counted half: exact, no histogram.

    Args:
        labels: bool or 0/1 [rows].
        scores: real numbers [rows]; any increasing function of them gives the same answer.

    Returns:
        The area under the ROC curve, or None if the labels hold one class only.

    Raises:
        ValueError: a score is not a number, or the lengths differ.
    """
    clicked, scores = np.asarray(labels).astype(bool), np.asarray(scores)
    if clicked.shape != scores.shape or clicked.ndim != 1:
        raise ValueError(f"labels {clicked.shape} and scores {scores.shape} must be two vectors of one length")
    if np.isnan(scores).any():
        raise ValueError("AUC is undefined: a score is not a number")
    positive, negative = np.sort(scores[clicked]), np.sort(scores[~clicked])
    if not len(positive) or not len(negative):
        return None
    # Twice the number of (click, non-click) pairs in the right order, as exact integers. Searching with sorted
    # keys walks through memory in order, which makes it about as cheap as the sort.
    below = np.searchsorted(negative, positive, "left").sum(dtype=np.int64)
    not_above = np.searchsorted(negative, positive, "right").sum(dtype=np.int64)
    return int(below + not_above) / (2 * len(positive) * len(negative))


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
    epsilon = np.finfo(np.float64).eps
    return float(-np.log(np.clip(np.where(clicked, p, 1 - p), epsilon, 1)).mean())


def auc_interval(
    labels: np.ndarray, scores: np.ndarray, *, draws: int = 200, seed: int = 0
) -> tuple[float, float] | None:
    """How far the AUC would stray on other rows of the same kind: the middle 95 % over bootstrap samples (Efron 1979).

    Args:
        labels: bool or 0/1 [rows].
        scores: real numbers [rows].
        draws: Samples of as many rows as there are, with replacement.
        seed: Of the samples.

    Returns:
        The 2.5th and the 97.5th percentile, or None if the labels hold one class only.
    """
    if auc(labels, scores) is None:
        return None
    rng = np.random.default_rng(seed)
    rows = (rng.integers(len(labels), size=len(labels)) for _ in range(draws))
    found = [value for sample in rows if (value := auc(labels[sample], scores[sample])) is not None]
    if not found:  # so few rows of one class that every sample missed them
        return None
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)
