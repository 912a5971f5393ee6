"""AUC: exact for scores that fit in memory, and with a known error for a stream of any length."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_ROWS = 1 << 16  # per block: what is computed on the way then stays in the processor's cache
_KEYS = 1 << 12


def auc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """The probability that a random click is scored above a random non-click, ties counted half: exact, no histogram.

    Logits as a model gives them, float32, are the fastest; besides its arguments it needs about one copy of the scores
    and a byte per row.

    Args:
        labels: bool or 0/1 [rows].
        scores: real numbers [rows], infinities allowed, compared as their dtype has them (0.0 and -0.0 are equal); any
            increasing function of them gives the same answer as long as it keeps different scores different.

    Returns:
        The area under the ROC curve, or None if the labels hold one class only.

    Raises:
        ValueError: a score is not a number, or the lengths differ.

    Example:
        >>> auc(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.35, 0.35]))
        0.875
    """
    clicked, scores = _checked(labels, scores)
    positive, negative = _select(scores, clicked), _select(scores, ~clicked)
    for of_class in (positive, negative):
        of_class.sort()
        if len(of_class) and np.isnan(of_class[-1]):  # they sort to the end
            raise ValueError("AUC is undefined: a score is not a number")
    if not len(positive) or not len(negative):
        return None
    # Twice the number of (click, non-click) pairs in the right order, as exact integers. Neighbouring clicks are looked
    # up together in the stretch of non-clicks between them, which is short enough for the cache.
    twice = 0
    for first in range(0, len(positive), _KEYS):
        keys = positive[first : first + _KEYS]
        low, high = int(negative.searchsorted(keys[0], "left")), int(negative.searchsorted(keys[-1], "right"))
        between = negative[low:high]
        for side in ("left", "right"):
            twice += low * len(keys) + int(between.searchsorted(keys, side).sum(dtype=np.int64))
    return twice / (2 * len(positive) * len(negative))


class StreamingAuc:
    """The AUC of any number of rows in 128 MiB, with a bound of its own error.

    Clicks and non-clicks are counted in 2**24 bins of the score. A pair from different bins is ranked exactly, one from
    the same bin counts half; so the value errs by at most half the share of such pairs. Bins are narrow where the
    logits of a click model lie: of ten million normally distributed logits with standard deviation 1.2 the error is at
    most 1e-7 at click rates of 3 % and 25 %, and in fact below 1e-9. Scores of few distinct values are ranked exactly
    if no two of them share a bin, but the bound cannot know that their pairs are ties.

    The counts are whole numbers: in what order and in what batches the rows come makes no difference.
    """

    BINS = 1 << 24
    # Bins of equal width in F(logit), a smooth step from 0 to 1 that is steepest at the centre and falls off slowly, so
    # that nothing lies outside. With these two constants normal logits of mean -4 to -1 and deviation 0.7 to 2, clicked
    # with the probability that they state, share bins at most five times as often as in the best bins possible.
    CENTRE, WIDTH = -2.5, 1.5

    def __init__(self) -> None:
        self.rows = 0
        self._counts = np.zeros(2 * self.BINS, np.uint32)  # non-clicks and clicks of bin 0, of bin 1, ...

    def update(self, labels: np.ndarray, logits: np.ndarray) -> None:
        """Counts rows.

        Args:
            labels: bool or 0/1 [rows].
            logits: real numbers [rows], infinities allowed.

        Raises:
            ValueError: a logit is not a number, the lengths differ, or the rows are more than 2**32 - 1 in all.
        """
        clicked, logits = _checked(labels, logits)
        if np.isnan(logits).any():
            raise ValueError("AUC is undefined: a score is not a number")
        if self.rows + len(logits) > np.iinfo(np.uint32).max:
            raise ValueError("more than 4,294,967,295 rows: a count might overflow")
        self.rows += len(logits)
        for first in range(0, len(logits), _ROWS):
            block = slice(first, first + _ROWS)
            np.add.at(self._counts, 2 * self._bins(logits[block]) + clicked[block], np.uint32(1))

    def _bins(self, logits: np.ndarray) -> np.ndarray:
        # Every operation is rounded correctly and thus never changes an order, which exp or tanh would not promise.
        t = (logits.astype(np.float64) - self.CENTRE) / self.WIDTH
        tail = 0.5 / (1 + np.abs(t))
        step = np.where(t < 0, tail, 1 - tail)
        return np.minimum((step * self.BINS).astype(np.int64), self.BINS - 1)

    def result(self) -> tuple[float, float] | tuple[None, None]:
        """The AUC so far, and by how much it may err; None and None if the labels hold one class only."""
        pairs_below = shared = positives = negatives = 0
        for first in range(0, len(self._counts), 2 * _ROWS):
            negative, positive = self._counts[first : first + 2 * _ROWS].astype(np.int64).reshape(-1, 2).T
            below = negatives + np.cumsum(negative) - negative
            pairs_below += int(positive @ below)
            shared += int(positive @ negative)
            positives, negatives = positives + int(positive.sum()), negatives + int(negative.sum())
        pairs = positives * negatives
        if not pairs:
            return None, None
        return (2 * pairs_below + shared) / (2 * pairs), shared / (2 * pairs)


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
    return _middle(lambda rows: auc(labels[rows], scores[rows]), len(labels), draws, seed)


def auc_difference(
    labels: np.ndarray, scores: np.ndarray, others: np.ndarray, *, draws: int = 200, seed: int = 0
) -> tuple[float, float] | None:
    """By how much the AUC of one score exceeds that of another: as ``auc_interval``, both on the same samples.

    What makes rows easy or hard for both then cancels out.

    Args:
        labels: bool or 0/1 [rows].
        scores: real numbers [rows].
        others: real numbers [rows].
        draws: Samples of as many rows as there are, with replacement.
        seed: Of the samples.

    Returns:
        The 2.5th and the 97.5th percentile, or None if the labels hold one class only.
    """

    def difference(rows: np.ndarray) -> float | None:
        one, two = auc(labels[rows], scores[rows]), auc(labels[rows], others[rows])
        return None if one is None or two is None else one - two

    return _middle(difference, len(labels), draws, seed)


def verdict(difference: tuple[float, float] | None) -> str:
    """What ``auc_difference`` says of the first score: it is "better", "worse", or "not told apart" from the other."""
    low, high = difference or (0.0, 0.0)
    return "better" if low > 0 else "worse" if high < 0 else "not told apart"


def _middle(
    statistic: Callable[[np.ndarray], float | None], rows: int, draws: int, seed: int
) -> tuple[float, float] | None:
    """The middle 95 % of a statistic over bootstrap samples of the row numbers; None where it is undefined."""
    if statistic(np.arange(rows)) is None:
        return None
    rng = np.random.default_rng(seed)
    samples = (rng.integers(rows, size=rows) for _ in range(draws))
    found = [value for sample in samples if (value := statistic(sample)) is not None]
    if not found:  # so few rows of one class that every sample missed them
        return None
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def _checked(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    clicked, scores = np.asarray(labels).astype(bool, copy=False), np.asarray(scores)
    if clicked.shape != scores.shape or clicked.ndim != 1:
        raise ValueError(f"labels {clicked.shape} and scores {scores.shape} must be two vectors of one length")
    return clicked, scores


def _select(scores: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """``scores[chosen]``, up to twice as fast: it looks for the chosen rows first, without a branch for each row."""
    selected, n = np.empty(np.count_nonzero(chosen), scores.dtype), 0
    for first in range(0, len(scores), _ROWS):
        part = scores[first : first + _ROWS].compress(chosen[first : first + _ROWS])
        selected[n : n + len(part)] = part
        n += len(part)
    return selected
